"""Loading a float model and its tokenizer in a quantizer's environment."""

from __future__ import annotations

from typing import Any

from quantization.worker.job import Job


def model(job: Job) -> Any:
    """The float model in its own dtype, in the machine's memory.

    A float32 checkpoint is loaded as bfloat16: it is served in 16 bits.
    """
    import torch
    import transformers

    dtype = _dtype(job)
    named = getattr(transformers, job.architecture, None)
    loader = named if named is not None and not job.own_code else transformers.AutoModelForCausalLM
    loaded = loader.from_pretrained(
        job.source, dtype=dtype, trust_remote_code=job.own_code, low_cpu_mem_usage=True
    )
    loaded.eval()
    loaded.requires_grad_(False)
    torch.manual_seed(0)
    return loaded


def tokenizer(job: Job) -> Any:
    """The model's own tokenizer, with its chat template."""
    import transformers

    return transformers.AutoTokenizer.from_pretrained(job.source, trust_remote_code=job.own_code)


def _dtype(job: Job) -> Any:
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(job.source, trust_remote_code=job.own_code)
    found = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    if isinstance(found, str):
        found = getattr(torch, found.removeprefix("torch."), None)
    return found if found in (torch.bfloat16, torch.float16) else torch.bfloat16
