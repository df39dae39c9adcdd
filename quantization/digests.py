"""SHA-256 of files, remembered by path, size and time of change: large ones are read once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from quantization.errors import ExitCode, QuantizationError
from quantization.writing import write_whole

_BLOCK: Final = 1 << 22
_MOST: Final = 4096  # files that are remembered


def sha256(path: Path) -> str:
    """The digest of a file's content, in hex.

    Raises:
        QuantizationError: it cannot be read to its end.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise QuantizationError(
            f"{path} cannot be read to its end ({error.strerror}): check the disk, or fetch the "
            "model again.",
            ExitCode.DAMAGED,
        ) from error
    return digest.hexdigest()


class Digests:
    """Digests of files, kept in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._changed = False
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self._known = found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            pass

    def of(self, path: Path) -> str:
        """The digest of a file, read only if it is not known."""
        real = path.resolve()
        status = real.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(str(real))
        if isinstance(known, list) and known[:3] == stamp and isinstance(known[3], str):
            return known[3]
        found = sha256(real)
        self._known[str(real)] = [*stamp, found]
        self._changed = True
        return found

    def of_all(self, paths: Iterable[Path]) -> str:
        """One digest for names and contents of several files."""
        lines = sorted(f"{path.name} {self.of(path)}" for path in paths)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Remember what was read; that it cannot be is no fault."""
        if not self._changed:
            return
        kept = dict(list(self._known.items())[-_MOST:])
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(kept))
