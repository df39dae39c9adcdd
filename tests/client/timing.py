"""What is made of the times of a turn."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

# The end of a sentence: its mark, closing quotes and brackets, then a blank or the end.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)")


def first_words_ms(tokens: Sequence[str], times_ms: Sequence[float], words: int) -> float | None:
    """When the text first held so many words (the last one may be incomplete); None if never."""
    text = ""
    for token, time_ms in zip(tokens, times_ms, strict=True):
        text += token
        if len(text.split()) >= words:
            return time_ms
    return None


def first_sentence_ms(tokens: Sequence[str], times_ms: Sequence[float]) -> float | None:
    """When the end of the first sentence came; None if there is none."""
    end = _SENTENCE_END.search("".join(tokens))
    if end is None:
        return None
    length = 0
    for token, time_ms in zip(tokens, times_ms, strict=True):
        length += len(token)
        if length >= end.end():
            return time_ms
    return None


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (0..1) of one value at least, by linear interpolation (Hyndman-Fan type 7)."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def summary(values_ms: Sequence[float]) -> dict[str, float]:
    """Mean and quantiles of times in milliseconds; empty without any."""
    if not values_ms:
        return {}
    figures = {"mean": sum(values_ms) / len(values_ms)}
    figures |= {f"p{percent}": quantile(values_ms, percent / 100) for percent in (50, 90, 95)}
    return {name: round(value, 2) for name, value in figures.items()}
