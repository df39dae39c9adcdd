"""The recipe, part by part: what was asked for, and else what suits the model and the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError, refusal
from quantization.model import layers
from quantization.model.architectures import autoawq, llmcompressor_awq
from quantization.model.checkpoint import Checkpoint
from quantization.planning.methods import METHODS, Method, Width
from quantization.planning.recipes import Choices, Recipe, build, choices
from quantization.serving.target import Target
from yap.chat.tuning.decisions import Decision
from yap.settings import Settings

_FP8: Final = (8, 9)
_DATASET: Final = "open_platypus"
_SAMPLES: Final = 256
_SEQUENCE: Final = 512  # tokens
# The older variables, and what they set.
VARIABLES: Final = {
    "dataset": "AWQ_CALIB_DATASET",
    "samples": "AWQ_NSAMPLES",
    "sequence_length": "AWQ_SEQLEN",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be quantized for what, and what was asked for.

    `width` is None where the method says it; `origin` tells for each field of `choices` that is
    set where that was said.
    """

    checkpoint: Checkpoint
    target: Target
    settings: Settings
    width: Width | None
    choices: Choices
    origin: Mapping[str, str]


def with_environment(
    wanted: Choices, origin: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[Choices, Mapping[str, str]]:
    """What was asked for, with the older variables where nothing else was said.

    Raises:
        QuantizationError: a variable cannot be.
    """
    values: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        said = environ.get(variable, "").strip()
        if said and getattr(wanted, name) is None:
            values[name] = int(said) if name != "dataset" and said.isdigit() else said
    if not values:
        return wanted, origin
    found = choices(values, "What " + ", ".join(VARIABLES[name] for name in values) + " say")
    merged = wanted.model_copy(update=found.model_dump(exclude_none=True))
    return merged, {**origin, **{name: VARIABLES[name] for name in values}}


def choose_method(request: Request) -> Decision:
    """The method as a decision; its value is a key of METHODS.

    Raises:
        QuantizationError: what was asked for cannot be had.
    """
    asked, target = request.choices.method, request.target
    if asked is not None:
        found = METHODS[asked]
        if request.width is not None and found.width != request.width:
            fitting = ", ".join(m.name for m in METHODS.values() if m.width == request.width)
            raise QuantizationError(
                f"{asked} makes {found.width}, and --to says {request.width}: take {fitting}, or "
                f"--to {found.width}.",
                ExitCode.USAGE,
            )
        return Decision("method", asked, f"Set by {request.origin['method']}.")
    if request.width is None:
        raise QuantizationError("Say --to 4bit, --to 8bit, or a --method.", ExitCode.USAGE)
    if request.width == "4bit":
        return _method_of_4_bits(request)
    capability = target.hardware.capability
    if target.hardware.cpu:
        why = "A CPU computes INT8 faster than BF16, and FP8 about fifty times as slowly."
        return Decision("method", "int8", why)
    if capability is not None and capability < _FP8:
        why = "INT8 is computed as such here; FP8 is from compute capability 8.9 on."
        return Decision("method", "int8", why)
    return Decision("method", "fp8", "The GPU computes in FP8, and that needs no calibration.")


def _method_of_4_bits(request: Request) -> Decision:
    traced, listed = llmcompressor_awq(request.checkpoint), autoawq(request.checkpoint)
    backend = request.choices.backend
    if (traced.known and backend != "autoawq") or (listed.known and backend != "llmcompressor"):
        why = "AWQ keeps the weights precise that large activations meet; it is the usual 4-bit."
        return Decision("method", "awq", why)
    if backend == "autoawq":
        raise refusal(f"{listed.why} Leave the backend out.")
    if request.checkpoint.own_code:
        why = f"AWQ does not go: {traced.why} Rounding runs none of it."
        return Decision("method", "rtn", why)
    why = f"AWQ does not go: {traced.why} GPTQ takes every linear layer by itself."
    return Decision("method", "gptq", why)


def _backend(request: Request, method: Method) -> Decision:
    asked = request.choices.backend
    if method.name != "awq":
        if asked is not None:
            return Decision("backend", asked, f"Set by {request.origin['backend']}.")
        if method.data_free:
            why = "It works file by file, without the model in memory."
        else:
            why = "It makes every format that is asked for here."
        return Decision("backend", "llmcompressor", why)
    traced, listed = llmcompressor_awq(request.checkpoint), autoawq(request.checkpoint)
    if asked is not None:
        known = traced if asked == "llmcompressor" else listed
        if not known.known:
            raise refusal(f"{known.why} Leave the backend out, or take --method gptq.")
        return Decision("backend", asked, f"Set by {request.origin['backend']}.")
    if traced.known:
        return Decision("backend", "llmcompressor", traced.why)
    if listed.known:
        return Decision("backend", "autoawq", f"{traced.why} {listed.why}")
    raise refusal(f"AWQ does not go: {traced.why} {listed.why} Take --method gptq.")


def make_recipe(request: Request, chosen: Decision) -> tuple[Recipe, list[Decision]]:
    """The recipe by a method, and each of its parts as a decision.

    Raises:
        QuantizationError: what was asked for does not go together, or with this model.
    """
    method = METHODS[chosen.value]
    backend = _backend(request, method)
    _check_loads(request, method)
    decisions = [chosen, backend]
    symmetric = _or_else(
        request,
        "symmetric",
        method.symmetric,
        "Values are spread around zero."
        if method.symmetric
        else "A zero point for each group costs four bits and keeps skewed weights.",
    )
    ignore = _ignore(request)
    group = _group(request, method, ignore)
    if group.value is not None and method.groups and request.choices.ignore is None:
        ignore = _and_what_no_group_divides(request, ignore, group.value)
    decisions += [Decision("bits", method.bits, f"{method.title}.")]
    decisions += [group, symmetric, ignore]
    if not method.data_free:
        decisions += _calibration(request)
    unfit = {"bits": request.choices.bits} if request.choices.bits is not None else {}
    if method.data_free:  # said for another method: the recipe refuses it
        unfit.update(
            {
                name: getattr(request.choices, name)
                for name in VARIABLES
                if getattr(request.choices, name) is not None
                and request.origin.get(name) != VARIABLES[name]
            }
        )
    values = {decision.name: decision.value for decision in decisions}
    return build({**values, **unfit}, "This recipe"), decisions


def _or_else(request: Request, name: str, usual: Any, why: str) -> Decision:
    asked = getattr(request.choices, name)
    if asked is None:
        return Decision(name, usual, why)
    return Decision(name, asked, f"Set by {request.origin[name]}.")


def _check_loads(request: Request, method: Method) -> None:
    checkpoint = request.checkpoint
    if method.data_free and checkpoint.weights != "safetensors":
        raise refusal(
            f'{method.title} is made file by file from safetensors, and "{checkpoint.model}" has '
            "pickled weights: take a version in safetensors."
        )
    trusted = request.settings.trusts_remote_code(checkpoint.model)
    if checkpoint.own_code and not trusted and not method.data_free:
        raise refusal(
            f'Calibrating "{checkpoint.model}" runs Python code of its own: if you trust it, name '
            "it in TRUST_REMOTE_CODE_MODELS."
        )


def _ignore(request: Request) -> Decision:
    if request.choices.ignore is not None:
        why = f"Set by {request.origin['ignore']}."
        return Decision("ignore", request.choices.ignore, why)
    found = layers.ignored(request.checkpoint)
    patterns = tuple(sorted(pattern for one in found for pattern in one.patterns))
    return Decision("ignore", patterns, " ".join(one.why for one in found))


def _group(request: Request, method: Method, ignore: Decision) -> Decision:
    name = "group_size"
    chosen = layers.quantized(request.checkpoint, ignore.value)
    asked = request.choices.group_size
    if not method.groups:
        usual = method.group_size
        why = f"The format has groups of {usual}." if usual else "One scale for each channel."
        return _or_else(request, name, usual, why)
    if asked is not None:
        wrong = layers.not_dividing(chosen, asked)
        if wrong:
            raise refusal(
                f"Groups of {asked} do not divide the {wrong[0].inputs} inputs of {wrong[0].name} "
                f"({len(wrong)} such layers): leave group_size out, or ignore those layers."
            )
        return Decision(name, asked, f"Set by {request.origin[name]}.")
    found = layers.group_size(chosen)
    if found == layers.GROUP_SIZES[0] or not chosen:
        return Decision(name, layers.GROUP_SIZES[0], "The usual size, which every kernel takes.")
    if found is not None:
        why = "The largest usual size that divides the inputs of every layer."
        return Decision(name, found, why)
    return Decision(name, layers.GROUP_SIZES[-1], "The smallest usual size fits most layers.")


def _and_what_no_group_divides(request: Request, ignore: Decision, group: int) -> Decision:
    wrong = layers.not_dividing(layers.quantized(request.checkpoint, ignore.value), group)
    if not wrong:
        return ignore
    ends = sorted({layer.name.rpartition(".")[2] for layer in wrong})
    more = tuple(rf"re:.*\.{end}$" for end in ends)
    why = f"{ignore.why} Groups of {group} do not divide the inputs of {', '.join(ends)}."
    return Decision("ignore", tuple(sorted({*ignore.value, *more})), why)


def _calibration(request: Request) -> list[Decision]:
    longest = request.checkpoint.longest or _SEQUENCE
    sequence = _or_else(
        request,
        "sequence_length",
        min(_SEQUENCE, longest),
        "Longer texts cost memory and time, and change the scales little.",
    )
    if sequence.value > longest:
        raise refusal(
            f"sequence_length={sequence.value} is more than the {longest} tokens that the model "
            "was made for: lower it."
        )
    return [
        _or_else(request, "dataset", _DATASET, "Instructions of many kinds, the usual set."),
        _or_else(request, "samples", _SAMPLES, "Enough for stable scales; more takes longer."),
        sequence,
    ]
