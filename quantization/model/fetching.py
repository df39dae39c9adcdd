"""The float model on this machine, whole: a folder as it is, or a snapshot of the Hub's."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from quantization.digests import Digests
from quantization.errors import ExitCode, QuantizationError
from quantization.model import checkpoint as checkpoints
from quantization.model.checkpoint import Checkpoint
from quantization.model.files import NOT_FETCHED, deciding, is_weights
from quantization.model.source import refuse
from quantization.model.tensors import corrupt

Progress = Callable[[str, int, int], None]

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def identity(checkpoint: Checkpoint, digests: Digests) -> dict[str, str]:
    """What tells this source from every other: its commit, or the digest of a folder's files."""
    if checkpoint.place == "folder":
        paths = deciding(Path(checkpoint.model).expanduser(), checkpoint.weights)
        return {"content": digests.of_all(paths)}
    return {"model": checkpoint.model, "revision": str(checkpoint.revision)}


def fetch(checkpoint: Checkpoint, digests: Digests, progress: Progress) -> Path:
    """The folder of the model, with everything that is needed in it.

    Raises:
        QuantizationError: it cannot be fetched, or is damaged.
    """
    if checkpoint.place == "folder":
        return Path(checkpoint.model).expanduser().resolve()
    folder = _snapshot(checkpoint, progress)
    checkpoints.read(str(folder))  # what was cut off on the way is told
    _check_sums(folder, checkpoint, digests, progress)
    return folder


def _snapshot(checkpoint: Checkpoint, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download

    left_out = [*NOT_FETCHED, *(["*.bin", "*.pt"] if checkpoint.weights == "safetensors" else [])]
    try:
        found = snapshot_download(
            checkpoint.model,
            revision=checkpoint.revision,
            ignore_patterns=left_out,
            tqdm_class=_bars(progress),
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise QuantizationError(
                f'The disk is full while "{checkpoint.model}" is fetched: make room where HF_HOME '
                "is, and run it again to go on.",
                ExitCode.NO_ROOM,
            ) from error
        refuse(checkpoint.model, error)
    except Exception as error:  # noqa: BLE001 - told apart in one place
        refuse(checkpoint.model, error)
    return Path(found)


def _check_sums(folder: Path, checkpoint: Checkpoint, digests: Digests, progress: Progress) -> None:
    """Large files lie in the Hub's cache under their SHA-256: it must be that of their content."""
    paths = [path for path in deciding(folder, checkpoint.weights) if is_weights(path.name)]
    for number, path in enumerate(paths):
        progress("check", number, len(paths))
        blob = Path(os.path.realpath(path))
        if _SHA256.fullmatch(blob.name) and digests.of(path) != blob.name:
            error = corrupt(path.name, checkpoint.model, "its checksum is not the Hub's")
            raise QuantizationError(f"{error.message} (Remove {blob} first.)", error.code)
    progress("check", len(paths), len(paths))


def _bars(progress: Progress) -> Any:
    """A tqdm that reports bytes to us and draws nothing."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": None, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            changed: bool | None = super().update(n)
            if self.unit == "B" and self.total:
                progress("fetch", int(self.n), int(self.total))
            return changed

    return Bar


class _Nowhere:
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return

    def isatty(self) -> bool:
        return True
