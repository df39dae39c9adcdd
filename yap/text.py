"""Cleaning of text that comes from outside."""

from __future__ import annotations

import re
import unicodedata

# Controls but tab, LF and CR; and bidirectional marks, which make text read as what it is not.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """`text` in NFKC, without control characters, bidi marks and surrounding blanks.

    Tab, CR and LF stay. A lone surrogate, which no tokenizer can encode, becomes U+FFFD.
    """
    # What is invisible goes first: it would keep a letter and its accent apart.
    visible = _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFKC", visible).strip()
