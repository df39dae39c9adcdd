"""What is made of measured times: percentiles, and ratios with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of times in milliseconds (linear interpolation)."""

    count: int
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Times:
        """The percentiles of one time at least."""
        p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
        return cls(len(milliseconds), round(p50, 3), round(p90, 3), round(p99, 3))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of medians, and the middle 95 % of what a bootstrap finds for it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio_of_medians(
    above: Sequence[Sequence[float]],
    below: Sequence[Sequence[float]],
    replicates: int = 2000,
    seed: int = 0,
) -> Ratio:
    """Median of `above` over median of `below`, of the same items.

    Args:
        above, below: times of each item, [items][repetitions]; item i of both is the same text.
            The bootstrap draws items, so that what makes an item slow counts in both.
    """
    first, second = np.asarray(above), np.asarray(below)
    rng = np.random.default_rng(seed)
    found = np.empty(replicates)
    for i in range(replicates):
        drawn = rng.integers(len(first), size=len(first))
        found[i] = np.median(first[drawn]) / np.median(second[drawn])
    low, high = np.percentile(found, (2.5, 97.5))
    value = np.median(first) / np.median(second)
    return Ratio(round(float(value), 4), round(float(low), 4), round(float(high), 4))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as docs/benchmarks.md has them."""
    lines = [list(header), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
