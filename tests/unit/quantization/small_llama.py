"""A Llama of a few thousand parameters with random weights, the same each time."""

from __future__ import annotations

from typing import Any


def small_llama(vocabulary: int = 211, seed: int = 0) -> Any:
    """In 32 bits, on the CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        # Large enough for distributions with something to lose.
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def disturbed(model: Any, share: float) -> Any:
    """A copy with noise on every matrix, `share` as strong as its weights."""
    import copy

    import torch

    generator = torch.Generator().manual_seed(1)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for value in changed.parameters():
            if value.dim() == 2:
                noise = torch.randn(value.shape, generator=generator)
                value.add_(share * float(value.float().std()) * noise.to(value.dtype))
    return changed
