"""A keyboard that can be read by line, with editing and history, and by key, without waiting."""

from __future__ import annotations

import codecs
import os
import re
import readline
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HISTORY_LINES = 1000
# What arrow keys send, and what a terminal puts around pasted text.
_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


class Keyboard:
    """Reads standard input. Lines of a pipe come as they are."""

    def __init__(self, history_file: Path | None = None) -> None:
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._history_file = history_file
        self._lines: deque[str] = deque()  # typed before anybody asked
        self._begun = ""  # the line after them, without its end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        if self.interactive and history_file is not None:
            with suppress(OSError):  # no history yet, or none that may be read
                readline.read_history_file(history_file)
            readline.set_history_length(HISTORY_LINES)

    def read_line(self, prompt: str) -> str | None:
        """The next line without its end; None at the end of the input."""
        if self._lines:
            line = self._lines.popleft()
            print(f"{prompt}{line}")
            readline.add_history(line)
            return line
        if not self.interactive:
            text = sys.stdin.readline()
            return text.rstrip("\r\n") if text else None
        begun, self._begun = self._begun, ""
        readline.set_startup_hook(lambda: readline.insert_text(begun))
        try:
            return input(_not_counted(prompt))
        except EOFError:
            print()
            return None
        finally:
            readline.set_startup_hook()

    @contextmanager
    def by_key(self) -> Iterator[int | None]:
        """Let keys come one by one and unseen; gives the descriptor that they come from.

        None where input is no terminal: lines of a pipe wait for their turn.
        """
        if not self.interactive:
            yield None
            return
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        # TCSADRAIN keeps what was typed and not read yet.
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        try:
            yield descriptor
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def take(self, descriptor: int) -> None:
        """Read the keys that are there; `read_line` goes on from them."""
        text = self._decoder.decode(os.read(descriptor, 4096))
        text = _ESCAPE_SEQUENCE.sub("", text).replace("\r", "\n")
        for char in text:
            if char == "\n":
                self._lines.append(self._begun)
                self._begun = ""
            elif char in "\x7f\b":
                self._begun = self._begun[:-1]
            elif char.isprintable():
                self._begun += char
        while self._lines and not self._lines[0].strip():
            self._lines.popleft()  # Enter alone only stops

    def close(self) -> None:
        """Keep the history."""
        if self.interactive and self._history_file is not None:
            with suppress(OSError):
                self._history_file.parent.mkdir(parents=True, exist_ok=True)
                readline.write_history_file(self._history_file)


def _not_counted(prompt: str) -> str:
    """The prompt with its colours marked, so that readline knows how wide it is."""
    return re.sub(r"(\x1b\[[0-9;]*m)", "\001\\1\002", prompt)
