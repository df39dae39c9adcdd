"""From float weights to a quantized model that vLLM serves: what is there, and what to make of it.

    python -m quantization --help

Each package imports only from those that stand below it here, and all of them may import the
modules at the top (`errors`, `home`, `digests`, `writing`, `units`):

    commands      what is typed: inspect, plan, run, pack, push; options and reports
    publishing    an export to BentoML's model store or to the Hugging Face Hub
    running       a run: its key and steps, the quantizers' environments, processes watched over
    worker        what runs in a quantizer's environment: the job, its steps, the backends
    export        the finished folder: its files, metadata and card; is it what the recipe says?
    gauge         what was lost: perplexity, KL divergence, next-token agreement, speed
    calibration   from the name of a data set to sequences of token ids
    planning      what is made of a model, and why: methods, recipes, choices, estimates
    serving       whether vLLM serves it on some hardware, with which kernel and memory
    model         what a model is, by its files: checkpoint, layers, tensors, quantization

Nothing here imports torch, transformers or vLLM to answer a question about a model: its files say
enough, and importing takes ten times as long as reading them.
"""
