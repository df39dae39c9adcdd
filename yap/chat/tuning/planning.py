"""What the engine is told at start, and why: decided from the model, the hardware, the settings.

    python -m yap.chat.tuning MODEL [--json] [--memory-gib N --capability 9.0 --gpus N | --cpu]

prints it without loading the model, also for hardware that is not there. docs/tuning.md tells how
each decision is made.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Final

from yap.chat.tuning import batching, kv_cache, layout, memory, model_facts, speculation, weights
from yap.chat.tuning.context import context_length
from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.environment import environment
from yap.chat.tuning.hardware import Hardware
from yap.chat.tuning.hardware import read as read_hardware
from yap.chat.tuning.layout import Layout
from yap.chat.tuning.memory import Memory, MemoryHeld
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError
from yap.settings import Settings

# A small block wastes little of a short prompt's prefix; CPUs want a multiple of 32.
_CPU_BLOCK_SIZE: Final = 32
_MEMORY_COMES_FREE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How the engine is going to be run.

    `decisions` are arguments of vLLM, `environment` variables, `notes` what else was found.
    """

    facts: ModelFacts
    hardware: Hardware
    layout: Layout
    memory: Memory
    decisions: tuple[Decision, ...]
    environment: tuple[Decision, ...]
    notes: tuple[Decision, ...]

    @property
    def engine_args(self) -> dict[str, Any]:
        """Keyword arguments for vLLM's `AsyncEngineArgs`."""
        return {decision.name: decision.value for decision in self.decisions}


def decide(settings: Settings, hardware: Hardware, facts: ModelFacts) -> Plan:
    """The plan for a model on some hardware.

    Raises:
        StartupError: it cannot be served so; the message says what to change.
    """
    enough = max(1.0, settings.max_concurrent_connections / 2)
    tried: list[Plan] = []
    for candidate in layout.layouts(settings, hardware, facts):
        tried.append(_plan(settings, hardware, facts, candidate))
        if tried[-1].memory.sessions >= enough:
            break
    best = max(tried, key=_roominess)
    memory.check(best.memory, settings, hardware, facts, best.layout)
    return best


def decide_here(settings: Settings) -> Plan:
    """The plan for CHAT_MODEL on this machine. Blocks; waits a little for memory that a process
    which has just ended still holds.

    Raises:
        StartupError: as `decide`, or the model cannot be read.
    """
    facts = model_facts.read_for(settings)
    until = time.monotonic() + _MEMORY_COMES_FREE_S
    while True:
        try:
            return decide(settings, read_hardware(), facts)
        except MemoryHeld:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _roominess(plan: Plan) -> tuple[float, int]:
    return plan.memory.sessions, plan.memory.spare


def _plan(settings: Settings, hardware: Hardware, facts: ModelFacts, spread: Layout) -> Plan:
    guessing = speculation.speculation(settings, hardware)
    context = context_length(settings, facts)
    dtype = kv_cache.kv_dtype(settings, hardware, facts)
    replies = batching.sequences(settings, spread)
    tokens = batching.batched_tokens(
        settings,
        hardware,
        facts,
        spread,
        sequences=replies.value,
        guesses=speculation.guesses(settings, guessing),
    )
    decided = [
        Decision("model", facts.model, "Set by CHAT_MODEL."),
        context,
        *layout.decisions(settings, hardware, spread),
        replies,
        tokens,
        dtype,
        *_always(settings, facts),
        *_for_model(settings, facts),
        *((guessing,) if guessing else ()),
        *(_on_cpu(settings, spread) if hardware.cpu else _on_gpu(settings)),
    ]
    if "attention_config" not in settings.chat_engine_args:
        decided += kv_cache.attention(hardware, facts, dtype.value)
    divided = memory.divide(
        settings,
        hardware,
        facts,
        spread,
        context=context.value,
        kv_bytes=kv_cache.number_bytes(dtype.value, facts),
        sequences=replies.value,
        batched_tokens=tokens.value,
        extra_weights=_draft_weights(settings),
    )
    return Plan(
        facts=facts,
        hardware=hardware,
        layout=spread,
        memory=divided,
        decisions=_overruled(decided, settings),
        environment=environment(settings, hardware, facts.parameters),
        notes=_notes(facts, divided),
    )


