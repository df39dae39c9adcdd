"""The work folder of a run: which steps are done, and what came of them.

It is named by the key of what is made, so that a run that was killed finds its steps again and
another recipe never does. Each step leaves a file when it has ended well, written under another
name and renamed.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantization.errors import refusal
from quantization.writing import write_json

_LABEL: Final = "run.json"
LOG: Final = "log.txt"


@dataclass(frozen=True, slots=True)
class State:
    """The steps of one run."""

    folder: Path

    @property
    def log(self) -> Path:
        """Everything that the workers print."""
        return self.folder / LOG

    def result(self, step: str) -> dict[str, Any] | None:
        """What came of a step; None where it has not ended well."""
        try:
            found = json.loads(self._file(step).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def finish(self, step: str, result: dict[str, Any], seconds: float) -> None:
        """A step has ended well."""
        write_json(self._file(step), {**result, "seconds": round(seconds, 2)})

    def forget(self, step: str) -> None:
        """It must be done again."""
        self._file(step).unlink(missing_ok=True)

    def _file(self, step: str) -> Path:
        return self.folder / "steps" / f"{step}.json"


@contextmanager
def working(folder: Path, label: dict[str, Any], *, afresh: bool) -> Iterator[State]:
    """The work folder, for one run at a time.

    Args:
        label: what is made here, for people who look into the folder.
        afresh: forget what an earlier run left.

    Raises:
        QuantizationError: another run has it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal(
                "Another run makes the same export right now: wait for it, and run this again to "
                "find it made."
            ) from None
        if afresh:
            shutil.rmtree(folder, ignore_errors=True)
        (folder / "steps").mkdir(parents=True, exist_ok=True)
        write_json(
            folder / _LABEL, {**label, "seen": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        )
        yield State(folder)
