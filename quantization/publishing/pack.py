"""A model folder into BentoML's model store, under a version that its content decides.

The same files get the same version wherever and whenever they are packed, so packing twice changes
nothing, and a Bento that names a version means exactly these bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantization.digests import Digests
from quantization.errors import ExitCode, QuantizationError
from quantization.export.metadata import NAME as EXPORT_METADATA
from quantization.home import home
from quantization.model import checkpoint
from quantization.model.checkpoint import Checkpoint
from quantization.model.fetching import fetch
from quantization.model.files import is_weights
from quantization.model.source import find
from quantization.publishing.store import Content, ModelStore

Progress = Callable[[str, int, int], None]

_TAG: Final = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")
_SHARD: Final = re.compile(r".*-\d+-of-(\d+)\.(safetensors|bin)")
_STORE_METADATA: Final = "model.yaml"  # BentoML writes it into every model of the store
_VERSION_DIGITS: Final = 16
_WORTH_A_BAR: Final = 1 << 30  # bytes; reading less takes a second or two


@dataclass(frozen=True, slots=True)
class Packed:
    """One model in the store. `size` in bytes; `left_out` are files that nothing loads."""

    tag: str
    path: Path
    kind: str  # "chat" or "tool"
    size: int
    files: int
    new: bool
    linked: bool
    left_out: tuple[str, ...]


def pack(
    model: str,
    name: str | None = None,
    version: str | None = None,
    *,
    revision: str | None = None,
    link: bool = False,
    store: ModelStore | None = None,
    progress: Progress = lambda *_: None,
) -> Packed:
    """Put a model into BentoML's store (in BENTOML_HOME), or find that it is there.

    Files that are never rewritten in place (an export's, the Hub cache's) become hard links where
    the disk allows it; others are copied, since editing them would change what is packed.

    Args:
        model: a folder, or a Hub id, whose files are then fetched.
        name: by default made from the model's name.
        version: by default from the content's SHA-256.
        link: hard links for any folder.
        store: by default the one in BENTOML_HOME.

    Raises:
        QuantizationError: the model is not complete, the name cannot be, there is no room, or the
            store holds something else under this name and version.
    """
    name = _checked(name or name_for(model), "name")
    version = version and _checked(version, "version")
    found = checkpoint.read(model, revision)
    refuse_incomplete(found)
    digests = Digests(home().root / "digests.json")
    folder = fetch(found, digests, progress)
    kept, left_out = choose(folder)
    content = _content(folder, kept, digests, progress)
    tag = f"{name}:{version or content.digest[:_VERSION_DIGITS]}"
    kind = "chat" if found.chats else "tool"
    lasting = found.place != "folder" or EXPORT_METADATA in content.files
    store = store or ModelStore()
    there = store.holds(tag, content)
    linked = False
    if not there:
        labels, metadata = _about(found, content, kind)
        linked = store.put(tag, content, labels, metadata, link=link or lasting)
    path = store.folder(tag)
    size, count = content.size, len(content.files)
    return Packed(tag, path, kind, size, count, not there, linked, tuple(left_out))


def name_for(model: str) -> str:
    """A name for the store made from a folder's name or a Hub id."""
    path = Path(model).expanduser()
    last = path.resolve().name if path.is_dir() else model.rpartition("/")[2]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower())[:63].strip("-._") or "model"


def _checked(text: str, what: str) -> str:
    if _TAG.fullmatch(text):
        return text
    raise QuantizationError(
        f'The {what} "{text}" cannot be: give 1 to 63 lower-case letters, digits, dots, dashes and '
        "underscores, the first and the last a letter or digit.",
        ExitCode.USAGE,
    )


def refuse_incomplete(found: Checkpoint) -> None:
    """Refuse a model of which something is missing that serving needs.

    Raises:
        QuantizationError: it has no weights, not all of them, or no tokenizer.
    """
    if found.weights not in ("safetensors", "pytorch"):
        raise _incomplete(found, "it has no weights that can be served; add its safetensors files")
    due = {int(shard[1]): 0 for name in found.files if (shard := _SHARD.fullmatch(name))}
    for name in found.files:
        if shard := _SHARD.fullmatch(name):
            due[int(shard[1])] += 1
    for count, there in due.items():
        if there < count:
            missing = f"{count - there} of {count} shards are missing; fetch the model again"
            raise _incomplete(found, missing)
    if not found.tokenizer and "vocab.txt" not in found.files:
        raise _incomplete(found, "it has no tokenizer; add its tokenizer.json")


def _incomplete(found: Checkpoint, why: str) -> QuantizationError:
    return QuantizationError(f'"{found.model}" is incomplete: {why}.', ExitCode.DAMAGED)


def choose(folder: Path) -> tuple[list[str], list[str]]:
    """Files to pack, and those to leave out: hidden ones, and weights that nothing loads."""
    source = find(str(folder))
    kind, loaded = checkpoint.weight_files(source)
    index = ".bin.index.json" if kind == "pytorch" else ".safetensors.index.json"
    kept: list[str] = []
    left: list[str] = []
    for name in sorted(source.files().keys() - {_STORE_METADATA}):
        unused = is_weights(name) and name not in loaded and not name.endswith(index)
        (left if unused or name.startswith(".") else kept).append(name)
    return kept, left


def _content(folder: Path, names: list[str], digests: Digests, progress: Progress) -> Content:
    sizes = {name: (folder / name).stat().st_size for name in names}
    total, done = sum(sizes.values()), 0
    files = {}
    for name in names:
        files[name] = (sizes[name], digests.of(folder / name))
        done += sizes[name]
        if total >= _WORTH_A_BAR:
            progress("read", done, total)
    digests.save()
    return Content(folder, files)


def _about(found: Checkpoint, content: Content, kind: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Labels, for filters; and metadata, for people and programs."""
    quantization = found.quantization
    labels = {
        "kind": kind,
        "architecture": found.architecture,
        "quantization": str(quantization.method) if quantization else "none",
    }
    at_home = found.place == "folder"
    metadata: dict[str, Any] = {
        "source": Path(found.model).expanduser().resolve().name if at_home else found.model,
        "revision": found.revision or "",
        "dtype": found.dtype,
        "parameters": found.parameters or 0,
        "bits": (quantization.bits if quantization else None) or 16,
    }
    if EXPORT_METADATA in content.files:
        text = (content.folder / EXPORT_METADATA).read_text(encoding="utf-8")
        metadata["export"] = _without_nulls(json.loads(text))
    return labels, metadata


def _without_nulls(value: Any) -> Any:
    """BentoML's metadata takes no null."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value if one is not None]
    return value
