"""How large a model's weights are, read from the headers of its safetensors files.

The format: 8 bytes with the length of the header, little-endian; the header, JSON; the tensors.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

_TOWER: Final = re.compile(
    r"(^|\.)(vision|visual|audio|image|multi_modal|mm_|speech|sound)\w*\.", re.IGNORECASE
)
# A bias of the key projection alone, or of one that makes queries, keys and values.
_KEY_BIAS: Final = re.compile(r"(k_proj|qkv_proj|query_key_value|c_attn|wqkv|qkv)\.bias$")
_NOT_LINEAR: Final = re.compile(r"embed|lm_head|norm|router|\bgate\.weight|wte|wpe")
_MOST_HEADER: Final = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a checkpoint's tensors, as vLLM loads them: those of 32 bits take 16.

    `towers` are those of image and sound encoders; `linear` those of matrices that are not
    quantized and that quantizing while loading makes smaller; `key_bias`, whether keys are made
    with a bias.
    """

    total: int
    towers: int = 0
    linear: int = 0
    key_bias: bool = False


def read(model: str) -> Weights | None:
    """The weights of a folder, of the local cache, or of the Hub; None where nothing tells.

    Raises:
        OSError, ValueError: a file cannot be read, or is damaged.
    """
    folder = Path(model) if Path(model).is_dir() else _cached(model)
    if folder is not None:
        files = _files(folder)
        if files:
            return add_up(_tensors(files))
        pickled = sum(file.stat().st_size for file in folder.glob("pytorch_model*.bin"))
        if pickled or Path(model).is_dir():
            return Weights(pickled) if pickled else None
    return _from_hub(model)


def _cached(model: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except Exception:  # noqa: BLE001 - not there, which is no fault
        return None


def _files(folder: Path) -> list[Path]:
    """The safetensors files that vLLM loads: those of the index, or all of one format."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [folder / name for name in sorted(names)]
        return files if all(file.is_file() for file in files) else []
    files = sorted(folder.glob("*.safetensors"))
    usual = [file for file in files if not file.name.startswith("consolidated")]
    return usual or files


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, str, int, int]]:
    """Name, dtype, number of dimensions and bytes of each tensor."""
    for file in files:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _MOST_HEADER:
                raise ValueError(f"{file.name} is damaged")
            header: dict[str, Any] = json.loads(stream.read(length))
        end = 0
        for name, tensor in header.items():
            if name != "__metadata__":
                first, last = tensor["data_offsets"]
                end = max(end, last)
                yield name, tensor["dtype"], len(tensor["shape"]), last - first
        if file.stat().st_size < 8 + length + end:
            raise ValueError(f"{file.name} is cut off")


def _from_hub(model: str) -> Weights | None:
    """The headers alone, over the network: a few requests a file."""
    from huggingface_hub import constants, get_safetensors_metadata

    if constants.HF_HUB_OFFLINE or Path(model).is_absolute():
        return None
    try:
        metadata = get_safetensors_metadata(model)
    except Exception as error:  # noqa: BLE001 - not in this format, no network, no access, ...
        log.debug("The size of %s is not known: %s", model, error)
        return None
    return add_up(
        (name, tensor.dtype, len(tensor.shape), tensor.data_offsets[1] - tensor.data_offsets[0])
        for file in metadata.files_metadata.values()
        for name, tensor in file.tensors.items()
    )


def add_up(tensors: Iterable[tuple[str, str, int, int]]) -> Weights:
    """The sums over tensors: name, dtype as in safetensors, number of dimensions, bytes."""
    total = towers = linear = 0
    key_bias = False
    for name, dtype, dimensions, stored in tensors:
        size = stored // 2 if dtype == "F32" else stored
        total += size
        if _TOWER.search(name):
            towers += size
            continue
        key_bias = key_bias or _KEY_BIAS.search(name) is not None
        if dimensions >= 2 and dtype in ("F32", "BF16", "F16") and not _NOT_LINEAR.search(name):
            linear += size
    return Weights(total, towers, linear, key_bias)
