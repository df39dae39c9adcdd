"""Which files of a model folder are its weights, which go with them, and which are left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

INDEX: Final = "model.safetensors.index.json"
CONFIG: Final = "config.json"
_WEIGHTS: Final = re.compile(
    r".*\.(safetensors|bin|pt|pth|ckpt|gguf|onnx|onnx_data|msgpack|h5|ot|mlmodel|tflite)$"
    r"|.*\.(safetensors|bin)\.index\.json$"
)
# What goes with a model wherever it goes: tokenizer, template, generation settings, own code.
_BESIDE: Final = re.compile(
    r"tokenizer.*\.(json|model)|tekken\.json|vocab.*\.(json|txt)|merges\.txt|.*\.(model|tiktoken)"
    r"|special_tokens_map\.json|added_tokens\.json|chat_template.*|generation_config\.json"
    r"|.*(processor|preprocessor)_config\.json|.*\.py|(LICEN[CS]E|NOTICE|USE_POLICY)(\..*)?"
)
# What is never needed to quantize or to serve.
NOT_FETCHED: Final = (
    "original/*",
    "consolidated*",
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "*.msgpack",
    "*.h5",
    "*.pth",
    "onnx/*",
    "runs/*",
    "*.png",
    "*.jpg",
)


def is_weights(name: str) -> bool:
    """Whether a file holds weights, or says which of them are where."""
    return _WEIGHTS.fullmatch(name) is not None


def goes_along(name: str) -> bool:
    """Whether an export takes a file as it is."""
    return not is_weights(name) and _BESIDE.fullmatch(name) is not None


def deciding(folder: Path, weights: str | None) -> list[Path]:
    """The files that decide what an export is.

    Args:
        weights: "safetensors" or "pytorch"; files of the other kind are not read.
    """
    suffix = ".bin" if weights == "pytorch" else ".safetensors"
    return [path for path in _files(folder) if _decides(path.name, suffix)]


def along(folder: Path) -> list[Path]:
    """The files that an export takes as they are."""
    return [path for path in _files(folder) if goes_along(path.name)]


def _decides(name: str, suffix: str) -> bool:
    if name == CONFIG or goes_along(name):
        return True
    return is_weights(name) and name.removesuffix(".index.json").endswith(suffix)


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file())
