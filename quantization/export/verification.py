"""Whether what was written is what the recipe says: read from the files, not from the quantizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError
from quantization.model import checkpoint as checkpoints
from quantization.model.checkpoint import Checkpoint
from quantization.model.layers import Layer
from quantization.model.tensors import Tensor, corrupt
from quantization.planning.methods import METHODS
from quantization.planning.recipes import Recipe

# Tensors that mark a quantized layer, and dtypes that mark a weight as quantized by itself.
_PACKED: Final = frozenset({"weight_packed", "qweight"})
_DTYPES: Final = frozenset({"I8", "F8_E4M3", "F8_E4M3FN"})
_SCALES: Final = frozenset({"weight_scale", "scales"})
_ZEROS: Final = frozenset({"weight_zero_point", "qzeros"})
_LAYER: Final = re.compile(r"(^|\.)(layers\.\d+\..*)$")
# The bits of the exponent: all set where a number is infinite or none.
_EXPONENTS: Final = {"BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00), "F32": ("<u4", 0x7F800000)}
_AT_ONCE: Final = 1 << 24  # numbers


def check(export: Path, recipe: Recipe, expected: tuple[Layer, ...]) -> Checkpoint:
    """The checkpoint of an export that is as its recipe says.

    Args:
        expected: the layers of the source that are to be quantized; none where no header told.

    Raises:
        QuantizationError: it is not, and must not be used.
    """
    found = checkpoints.read(str(export))
    wrong = [*_config(found, recipe), *_layers(found, recipe, expected)]
    if wrong:
        raise QuantizationError(
            f"What the quantizer wrote is not what the recipe says: {'; '.join(wrong[:3])}. The "
            "export was thrown away.",
            ExitCode.FAILED,
        )
    check_numbers(export, "the export")
    return found


def check_numbers(folder: Path, name: str) -> None:
    """Refuse weights that hold infinities or what is no number: no model has them.

    Raises:
        QuantizationError: a file does.
    """
    for path in sorted(folder.glob("*.safetensors")):
        for tensor, bad in _bad_tensors(path):
            raise corrupt(path.name, name, f"{tensor} holds {bad:,} numbers that are not finite")


def _config(found: Checkpoint, recipe: Recipe) -> Iterator[str]:
    said = found.quantization
    if said is None:
        yield "config.json names no quantization"
        return
    if said.format != recipe.format:
        yield f"the format is {said.format}, not {recipe.format}"
    if said.bits != recipe.bits:
        yield f"weights have {said.bits} bits, not {recipe.bits}"
    if said.group_size != recipe.group_size:
        yield f"groups are of {said.group_size}, not {recipe.group_size}"
    if said.symmetric is not None and said.symmetric != recipe.symmetric:
        yield f"it is {'symmetric' if said.symmetric else 'asymmetric'}"


def _layers(found: Checkpoint, recipe: Recipe, expected: tuple[Layer, ...]) -> Iterator[str]:
    parts: dict[str, dict[str, Tensor]] = {}
    for tensor in found.tensors:
        name, _, part = tensor.name.rpartition(".")
        parts.setdefault(_short(name), {})[part] = tensor
    quantized = {name for name, own in parts.items() if _is_quantized(own)}
    if not quantized:
        yield "no layer is quantized"
        return
    yield from _same(quantized, expected)
    inputs = {_short(layer.name): layer.inputs for layer in expected if layer.count == 1}
    for name in sorted(quantized):
        own = parts[name]
        if not own.keys() & _SCALES:
            yield f"{name} has no scales"
        if recipe.format in ("w4a16", "awq") and bool(own.keys() & _ZEROS) == recipe.symmetric:
            yield f"{name} has {'' if recipe.symmetric else 'no '}zero points"
        if METHODS[recipe.method].groups and recipe.group_size and name in inputs:
            groups = _groups(own)
            if groups is not None and groups * recipe.group_size != inputs[name]:
                yield f"{name} has {groups} groups of its {inputs[name]} inputs"


def _same(quantized: set[str], expected: tuple[Layer, ...]) -> Iterator[str]:
    """Whether the layers are those that were meant. Experts in one tensor come out one by one."""
    if not expected:
        return
    single = {_short(layer.name) for layer in expected if layer.count == 1}
    stacked = sum(layer.count for layer in expected if layer.count > 1)
    missing, more = sorted(single - quantized), sorted(quantized - single)
    if missing:
        yield f"{missing[0]} is not quantized ({len(missing)} such layers)"
    if more and not stacked:
        yield f"{more[0]} is quantized, and was to be left ({len(more)} such layers)"
    if stacked and len(more) < stacked:
        yield f"{len(more)} experts' layers are quantized, of {stacked} at least"


def _is_quantized(own: dict[str, Tensor]) -> bool:
    weight = own.get("weight")
    return bool(own.keys() & _PACKED) or (weight is not None and weight.dtype in _DTYPES)


def _groups(own: dict[str, Tensor]) -> int | None:
    if "scales" in own:  # AutoAWQ: [groups, outputs]
        return own["scales"].shape[0]
    scale = own.get("weight_scale")
    return scale.shape[-1] if scale is not None and len(scale.shape) == 2 else None


def _short(name: str) -> str:
    """A layer's name from its number on: what is before it differs between libraries."""
    matched = _LAYER.search(name)
    return matched[2] if matched else name


def _bad_tensors(path: Path) -> Iterator[tuple[str, int]]:
    import numpy as np

    for name, dtype, first, count in _numbers(path):
        kind, exponent = _EXPONENTS[dtype]
        mapped = np.memmap(path, dtype=kind, mode="r", offset=first, shape=(count,))
        bad = sum(
            int(np.count_nonzero((mapped[n : n + _AT_ONCE] & exponent) == exponent))
            for n in range(0, count, _AT_ONCE)
        )
        if bad:
            yield name, bad


def _numbers(path: Path) -> Iterable[tuple[str, str, int, int]]:
    """Tensors of floating-point numbers: name, dtype, first byte in the file, count."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    for name, one in header.items():
        if one["dtype"] in _EXPONENTS:
            first, last = one["data_offsets"]
            size = 4 if one["dtype"] == "F32" else 2
            if last > first:
                yield name, one["dtype"], 8 + length + first, (last - first) // size
