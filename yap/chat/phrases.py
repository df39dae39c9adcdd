"""Phrases that replies must not hold, looked for while the text comes in piece by piece.

A phrase is a string or a regular expression. A string is found anywhere, inside of words too, and
whatever its case, width or ligatures: both sides are folded letter by letter (Unicode's
compatibility decomposition and full case folding). A run of blanks counts as one, and characters
that show nothing (zero-width ones, variation selectors) count as none. A regular expression is
read by the `regex` package, without regard to case, and must match text.

However a text is cut into pieces, the same phrases are found in it. `Search.look` says which
phrase is there, or up to where no phrase can begin that further text would complete. Regular
expressions see `MAX_PATTERN_CHARS` of an unfinished match; of a longer one the beginning is not
held back. One that takes more than `_PATIENCE_S` over a piece is let be for the rest of the reply.
"""

from __future__ import annotations

import logging
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import regex  # type: ignore[import-untyped]

from yap.text import shows_nothing

log = logging.getLogger(__name__)

MAX_PATTERN_CHARS: Final = 256
# Of processor time, for one expression and one piece of text; a sound one takes microseconds.
_PATIENCE_S: Final = 0.05
_FOLDED_CHARS: Final = 8192  # characters whose folding is kept


@dataclass(frozen=True, slots=True)
class Found:
    """Where a phrase stands in a text: characters `start` to `end`, that one not included."""

    start: int
    end: int


class Phrases:
    """Some phrases, in the form in which they are looked for. Never changes."""

    def __init__(self, strings: Iterable[str] = (), patterns: Iterable[Any] = ()) -> None:
        """
        Args:
            strings: those of which folding leaves nothing are left out.
            patterns: from `compile_pattern`.
        """
        self.strings = tuple(dict.fromkeys(filter(str.strip, map(fold, strings))))
        self.patterns = tuple(patterns)
        beginnings: dict[str, list[str]] = {}
        for string in self.strings:
            beginnings.setdefault(string[0], []).append(string)
        self._by_first = {first: tuple(strings) for first, strings in beginnings.items()}
        self.longest = max(map(len, self.strings), default=0)

    def __bool__(self) -> bool:
        return bool(self.strings or self.patterns)

    def with_strings(self, strings: Iterable[str]) -> Phrases:
        """These phrases and some more."""
        return Phrases((*self.strings, *strings), self.patterns)

    def are_in(self, text: str) -> bool:
        """Whether one of the strings is in `text`; expressions may depend on what is around it."""
        return self.find_string(text, 0)[0] is not None

    def find_string(self, text: str, start: int) -> tuple[Found | None, int]:
        """The first string from `start` on, and the first place where one may begin that is not
        complete, or the length of `text`."""
        folded, origins = _fold_from(text, start)
        open_from = len(text)
        for i, first in enumerate(folded):
            for string in self._by_first.get(first, ()):
                if folded.startswith(string, i):
                    return Found(origins[i], origins[i + len(string) - 1] + 1), open_from
                if len(folded) - i < len(string) and string.startswith(folded[i:]):
                    open_from = min(open_from, origins[i])
        return None, open_from


class Search:
    """The search through one reply. It remembers which expressions were given up."""

    def __init__(self, phrases: Phrases) -> None:
        self.phrases = phrases
        self._patterns: list[Any] = list(phrases.patterns)

    def look(self, text: str, start: int, *, final: bool) -> tuple[Found | None, int]:
        """Look at `text` from `start` on; what is before it is only context.

        Args:
            text: the reply so far.
            start: what the last look returned as clear, as far as the text has not changed.
            final: whether no further text will come.

        Returns:
            A phrase, the leftmost of those of its kind, if one is there; and up to which character
            the text is clear: none begins before it, however the text goes on.
        """
        found, clear = self.phrases.find_string(text, start)
        for pattern in list(self._patterns):
            if found is not None:
                break
            try:
                found, open_from = _find_pattern(pattern, text, start, final=final)
            except TimeoutError:
                log.warning("A banned expression takes too long and is let be: %s", pattern.pattern)
                self._patterns.remove(pattern)
                continue
            clear = min(clear, open_from)
        if found is not None:
            return found, min(clear, found.start)
        return None, len(text) if final else clear


def compile_pattern(pattern: str) -> Any:
    """A regular expression, ready to be looked for.

    Raises:
        ValueError: it cannot be read, or matches where there is no text; says so in words.
    """
    try:
        compiled = regex.compile(pattern, regex.IGNORECASE | regex.FULLCASE | regex.VERSION1)
        if compiled.fullmatch("", timeout=_PATIENCE_S):
            raise ValueError("it matches the empty text")
    except regex.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    except TimeoutError:
        raise ValueError("it takes too long") from None
    return compiled


def _find_pattern(pattern: Any, text: str, start: int, *, final: bool) -> tuple[Found | None, int]:
    """As `Phrases.find_string`, for one expression.

    What ends where the text ends is not found yet: the next letter may make it something else.

    Raises:
        TimeoutError: it takes too long.
    """
    open_from = len(text)
    deadline = time.thread_time() + _PATIENCE_S
    first = pattern.search(text, start, partial=not final, timeout=_PATIENCE_S)
    if first is None or (first.partial and first.start() == len(text)):
        return None, open_from  # nearly always
    for at in range(start, len(text)):
        left = deadline - time.thread_time()
        if left <= 0:
            raise TimeoutError
        match = pattern.match(text, at, partial=not final, timeout=left)
        if match is None or match.end() == at:
            continue
        unfinished = not final and match.end() == len(text)
        if not unfinished or (not match.partial and len(text) - at > MAX_PATTERN_CHARS):
            return Found(at, match.end()), open_from
        if len(text) - at <= MAX_PATTERN_CHARS:
            open_from = min(open_from, at)
    return None, open_from


def fold(text: str) -> str:
    """`text` as it is compared."""
    return _fold_from(text, 0)[0]


def _fold_from(text: str, start: int) -> tuple[str, list[int]]:
    """`text` from `start` on as it is compared, and where each character of that comes from."""
    folded: list[str] = []
    origins: list[int] = []
    after_blank = start > 0 and text[start - 1].isspace()
    for i in range(start, len(text)):
        for char in _fold_char(text[i]):
            blank = char == " "
            if not (blank and after_blank):
                folded.append(char)
                origins.append(i)
            after_blank = blank
    return "".join(folded), origins


@lru_cache(_FOLDED_CHARS)
def _fold_char(char: str) -> str:
    if char.isspace():
        return " "
    if unicodedata.category(char) == "Cc" or shows_nothing(char):
        return ""
    decomposed = unicodedata.normalize("NFKD", char).casefold()
    return unicodedata.normalize("NFKD", decomposed)
