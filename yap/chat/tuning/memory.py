"""Where the memory of each GPU goes: weights, working memory, KV cache. In bytes.

Weights and the KV cache of one session are counted; working memory is an estimate. vLLM measures
all of it when it has loaded the model, and then decides by what it measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from yap.chat.tuning.hardware import GIB, Hardware
from yap.chat.tuning.layout import Layout
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError
from yap.settings import Settings

# CUDA's context and graphs, attention's workspaces; and what NCCL takes with more than one GPU.
_FIXED: Final = int(1.5 * GIB)
_NCCL: Final = GIB // 2
# Logits in 16 bits, in 32, and once more while top-k and top-p are found.
_BYTES_A_LOGIT: Final = 10
# 16-bit copies of a token's hidden state, and of its feed-forward layer, that live at once.
_HIDDEN_COPIES: Final = 4
_FEED_FORWARD_COPIES: Final = 3


class MemoryHeld(StartupError):
    """Another process has the memory that is asked for; it may be about to end."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one GPU, or of the machine on a CPU.

    `token` and `session` are what the KV cache takes for one token and for one full context;
    `tokens` and `sessions` how many of them fit, over all copies of the model.
    """

    total: int
    budget: int
    weights: int | None
    working: int
    kv_cache: int
    token: float
    session: int
    tokens: int
    sessions: float

    @property
    def spare(self) -> int:
        """What is left beside weights and working memory; less than nothing where it is short."""
        return self.budget - (self.weights or 0) - self.working

    def __str__(self) -> str:
        weights = "unknown" if self.weights is None else _gib(self.weights)
        working = f", working memory about {_gib(self.working)}" if self.working else ""
        return (
            f"{_gib(self.budget)} of {_gib(self.total)}: weights {weights}{working}, KV cache "
            f"{_gib(self.kv_cache)} for {self.tokens:,} tokens ({self.token / 1024:.1f} KiB each) "
            f"or {self.sessions:.1f} sessions of a full context"
        )


def weight_bytes(facts: ModelFacts, settings: Settings) -> int | None:
    """Bytes of all weights as they are served; None where nothing tells their size."""
    found = facts.weights
    if found is None:
        if facts.parameters is None:
            return None
        bits = 8 if settings.chat_quantization == "fp8" else _bits(facts)
        return facts.parameters * bits // 8
    served = found.total - found.towers
    if settings.chat_quantization == "fp8" and facts.quantization is None:
        served -= found.linear // 2
    return served


def divide(
    settings: Settings,
    hardware: Hardware,
    facts: ModelFacts,
    layout: Layout,
    *,
    context: int,
    kv_bytes: int,
    sequences: int,
    batched_tokens: int,
    extra_weights: int = 0,
) -> Memory:
    """How memory is divided.

    Args:
        context: tokens of the longest session.
        kv_bytes: bytes of a number in the KV cache.
        sequences, batched_tokens: of one engine step.
        extra_weights: bytes of a second model, for speculation.
    """
    split = layout.tensor * layout.pipeline
    weights = weight_bytes(facts, settings)
    if weights is not None:
        offloaded = settings.chat_engine_args.get("cpu_offload_gb")
        held_elsewhere = int(offloaded * GIB) if isinstance(offloaded, (int, float)) else 0
        weights = max(0, weights - held_elsewhere * split + extra_weights) // split
    shared_heads = min(layout.tensor, facts.kv.heads) or 1
    session = facts.kv.bytes(context, kv_bytes) // shared_heads // layout.pipeline
    if hardware.cpu:
        total, working = hardware.memory, 0
        kv_cache = settings.chat_cpu_kv_cache_mib << 20
        budget = total
    else:
        total = min(gpu.memory for gpu in hardware.gpus[: layout.gpus] or hardware.gpus)
        budget = int(total * settings.chat_gpu_share)
        working = _working(facts, layout, sequences, batched_tokens)
        kv_cache = max(0, budget - (weights or 0) - working)
    sessions = kv_cache / session if session else float(sequences)
    return Memory(
        total=total,
        budget=budget,
        weights=weights,
        working=working,
        kv_cache=kv_cache,
        token=session / context,
        session=session,
        tokens=int(sessions * context) * layout.data,
        sessions=sessions * layout.data,
    )


def check(
    memory: Memory, settings: Settings, hardware: Hardware, facts: ModelFacts, layout: Layout
) -> None:
    """Refuse what cannot work, whatever the estimate of working memory is worth.

    Raises:
        StartupError: weights, or one session, do not fit; or the memory is not free.
    """
    weights = memory.weights or 0
    if hardware.cpu:
        if weights + memory.kv_cache > memory.total:
            raise StartupError(
                f'The weights of CHAT_MODEL="{facts.model}" ({_gib(weights)}) and the KV cache '
                f"({_gib(memory.kv_cache)}) do not fit the memory of {_gib(memory.total)}: choose "
                "a smaller model, or lower CHAT_CPU_KV_CACHE_MIB."
            )
    elif weights > memory.budget:
        each = " of each GPU" if layout.gpus > 1 else ""
        raise StartupError(
            f'The weights of CHAT_MODEL="{facts.model}" take {_gib(weights)}{each}, and '
            f"CHAT_GPU_FRAC={settings.chat_gpu_share:g} of {_gib(memory.total)} is "
            f"{_gib(memory.budget)}: {_advice(settings, hardware, facts, layout)}."
        )
    if weights + memory.session > (memory.total if hardware.cpu else memory.budget) or (
        hardware.cpu and memory.session > memory.kv_cache
    ):
        room = memory.kv_cache if hardware.cpu else memory.budget - weights
        more = (
            "raise CHAT_CPU_KV_CACHE_MIB"
            if hardware.cpu
            else _advice(settings, hardware, facts, layout)
        )
        raise StartupError(
            f"One session of a full context takes {_gib(memory.session)} of KV cache, and "
            f"{_gib(room)} are left for it: lower CHAT_MAX_LEN and HISTORY_MAX_TOKENS, or {more}."
        )
    _check_free(settings, hardware, layout)


def _check_free(settings: Settings, hardware: Hardware, layout: Layout) -> None:
    for index, gpu in enumerate(hardware.gpus[: layout.gpus]):
        budget = int(gpu.memory * settings.chat_gpu_share)
        if gpu.free is not None and gpu.free < budget:
            raise MemoryHeld(
                f"CHAT_GPU_FRAC={settings.chat_gpu_share:g} asks for {_gib(budget)} of GPU "
                f"{index}, where {_gib(gpu.free)} of {_gib(gpu.memory)} are free: end what else "
                "uses it (nvidia-smi lists it), or lower CHAT_GPU_FRAC."
            )


def _advice(settings: Settings, hardware: Hardware, facts: ModelFacts, layout: Layout) -> str:
    ways = []
    if settings.chat_gpu_share < 0.9:
        ways.append("raise CHAT_GPU_FRAC")
    if settings.deploy_models == "both":
        ways.append("serve the classifier elsewhere (DEPLOY_MODELS=chat)")
    if facts.quantization is None and settings.chat_quantization != "fp8":
        ways.append("set CHAT_QUANTIZATION=fp8")
    if len(hardware.gpus) > layout.gpus:
        ways.append("raise CHAT_TENSOR_PARALLEL")
    ways.append("choose a smaller model, or more GPUs")
    return ", ".join(ways[:-1]) + (" or " if ways[:-1] else "") + ways[-1]


def _working(facts: ModelFacts, layout: Layout, sequences: int, batched_tokens: int) -> int:
    """Bytes that a full step takes beside weights and KV cache."""
    width = _HIDDEN_COPIES * facts.hidden
    width += _FEED_FORWARD_COPIES * facts.intermediate // layout.tensor
    logits = sequences * facts.vocabulary * _BYTES_A_LOGIT
    return _FIXED + (_NCCL if layout.tensor > 1 else 0) + batched_tokens * width * 2 + logits


def _bits(facts: ModelFacts) -> int:
    """Bits of a parameter, where only the config can tell."""
    if facts.quantization is None:
        return 16
    return 8 if "fp8" in facts.quantization or "int8" in facts.quantization else 5


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.1f} MiB"
