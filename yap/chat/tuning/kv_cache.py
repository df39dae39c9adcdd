"""In which format the KV cache is kept, and what reads it."""

from __future__ import annotations

from typing import Final

from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.hardware import Hardware
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError
from yap.settings import Settings

# vLLM takes any cache dtype on a CPU, and with all but these the text comes out wrong.
_CPU_DTYPES: Final = frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2"})
_FP8_CAPABILITY: Final = (8, 9)
# Where FlashAttention reads an FP8 cache (9), or vLLM takes FlashInfer in any case (10).
_NO_SUBSTITUTE: Final = frozenset({9, 10})


def kv_dtype(settings: Settings, hardware: Hardware, facts: ModelFacts) -> Decision:
    """vLLM's `kv_cache_dtype`.

    Raises:
        StartupError: KV_DTYPE gives wrong text on this hardware.
    """
    name, wanted = "kv_cache_dtype", settings.kv_dtype
    if hardware.cpu:
        dtype = "auto" if wanted == "model" else wanted
        if dtype not in _CPU_DTYPES:
            raise StartupError(
                f'KV_DTYPE="{wanted}" gives wrong text on a CPU: '
                f"use one of {', '.join(sorted(_CPU_DTYPES))}."
            )
        why = "A CPU computes in the model's own format." if dtype == "auto" else "Set by KV_DTYPE."
        return Decision(name, dtype, why)
    if wanted != "auto":
        return Decision(name, "auto" if wanted == "model" else wanted, "Set by KV_DTYPE.")
    reason = _reason_against_fp8(hardware, facts)
    if reason:
        return Decision(name, "auto", reason)
    return Decision(name, "fp8", "Holds twice the tokens, and the GPU computes in it.")


def _reason_against_fp8(hardware: Hardware, facts: ModelFacts) -> str:
    if facts.kv_format:
        return "The checkpoint says itself how its KV cache is kept."
    if hardware.capability is None or hardware.capability < _FP8_CAPABILITY:
        return "FP8 needs compute capability 8.9."
    if facts.key_bias:
        return "Keys have a bias, and can be larger than FP8 holds without calibrated scales."
    if not keeps_tokens(facts):
        return "The model keeps no tokens."
    return ""


def attention(hardware: Hardware, facts: ModelFacts, kv_dtype: str) -> list[Decision]:
    """The attention backend, where vLLM's own choice might not run."""
    capability = hardware.capability
    if capability is None or capability < _FP8_CAPABILITY or facts.kv.latent:
        return []
    flash_attention_can = capability[0] in _NO_SUBSTITUTE and kv_dtype != "fp8_e5m2"
    if not kv_dtype.startswith("fp8") or flash_attention_can:
        return []
    why = "FlashAttention reads no FP8 here, and FlashInfer's kernels need a CUDA toolkit."
    return [Decision("attention_backend", "TRITON_ATTN", why)]


def number_bytes(dtype: str, facts: ModelFacts) -> int:
    """Bytes of a number in a cache of vLLM's `dtype`; the model's own is one of 16 bits."""
    return 1 if dtype.startswith("fp8") or (dtype == "auto" and facts.kv_format) else 2


def keeps_tokens(facts: ModelFacts) -> bool:
    """Whether any layer keeps a cache of tokens, and not just a state."""
    return bool((facts.kv.full or facts.kv.windowed) and facts.kv.numbers)
