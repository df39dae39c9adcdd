"""Quantiles of measured values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, by linear interpolation.

    This is type 7 of Hyndman and Fan (1996), which numpy, R and spreadsheets have as the default:
    with one value it is that value, and p95 is never below p50.

    Args:
        ordered: at least one value, in rising order.
        share: 0 to 1.

    Raises:
        ValueError: there is no value, or `share` is not within 0 and 1.
    """
    if not ordered or not 0 <= share <= 1:
        raise ValueError("A quantile needs one value at least and a share from 0 to 1.")
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Many values in short; all in the unit of the values."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Quantiles | None:
        """The quantiles, or None where there is no value."""
        ordered = sorted(values)
        if not ordered:
            return None
        p50, p90, p95, p99 = (quantile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99))
        mean = math.fsum(ordered) / len(ordered)
        return cls(len(ordered), mean, p50, p90, p95, p99, ordered[-1])
