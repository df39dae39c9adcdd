"""What a person sees of a long run: a bar for each step on a terminal, else plain lines."""

from __future__ import annotations

import shutil
import time
from typing import Final, TextIO

_CELLS: Final = 28
_LABEL: Final = 12
_REDRAW_S: Final = 0.1
# On no terminal: a line at least after so much of a step, and not more often than this.
_SHARE: Final = 0.25
_LINE_S: Final = 5.0


class Display:
    """Writes to one stream; the last line is redrawn on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._step = ""
        self._since = 0.0
        self._drawn = 0.0
        self._said = 0.0
        self._open = False

    def say(self, text: str) -> None:
        """A line of its own."""
        self._clear()
        self._write(f"{text}\n")

    def progress(self, step: str, done: int, total: int) -> None:
        """How far a step is; `total` is 0 where that is not known."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._since, self._drawn, self._said = step, now, 0.0, 0.0
        share = min(1.0, done / total) if total > 0 else 0.0
        if self._terminal:
            if now - self._drawn >= _REDRAW_S or share == 1:
                self._drawn = now
                self._draw(share, now - self._since)
        elif share - self._said >= _SHARE and now - self._drawn >= _LINE_S:
            self._drawn, self._said = now, share
            self._write(f"  {step}: {share:.0%}\n")

    def done(self, step: str, seconds: float, what: str = "") -> None:
        """A step has ended well."""
        self._clear()
        self._write(f"  {step:<{_LABEL}} {seconds:6.1f} s{f'  {what}' if what else ''}\n")
        self._step = ""

    def close(self) -> None:
        """Leave no half line behind."""
        self._clear()

    def _draw(self, share: float, seconds: float) -> None:
        full = round(share * _CELLS)
        bar = "#" * full + "." * (_CELLS - full)
        minutes, rest = divmod(int(seconds), 60)
        line = f"  {self._step:<{_LABEL}} [{bar}] {share:4.0%}  {minutes}:{rest:02d}"
        self._write("\r" + line[: shutil.get_terminal_size().columns - 1])
        self._open = True

    def _clear(self) -> None:
        if self._open:
            self._write("\r\x1b[K")
            self._open = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
