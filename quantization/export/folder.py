"""The export: a complete model folder, that appears under its name when it is whole and not before.

The weights are the quantizer's. Everything else is the source's own, byte for byte: quantizers
rewrite tokenizer files in ways that older programs do not read, and generation settings too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from quantization.digests import sha256
from quantization.errors import ExitCode, QuantizationError
from quantization.export.card import card
from quantization.export.metadata import (
    CARD,
    NAME,
    OLDER,
    File,
    Metadata,
    check_files,
    read_metadata,
)
from quantization.model.files import CONFIG, INDEX, along

_QUANTIZATION: Final = "quantization_config"


def assemble(source: Path, quantized: Path, folder: Path) -> None:
    """A folder that vLLM loads: weights of `quantized`, the rest of `source`.

    Raises:
        QuantizationError: the quantizer wrote no weights or no config.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shards = sorted(quantized.glob("*.safetensors"))
    if not shards:
        raise QuantizationError("The quantizer wrote no weights.", ExitCode.FAILED)
    for path in shards:
        _place(path, folder / path.name)
    if len(shards) > 1 and (quantized / INDEX).exists():
        shutil.copyfile(quantized / INDEX, folder / INDEX)
    for path in along(source):
        shutil.copyfile(path, folder / path.name)
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    written = json.loads((quantized / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(written.get(_QUANTIZATION), dict):
        raise QuantizationError("The quantizer wrote no quantization_config.", ExitCode.FAILED)
    config[_QUANTIZATION] = written[_QUANTIZATION]
    _write(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def describe(folder: Path, metadata: Metadata) -> Metadata:
    """Write metadata and card; the metadata with the checksums of all files in it."""
    older = json.dumps(metadata.older(), indent=2, ensure_ascii=False) + "\n"
    _write(folder / OLDER, older)
    files = {
        path.name: File(bytes=path.stat().st_size, sha256=sha256(path))
        for path in sorted(folder.iterdir())
        if path.name not in (NAME, CARD)
    }
    whole = metadata.model_copy(update={"files": files})
    _write(folder / CARD, card(whole))
    _write(folder / NAME, whole.model_dump_json(indent=2) + "\n")
    return whole


def find(place: Path, key: str) -> Metadata | None:
    """The export of this key at a place, if it is there and no file of it was cut off."""
    try:
        metadata = read_metadata(place)
        if metadata.key != key:
            return None
        check_files(place, metadata, deep=False)
    except QuantizationError:
        return None
    return metadata


def refuse_foreign(place: Path, key: str, *, force: bool) -> None:
    """Refuse to put an export where something else lies.

    Raises:
        QuantizationError: what is there is no export, or one of another recipe and no `force`.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    try:
        there = read_metadata(place)
    except QuantizationError as error:
        if error.code is ExitCode.DAMAGED:  # ours, once
            if force:
                return
            raise
        raise QuantizationError(
            f"{place} is there already and is no export of this project: name another --out.",
            ExitCode.REFUSED,
        ) from error
    if there.key != key and not force:
        raise QuantizationError(
            f"{place} holds another export ({there.source_model}, {there.recipe['method']}): name "
            "another --out, or replace it with --force.",
            ExitCode.REFUSED,
        )


def publish(folder: Path, place: Path) -> None:
    """Put a finished folder under its name, in one rename; what was there is gone then.

    Raises:
        OSError: it cannot be; nothing lies under the name that was not there before.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with _beside(place, "new") as new:
        try:
            folder.rename(new)
        except OSError:  # on another disk
            shutil.copytree(folder, new)
        _sync(new)
        with _beside(place, "old") as old:
            if place.exists():
                place.rename(old)
            new.rename(place)
    _sync(place.parent)


def copy(folder: Path, place: Path) -> None:
    """A finished export to another place, in one rename too."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with _beside(place, "copy") as copied:
        shutil.copytree(folder, copied)
        publish(copied, place)


@contextmanager
def _beside(place: Path, word: str) -> Iterator[Path]:
    """A hidden name beside a place, with nothing under it before and after."""
    path = place.with_name(f".{place.name}.{word}")
    shutil.rmtree(path, ignore_errors=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _place(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    """Ask the disk to have what was written, so that a name survives a power cut with its files."""
    for one in [*path.iterdir(), path] if path.is_dir() else [path]:
        if one.is_file() or one == path:
            handle = os.open(one, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
