"""From float weights to a quantized model that vLLM serves: what is there, and what to make of it.

    python -m quantization --help

Nothing here imports torch, transformers or vLLM to answer a question about a model: its files say
enough, and importing takes ten times as long as reading them.
"""