def _always(settings: Settings, facts: ModelFacts) -> list[Decision]:
    trusted = settings.trusts_remote_code(facts.model)
    return [
        Decision(
            "enable_prefix_caching",
            kv_cache.keeps_tokens(facts),
            "A persona and what was said before are read once."
            if kv_cache.keeps_tokens(facts)
            else "The model keeps a state and no tokens; there is nothing to share.",
        ),
        Decision("scheduling_policy", "priority", "Turns go before warm-ups."),
        Decision(
            "trust_remote_code",
            trusted,
            f"{facts.model} is {'' if trusted else 'not '}in TRUST_REMOTE_CODE_MODELS.",
        ),
        Decision(
            "tokenizer_mode",
            "hf",
            "Prompts are built with the chat template and the token table of a Hugging Face "
            "tokenizer.",
        ),
        Decision("config_format", "hf", "These decisions were made from config.json."),
        Decision(
            "shutdown_timeout",
            int(settings.drain_timeout_s),
            "DRAIN_TIMEOUT_S: running replies may end when the core is told to stop with us.",
        ),
    ]


def _for_model(settings: Settings, facts: ModelFacts) -> list[Decision]:
    """What this model needs, by its own files."""
    needs = []
    quantization = _quantization(settings, facts)
    if quantization is not None:
        needs.append(quantization)
    if facts.towers:
        why = "Only text is served, so that no encoder of images or sound takes memory."
        needs.append(Decision("language_model_only", True, why))
    if facts.mistral_files:
        why = "The repository holds the weights twice; those that belong to config.json are taken."
        needs.append(Decision("load_format", "hf", why))
    return needs


def _quantization(settings: Settings, facts: ModelFacts) -> Decision | None:
    chosen, found = settings.chat_quantization, facts.quantization
    if chosen not in ("auto", "none"):
        if chosen == "fp8" and found is not None and "fp8" not in found:
            raise StartupError(
                f'CHAT_QUANTIZATION=fp8, and CHAT_MODEL="{facts.model}" is quantized already '
                f"({found}): unset CHAT_QUANTIZATION."
            )
        return Decision("quantization", chosen, "Set by CHAT_QUANTIZATION.")
    if found is not None and not facts.quantization_in_config and chosen == "auto":
        why = "A file beside config.json says so, where vLLM does not look by itself."
        return Decision("quantization", found, why)
    return None


def _on_gpu(settings: Settings) -> list[Decision]:
    return [
        Decision(
            "gpu_memory_utilization",
            settings.chat_gpu_share,
            "Set by CHAT_GPU_FRAC."
            if settings.chat_gpu_frac is not None
            else f"The share where DEPLOY_MODELS is {settings.deploy_models}.",
        ),
        Decision(
            "enforce_eager", False, "CUDA graphs spare every step the launching of its kernels."
        ),
    ]


def _on_cpu(settings: Settings, spread: Layout) -> list[Decision]:
    decisions = [
        Decision("enforce_eager", True, "Compiling costs the start more than it gains on a CPU."),
        Decision("block_size", _CPU_BLOCK_SIZE, "Short prefixes are shared too."),
        Decision(
            "kv_cache_memory_bytes",
            settings.chat_cpu_kv_cache_mib << 20,
            "Set by CHAT_CPU_KV_CACHE_MIB.",
        ),
    ]
    if spread.gpus == 1:
        why = "The model runs inside the engine core: one process less, and none that spins."
        decisions.append(Decision("distributed_executor_backend", "uni", why))
    return decisions


def _draft_weights(settings: Settings) -> int:
    """Bytes of the model that guesses, where that can be told."""
    if settings.chat_speculation_model is None:
        return 0
    try:
        found = weights.read(settings.chat_speculation_model)
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return found.total if found else 0


def _overruled(decided: list[Decision], settings: Settings) -> tuple[Decision, ...]:
    """The operator has the last word: CHAT_ENGINE_ARGS."""
    own = settings.chat_engine_args
    kept = [
        dataclasses.replace(one, value=own[one.name], why="Set in CHAT_ENGINE_ARGS.")
        if one.name in own
        else one
        for one in decided
    ]
    known = {one.name for one in decided}
    added = [
        Decision(name, value, "Set in CHAT_ENGINE_ARGS.")
        for name, value in own.items()
        if name not in known
    ]
    return (*kept, *added)


def _notes(facts: ModelFacts, divided: Memory) -> tuple[Decision, ...]:
    notes = []
    if not facts.chat_template:
        why = "The model brings no chat template; most fine-tunes understand this one."
        notes.append(Decision("chat template", "ChatML", why))
    if facts.wrong_split:
        why = "The tokenizer cuts text by another family's rule than the model was trained on."
        notes.append(Decision("tokenizer", "mended", why))
    if divided.sessions < 1:
        why = (
            "By estimate not one session of a full context fits, so that vLLM may refuse to start."
        )
        notes.append(Decision("memory", "tight", why))
    return tuple(notes)
