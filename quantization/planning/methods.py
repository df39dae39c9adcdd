"""The methods of quantization that can be asked for, and what each of them needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

MethodName = Literal["fp8", "int8", "smoothquant", "awq", "gptq", "rtn", "nvfp4a16"]
Backend = Literal["llmcompressor", "autoawq"]
Width = Literal["4bit", "8bit"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    `format` is a key of `formats.FORMATS`: what comes out, with llmcompressor. `scheme` and
    `asymmetric_scheme` are compressed-tensors' names for it. `data_free`: no calibration.
    `groups`: whether the size of groups is free; `group_size` is the fixed one else.
    `passes` is the work of calibrating, in forward passes over the calibration set, and
    `activation_copies` the memory that takes, in copies of one layer's inputs; both measured on
    small models with llmcompressor.
    """

    name: MethodName
    title: str
    width: Width
    bits: int
    format: str
    scheme: str
    asymmetric_scheme: str | None = None
    symmetric: bool = True
    groups: bool = False
    group_size: int | None = None
    data_free: bool = True
    passes: float = 0.0
    activation_copies: float = 0.0


_ALL: Final = (
    Method("fp8", "FP8 with dynamic activations", "8bit", 8, "fp8", "FP8_DYNAMIC"),
    Method("int8", "INT8 weights and activations (W8A8)", "8bit", 8, "int8", "W8A8"),
    Method(
        "smoothquant",
        "INT8 weights and activations (W8A8), by SmoothQuant and GPTQ",
        "8bit",
        8,
        "int8",
        "W8A8",
        data_free=False,
        passes=12,
        activation_copies=4,
    ),
    Method(
        "awq",
        "AWQ W4A16",
        "4bit",
        4,
        "w4a16",
        "W4A16",
        asymmetric_scheme="W4A16_ASYM",
        symmetric=False,
        groups=True,
        data_free=False,
        passes=42,
        activation_copies=8.8,
    ),
    Method(
        "gptq",
        "GPTQ W4A16",
        "4bit",
        4,
        "w4a16",
        "W4A16",
        asymmetric_scheme="W4A16_ASYM",
        groups=True,
        data_free=False,
        passes=10,
        activation_copies=4,
    ),
    Method(
        "rtn",
        "W4A16, rounded to nearest",
        "4bit",
        4,
        "w4a16",
        "W4A16",
        asymmetric_scheme="W4A16_ASYM",
        groups=True,
    ),
    Method("nvfp4a16", "NVFP4A16", "4bit", 4, "nvfp4a16", "NVFP4A16", group_size=16),
)
METHODS: Final[Mapping[str, Method]] = MappingProxyType({one.name: one for one in _ALL})
