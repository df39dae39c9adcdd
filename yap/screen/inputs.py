"""What the classifier reads: the utterance, and what the user said before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yap.history import MAX_CHARS_PER_TOKEN


def within_reach(earlier: Sequence[str], budget: int) -> list[str]:
    """The newest of the `earlier` lines that could fit into `budget` tokens, oldest first.

    No token is counted: a line is left out only where its length alone says that it cannot fit.
    """
    room = budget * MAX_CHARS_PER_TOKEN
    kept: list[str] = []
    for line in reversed(earlier):
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
        if len(kept) >= budget:  # a line that is not empty has a token at least
            break
    return kept[::-1]


def join_lines(
    utterance: str, earlier: Sequence[str], budget: int, count: Callable[[str], int]
) -> str:
    """The classifier's input: the newest `earlier` lines that fit `budget`, then `utterance`.

    Args:
        earlier: what the user said before, oldest first; the utterance is not among it.
        budget: the most tokens that the earlier lines may have together.
        count: tokens of a text.
    """
    lines = [utterance]
    for line in reversed(within_reach(earlier, budget)):
        budget -= count(line)
        if budget < 0:
            break
        lines.append(line)
    return "\n".join(reversed(lines))
