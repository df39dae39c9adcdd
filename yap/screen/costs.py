"""The threshold at which false captures and misses cost least together; NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yap.screen.quality import Floats, Labels, Probabilities

_MOST_DECIMALS = 15
_SAME = 1e-9  # of all cost there is; what differs by less is a rounding error


@dataclass(frozen=True, slots=True)
class Costs:
    """What one mistake of each kind costs, in any unit; both above 0."""

    false_capture: float
    miss: float

    @property
    def threshold_if_calibrated(self) -> float:
        """From where on yes costs less than no, if the probabilities are right (Elkan, 2001)."""
        return self.false_capture / (self.false_capture + self.miss)


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 90 % of what the bootstrap found."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How far data drawn anew would move the choice.

    Args:
        threshold: the least-cost threshold.
        cost: the cost of a decision at the threshold chosen on the real data.
        cost_on_unseen: mean cost of a decision on records left out of the draw, each time at the
            threshold chosen without them; NaN if no draw left any out.
    """

    replicates: int
    threshold: Interval
    cost: Interval
    cost_on_unseen: float


class CostCurve:
    """Cost as a function of the threshold: a step for every distinct probability."""

    def __init__(self, p_yes: Probabilities, labels: Labels, costs: Costs) -> None:
        self._rows = len(labels)
        self._levels, self._level_of = np.unique(p_yes, return_inverse=True)
        self._false_capture = costs.false_capture * (labels == 0)
        self._miss = costs.miss * (labels == 1)
        # Step i holds thresholds above lower[i], up to upper[i]: yes is what is at least upper[i].
        self._lower = np.append(-1.0, self._levels)
        self._upper = np.append(self._levels, 1.0)
        if self._levels[-1] >= 1:  # no threshold is above it
            self._lower, self._upper = self._lower[:-1], self._upper[:-1]

    def best(self) -> float:
        """The threshold of least cost: a short number about the middle of its step.

        Of several steps that cost the same it is on the highest, which captures least.
        """
        low, high = self._best_step(np.ones(self._rows))
        middle = (max(low, 0.0) + high) / 2
        for decimals in range(2, _MOST_DECIMALS):
            rounded = round(middle, decimals)
            if low < rounded <= high:
                return rounded
        return high

    def cost_at(self, threshold: float) -> float:
        """The mean cost of a decision."""
        return float(self._steps(np.ones(self._rows))[self._step(threshold)]) / self._rows

    def line(self) -> tuple[Floats, Floats]:
        """Thresholds and costs of a decision, to draw the curve by; each step is two points."""
        costs = self._steps(np.ones(self._rows)) / self._rows
        ends = np.column_stack((np.maximum(self._lower, 0.0), self._upper)).ravel()
        return ends, np.repeat(costs, 2)

    def bootstrap(self, records: Sequence[str], replicates: int = 1000, seed: int = 0) -> Bootstrap:
        """Choose again on records drawn with replacement (percentile intervals).

        Args:
            records: the record of each row. A conversation is drawn as a whole, since its rows are
                alike.
        """
        names, record_of = np.unique(np.asarray(records), return_inverse=True)
        rng = np.random.default_rng(seed)
        chosen_step = self._step(self.best())
        thresholds, costs = np.zeros(replicates), np.zeros(replicates)
        unseen: list[float] = []
        for i in range(replicates):
            drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
            weights = drawn[record_of].astype(np.float64)
            low, high = self._best_step(weights)
            thresholds[i] = (max(low, 0.0) + high) / 2
            costs[i] = self._steps(weights)[chosen_step] / weights.sum()
            left_out = (weights == 0).astype(np.float64)
            if left_out.any():
                step = self._step(thresholds[i])
                unseen.append(float(self._steps(left_out)[step]) / left_out.sum())
        return Bootstrap(
            replicates,
            _interval(thresholds),
            _interval(costs),
            float(np.mean(unseen)) if unseen else float("nan"),
        )

    def _step(self, threshold: float) -> int:
        return min(int(np.searchsorted(self._upper, threshold)), len(self._upper) - 1)

    def _steps(self, weights: Floats) -> Floats:
        """The total cost on each step, rows counted by their weight."""
        size = len(self._levels)
        captures = np.bincount(self._level_of, weights * self._false_capture, size)
        misses = np.bincount(self._level_of, weights * self._miss, size)
        costs = captures.sum() + np.append(0.0, np.cumsum(misses - captures))
        steps: Floats = costs[: len(self._upper)]
        return steps

    def _best_step(self, weights: Floats) -> tuple[float, float]:
        costs = self._steps(weights)
        worst = float((weights * (self._false_capture + self._miss)).sum())
        ties: NDArray[np.intp] = np.flatnonzero(costs <= costs.min() + _SAME * worst)
        # The last run of neighbours among them is one wide step.
        run = np.split(ties, np.flatnonzero(np.diff(ties) > 1) + 1)[-1]
        return float(self._lower[run[0]]), float(self._upper[run[-1]])


def _interval(values: Floats) -> Interval:
    low, high = np.percentile(values, (5, 95))
    return Interval(float(low), float(high))
