"""The normal form of a text; texts that share it count as one when splits are made."""

from __future__ import annotations

import re

_POLITE = frozenset(
    (
        "please", "pls", "plz", "hey", "hi", "ok", "okay", "so", "um", "uh", "now", "just", "bro",
        "dude", "man", "lol", "haha", "yo", "well", "btw", "the", "a", "an", "rn", "can", "could",
        "would", "you", "u", "quick", "quickly", "real",
    )
)  # fmt: skip


def normalise(text: str) -> str:
    """Lower-case, without punctuation, polite fillers and repeated letters."""
    words = re.findall(r"\w+", text.lower().replace("'", ""))
    kept = [re.sub(r"(.)\1+", r"\1", word) for word in words if word not in _POLITE]
    return " ".join(kept or words)
