"""The language of phrases, and its compiler: a phrase becomes a regular expression.

`prompts/rules/README.md` explains how a phrase is written. An expression fits the words of a whole
utterance, in folded case, as `join_words` joins them.

No text makes a match slow. A phrase repeats no words, and the two repetitions inside a word
(`<word>` and `e+`) are possessive: they never backtrack. What is left are optional and alternative
parts; in how many ways they can combine is counted when a phrase is compiled, and limited to
10,000 for a rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

SLOT = "X"  # stands where a personality stood; folded text has no capitals of its own

_MAX_WAYS = 10_000  # of a rule; trying them all took 0.3 ms on one CPU core
_MAX_REGEX = 20_000  # characters
_MAX_DEPTH = 4  # of brackets in brackets


def join_words(words: Sequence[str]) -> str:
    """Words as the expressions want them: a space ends each."""
    return " ".join(words) + " "


class PhraseError(ValueError):
    """A phrase is not well formed. The message says what to change."""


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled part of a phrase."""

    regex: str
    longest: int  # words
    ways: int = 1  # in which it can fit at one place, at most
    starts: tuple[str, ...] = ("",)  # all that it fits begins with one of these

    @property
    def literal(self) -> bool:
        """Whether it fits one text only."""
        return self.starts == (self.regex,)

    def __post_init__(self) -> None:
        if self.ways > _MAX_WAYS or len(self.regex) > _MAX_REGEX:
            raise PhraseError(
                f"its optional and alternative parts combine in {self.ways:,} ways and "
                f"{len(self.regex):,} characters; at most {_MAX_WAYS:,} and {_MAX_REGEX:,} may be. "
                "Use fewer of them, or make it two rules"
            )


PERSONALITY = "{personality}"
BUILT_IN = {
    PERSONALITY: Part(f"{SLOT} ", 1),
    "<word>": Part("[^ ]++ ", 1),
    "<number>": Part("[0-9]++ ", 1, starts=tuple("0123456789")),
}
_LETTERS = re.compile(r"(?:[^\W_]|')+")
_WORD_PIECE = re.compile(
    r"(?P<letter>[^\W_]|')(?P<repeated>\+?)"
    r"|\((?P<either>[^()\[\]]*)\)"
    r"|\[(?P<maybe>[^()\[\]]*)\]"
)


def compile_phrase(phrase: str, words: Mapping[str, Part]) -> Part:
    """`phrase`, which may use `words`, as an expression over what `join_words` makes.

    Raises:
        PhraseError: with what to change.
    """
    if phrase != phrase.casefold():
        raise PhraseError("write it in small letters; capitals do not matter")
    text = phrase.replace("’", "'")
    _check_brackets(text)
    return _alternatives(text, words)


def _check_brackets(text: str) -> None:
    opened: list[str] = []
    closing = {"(": ")", "[": "]"}
    for char in text:
        if char in closing:
            opened.append(char)
            if len(opened) > _MAX_DEPTH:
                raise PhraseError(f"brackets are nested more than {_MAX_DEPTH} deep")
        elif char in ")]" and (not opened or closing[opened.pop()] != char):
            raise PhraseError(f"'{char}' closes nothing that is open")
    if opened:
        raise PhraseError(f"'{opened[-1]}' is never closed")


def check_slot(phrase: str, has_slot: bool) -> None:
    """Refuse `{personality}` where it may not stand, or its absence in a rule that `has_slot`.

    Raises:
        PhraseError: with what to change.
    """
    if not has_slot and PERSONALITY in phrase:
        raise PhraseError(f"{PERSONALITY} can only be in a rule that answers switch_personality")
    if has_slot and (phrase.count(PERSONALITY), phrase.split().count(PERSONALITY)) != (1, 1):
        raise PhraseError(f"{PERSONALITY} must be in it once, as a word of its own")
    if has_slot and (PERSONALITY not in _split(phrase, " ") or len(_split(phrase, "|")) > 1):
        raise PhraseError(f"{PERSONALITY} must be outside all brackets and alternatives")


def _split(text: str, separator: str) -> list[str]:
    """`text` at each `separator` that stands in no brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([") - (char in ")]")
        if char == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _alternatives(text: str, words: Mapping[str, Part]) -> Part:
    parts = [_sequence(part, words) for part in _split(text, "|")]
    if len(parts) == 1:
        return parts[0]
    ways = [part.ways for part in parts]
    starts = tuple(sorted(start for part in parts for start in part.starts))
    # Where none of them begins another, at most one alternative gets past its start.
    distinct = not any(second.startswith(first) for first, second in pairwise(starts))
    return Part(
        f"(?:{'|'.join(part.regex for part in parts)})",
        max(part.longest for part in parts),
        max(ways) if distinct else sum(ways),
        starts,
    )


def _sequence(text: str, words: Mapping[str, Part]) -> Part:
    parts = [_item(item, words) for item in _split(text, " ") if item]
    if not parts:
        raise PhraseError("there is nothing in it, or beside a '|'; [brackets] mean optional")
    literal = "".join(part.regex for part in takewhile(lambda part: part.literal, parts))
    return Part(
        "".join(part.regex for part in parts),
        sum(part.longest for part in parts),
        math.prod(part.ways for part in parts),
        (literal,) if literal else parts[0].starts,
    )


def _item(text: str, words: Mapping[str, Part]) -> Part:
    """What stands between two spaces: a name, words in brackets, or a word."""
    if text in BUILT_IN:
        return BUILT_IN[text]
    if text[0] in "{<":
        known = ", ".join([*BUILT_IN, *(f"{{{name}}}" for name in words)])
        if text[0] == "<" or text[-1] != "}" or text[1:-1] not in words:
            raise PhraseError(f"'{text}' is not defined; there are {known}")
        return words[text[1:-1]]
    # Brackets are around words where the first one closes at the very end, else inside a word.
    if text[0] in "([" and _closes_at_end(text):
        inner = _alternatives(text[1:-1], words)
        if text[0] == "(":
            return inner
        return Part(f"(?:{inner.regex})?", inner.longest, inner.ways + 1)
    return _word(text)


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if depth == 0:
            return position == len(text) - 1
    return False


def _word(text: str) -> Part:
    """One word, in which single letters or endings may vary."""
    regex, ways, position = "", 1, 0
    while position < len(text):
        piece = _WORD_PIECE.match(text, position)
        if piece is None:
            raise PhraseError(f"{text[position]!r} cannot be in the word '{text}'")
        position = piece.end()
        if letter := piece["letter"]:
            if piece["repeated"] and text.startswith(letter, position):
                raise PhraseError(f"'{letter}+{letter}' never fits: '{letter}+' takes all of them")
            regex += letter + ("++" if piece["repeated"] else "")
            continue
        optional = piece["either"] is None
        options = str(piece["maybe"] if optional else piece["either"]).split("|")
        if not all(_LETTERS.fullmatch(option) for option in options):
            raise PhraseError(f"in '{text}', only letters can be between the brackets")
        regex += f"(?:{'|'.join(options)})" + ("?" if optional else "")
        # Letters that differ are told apart at once, so only longer options can be tried in turn.
        ways *= (1 if len(set(options)) == len("".join(options)) else len(options)) + optional
    if regex == text:
        return Part(f"{text} ", 1, starts=(f"{text} ",))
    start = _LETTERS.match(text)
    return Part(f"{regex} ", 1, ways, (start[0] if start else "",))
