"""What a worker says: JSON on its standard output, one event a line.

It tells how far a step is, that a step is done, or what went wrong.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any, TextIO


class Events:
    """The JSON lines; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: str, **values: Any) -> None:
        """One event."""
        with self._lock:
            self._stream.write(json.dumps({"event": event, **values}) + "\n")
            self._stream.flush()

    def progress(self, step: str, done: int, total: int) -> None:
        """How far a step is."""
        self.send("progress", step=step, done=done, total=total)


def claim_output() -> Events:
    """Keep standard output for events: what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return Events(stream)
