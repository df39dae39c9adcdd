"""Tensors as the headers of safetensors files describe them; no weight is read.

The format: 8 bytes with the length of the header, little-endian; the header, JSON; the tensors,
without gaps. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError

_MOST_HEADER: Final = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `dtype` in the format's words (BF16, F8_E4M3, I32), `size` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def module(self) -> str:
        """The name of the layer that it belongs to."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Share:
    """What is stored in one dtype."""

    dtype: str
    tensors: int
    numbers: int
    size: int


def shares(tensors: Iterable[Tensor]) -> tuple[Share, ...]:
    """Numbers and bytes for each dtype, the largest first."""
    found: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor)
    added = [
        Share(dtype, len(of), sum(t.count for t in of), sum(t.size for t in of))
        for dtype, of in found.items()
    ]
    return tuple(sorted(added, key=lambda share: (-share.size, share.dtype)))


def read_header(path: Path, model: str) -> list[Tensor]:
    """The tensors of a file on this machine.

    Raises:
        QuantizationError: it cannot be read, is damaged or was cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8:
                raise cut_off(path.name, model, f"it has {size} bytes")
            if not 0 < length <= _MOST_HEADER:
                raise corrupt(path.name, model, f"a header of {length:,} bytes cannot be")
            raw = stream.read(length)
    except OSError as error:
        raise QuantizationError(
            f'{path.name} of "{model}" cannot be read ({error.strerror}).', ExitCode.DAMAGED
        ) from error
    if len(raw) < length:
        raise cut_off(path.name, model, "not even its header is complete")
    try:
        header: dict[str, Any] = json.loads(raw)
        header.pop("__metadata__", None)
        tensors = [
            Tensor(name, str(one["dtype"]), tuple(map(int, one["shape"])), _size(one))
            for name, one in header.items()
        ]
        end = max((int(one["data_offsets"][1]) for one in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise corrupt(path.name, model, "its header is not readable") from error
    due = 8 + length + end
    if size < due:
        raise cut_off(path.name, model, f"{size:,} of {due:,} bytes are there")
    return tensors


def _size(value: dict[str, Any]) -> int:
    first, last = value["data_offsets"]
    if not 0 <= first <= last:
        raise ValueError("offsets")
    return int(last) - int(first)


def cut_off(name: str, model: str, why: str) -> QuantizationError:
    """What to say of a file that ends too early."""
    return QuantizationError(
        f'{name} of "{model}" was cut off ({why}): fetch the model again.', ExitCode.DAMAGED
    )


def corrupt(name: str, model: str, why: str) -> QuantizationError:
    """What to say of a file that cannot be read."""
    return QuantizationError(
        f'{name} of "{model}" is corrupt ({why}): fetch the model again.', ExitCode.DAMAGED
    )
