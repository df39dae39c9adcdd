"""Whether vLLM serves a checkpoint on some hardware, and what memory that takes.

The arithmetic on memory is the service's own (`yap.chat.tuning`), fed with what the checkpoint's
files say, under the settings of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quantization.errors import ExitCode, QuantizationError
from quantization.model.architectures import vllm_knows
from quantization.model.checkpoint import Checkpoint
from quantization.model.layers import has_experts, quantized
from quantization.serving.formats import Verdict, verdict
from quantization.serving.target import Target
from yap.chat.tuning import memory, planning, weights
from yap.chat.tuning.hardware import GIB
from yap.chat.tuning.memory import Memory
from yap.chat.tuning.model_facts import ModelFacts
from yap.chat.tuning.model_shape import kv_shape, parameters
from yap.chat.tuning.weights import Weights
from yap.errors import StartupError
from yap.settings import Settings, SettingsError, load_settings

# The question is how this checkpoint would be served, not one that the environment names.
_NOT_ASKED: Final = ("CHAT_MODEL", "CHAT_QUANTIZATION", "QUANTIZATION")


@dataclass(frozen=True, slots=True)
class Serving:
    """How a checkpoint would be served.

    `serves` is None where nothing speaks against it and vLLM alone can tell. `memory` is None where
    it does not fit, or where its config does not say enough; `reasons` has a sentence for each
    finding. `context` is in tokens.
    """

    serves: bool | None
    kernel: str | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    memory: Memory | None
    context: int | None
    gpus: int
    weights: int | None
    kv_bytes_per_token: float | None


def settings_for(model: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """The service's settings, for this model.

    Raises:
        QuantizationError: the environment has a setting that cannot be.
    """
    kept = {name: value for name, value in environ.items() if name not in _NOT_ASKED}
    try:
        return load_settings({**kept, "CHAT_MODEL": model}, serving=False)
    except SettingsError as error:
        raise QuantizationError(" ".join(error.problems), ExitCode.USAGE) from error


def serving(
    checkpoint: Checkpoint, target: Target, settings: Settings, facts: ModelFacts | None = None
) -> Serving:
    """How vLLM would serve a checkpoint as it is.

    Args:
        facts: those of `model_facts`, where something about them is imagined.
    """
    found = checkpoint.quantization
    judged = verdict(
        found.format if found else "float",
        target,
        bits=found.bits if found else None,
        experts=found is not None and _experts_quantized(checkpoint),
    )
    return judge(checkpoint, target, settings, judged, facts or model_facts(checkpoint))


def judge(
    checkpoint: Checkpoint,
    target: Target,
    settings: Settings,
    format_: Verdict,
    facts: ModelFacts,
) -> Serving:
    """As `serving`, with the verdict on the format already there."""
    known = vllm_knows(checkpoint.architecture)
    serves: bool | None = format_.serves
    reasons = [format_.why, known.why]
    warnings = [format_.warning] if format_.warning else []
    if not checkpoint.chats:
        serves = False
        reasons.append(f"A {checkpoint.architecture} cannot chat.")
    elif known.known is False:
        serves = False
    elif known.known is None and serves:
        serves = None
    if checkpoint.weights in (None, "gguf"):
        serves = False
        reasons.append("There are no weights in a format that vLLM loads.")
    if checkpoint.quantization and not checkpoint.quantization.tells_vllm:
        warnings.append(
            f"vLLM does not look into {checkpoint.quantization.place}; Yap reads it, and plain "
            "vLLM has to be told the method."
        )
    room = _room(target, settings, facts)
    if room.why:
        reasons.append(room.why)
    if room.fits is False:
        serves = False
    return Serving(
        serves=serves,
        kernel=format_.kernel,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
        memory=room.memory,
        context=room.context,
        gpus=room.gpus,
        weights=memory.weight_bytes(facts, settings),
        kv_bytes_per_token=room.memory.token if room.memory else None,
    )


def model_facts(checkpoint: Checkpoint, measured: Weights | None = None) -> ModelFacts:
    """The facts that the service's plan is made from.

    Args:
        measured: the weights, where others than the checkpoint's are meant.
    """
    text = checkpoint.text
    every, active = parameters(text)
    found = checkpoint.quantization
    measured = measured or _weights(checkpoint)
    return ModelFacts(
        model=checkpoint.model,
        architecture=checkpoint.architecture,
        dtype=checkpoint.dtype,
        longest=checkpoint.longest,
        vocabulary=_number(text.__dict__.get("vocab_size")),
        hidden=_number(text.__dict__.get("hidden_size")),
        intermediate=_number(text.__dict__.get("intermediate_size"))
        or 4 * _number(text.__dict__.get("hidden_size")),
        heads=_number(text.__dict__.get("num_attention_heads")),
        kv=kv_shape(text, checkpoint.config),
        parameters=every,
        active=active,
        weights=measured,
        quantization=found.method if found else None,
        quantization_in_config=found is not None and found.place.startswith("config.json"),
        kv_format=found is not None and found.kv_cache is not None,
        key_bias=measured.key_bias if measured else False,
        towers=checkpoint.has_towers,
        mistral_files="params.json" in checkpoint.files,
        chat_template=checkpoint.chat_template,
        wrong_split=False,
    )


def _weights(checkpoint: Checkpoint) -> Weights | None:
    if checkpoint.tensors:
        return weights.add_up(
            (tensor.name, tensor.dtype, len(tensor.shape), tensor.size)
            for tensor in checkpoint.tensors
        )
    return Weights(checkpoint.weight_bytes) if checkpoint.weight_bytes else None


@dataclass(frozen=True, slots=True)
class _Room:
    """The service's plan for memory; `why` says what keeps it from fitting, or from being told."""

    memory: Memory | None = None
    context: int | None = None
    gpus: int = 0
    fits: bool | None = None
    why: str = ""


def _room(target: Target, settings: Settings, facts: ModelFacts) -> _Room:
    if not (facts.heads and facts.kv.numbers and (facts.kv.full or facts.kv.windowed)):
        return _Room(why=_no_shape(facts))
    try:
        plan = planning.decide(settings, target.hardware, facts)
    except StartupError as error:
        return _Room(fits=False, why=str(error))
    context, gpus = plan.engine_args["max_model_len"], plan.layout.gpus
    if target.hardware.gpus and plan.memory.sessions < 1:
        left = plan.memory.kv_cache / GIB
        why = f"By estimate {left:.1f} GiB are left for the KV cache, less than one session needs."
        return _Room(plan.memory, context, gpus, False, why)
    return _Room(plan.memory, context, gpus, True)


def _no_shape(facts: ModelFacts) -> str:
    if facts.kv.recurrent:
        return "The model keeps a state in place of a KV cache; what it takes is not estimated."
    return "Its config.json does not say enough to tell what its KV cache takes."


def _experts_quantized(checkpoint: Checkpoint) -> bool:
    """Whether the experts themselves are quantized: none of them is a plain matrix."""
    return checkpoint.experts > 0 and not has_experts(quantized(checkpoint, ()))


def _number(value: object) -> int:
    if isinstance(value, list | tuple):
        return max((one for one in value if isinstance(one, int)), default=0)
    return value if isinstance(value, int) else 0
