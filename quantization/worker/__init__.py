"""What runs in a quantizer's environment: `python -m quantization.worker JOB.json`.

That environment has the quantizer and its pins, and neither vLLM nor BentoML: nothing that is
imported here may import them, or the server.
"""
