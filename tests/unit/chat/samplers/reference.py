"""DRY and XTC written out as they are defined: one token at a time, and slow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from yap.chat.samplers.options import MAX_MATCH, DryOptions, XtcOptions


def dry_penalties(token_ids: Sequence[int], options: DryOptions) -> dict[int, float]:
    """Token id to what its logit loses."""
    window = list(token_ids[-options.range :] if options.range else token_ids)
    breakers = set(options.breaker_ids)
    longest: dict[int, int] = {}
    for here in range(len(window) - 1):
        follower = window[here + 1]
        if follower in breakers:
            continue
        length = 0
        while (
            length < MAX_MATCH
            and here - length >= 0
            and window[here - length] == window[-1 - length]
            and window[-1 - length] not in breakers
        ):
            length += 1
        longest[follower] = max(length, longest.get(follower, 0))
    return {
        token: options.multiplier * options.base ** (length - options.allowed_length)
        for token, length in longest.items()
        if length >= options.allowed_length
    }


def xtc_excluded(logits: Sequence[float], options: XtcOptions) -> set[int]:
    """The tokens that are taken out, where XTC acts."""
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    likely = [i for i, w in enumerate(weights) if w / sum(weights) >= options.threshold]
    likely.sort(key=lambda i: weights[i])
    taken = set(likely[1:])
    return set() if taken & set(options.protected_ids) else taken
