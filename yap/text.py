"""Cleaning of text that comes from outside."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Controls but tab, LF and CR; and bidirectional marks, which make text read as what it is not.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
# Blanks, and what Unicode lets no font show (Default_Ignorable_Code_Point): joiners, variation
# selectors, fillers. Beside letters they stay, since many scripts need them there.
_SHOWS_NOTHING = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]*"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# As in the stream-safe text format of Unicode's annex 15; no language writes as many.
_MOST_MARKS = 30
# Beyond it there are ideographs, tags and variation selectors, and nothing that combines.
_LAST_MARK = 0x1FFFF


def clean_text(text: str, most: int | None = None) -> str:
    """`text` in NFKC, without control characters, bidi marks and surrounding blanks.

    Tab, CR and LF stay. A lone surrogate, which no tokenizer can encode, becomes U+FFFD. Of more
    than 30 accents on one letter the rest goes. A text that shows nothing, such as zero-width
    characters alone, is empty.

    Args:
        most: characters to keep of the start, before as well as after cleaning, since one
            character can unfold to 18.
    """
    text = text[:most]
    # What is invisible goes first: it would keep a letter and its accent apart.
    visible = _INVISIBLE.sub("", text)
    if not visible.isascii():
        # Sorting a run of accents takes the square of its length; a megabyte of them, minutes.
        visible = _long_runs().sub(r"\1", _SURROGATE.sub("\ufffd", visible))
        visible = unicodedata.normalize("NFKC", visible)
    visible = visible[:most].strip()
    return "" if shows_nothing(visible) else visible


def shows_nothing(text: str) -> bool:
    """Whether there is nothing to see in `text`: blanks, zero-width characters, or none at all."""
    return _SHOWS_NOTHING.fullmatch(text) is not None


@cache
def _long_runs() -> re.Pattern[str]:
    """Finds runs of what normalizing would sort; takes a twentieth of a second, once."""
    marks = [
        code
        for code in range(0x300, _LAST_MARK)
        if unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0])
    ]
    ranges: list[list[int]] = []
    for code in marks:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    mark = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"
    return re.compile(f"({mark}{{{_MOST_MARKS}}}){mark}+")
