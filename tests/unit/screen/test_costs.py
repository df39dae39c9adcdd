"""The threshold of least cost."""

from __future__ import annotations

import numpy as np
import pytest

from yap.screen.costs import CostCurve, Costs
from yap.screen.quality import report


def _drawn(rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities: a row with p is yes with probability p."""
    rng = np.random.default_rng(3)
    p_yes = rng.uniform(size=rows)
    return p_yes, (rng.uniform(size=rows) < p_yes).astype(np.int64)


def test_threshold_is_in_the_middle_of_what_separates_the_labels() -> None:
    curve = CostCurve(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]), Costs(1, 1))
    assert curve.best() == 0.5
    assert curve.cost_at(0.5) == 0


def test_costs_are_those_of_the_decisions() -> None:
    p_yes, labels = _drawn()
    p_yes = p_yes.round(2)  # ties
    curve = CostCurve(p_yes, labels, Costs(3, 0.5))
    for threshold in (0.0, 0.25, 0.5, 0.66, 1.0, float(p_yes[0])):
        at = report(p_yes, labels, threshold)
        cost = (3 * at.false_positives + 0.5 * at.false_negatives) / len(labels)
        assert curve.cost_at(threshold) == pytest.approx(cost)


def test_no_threshold_costs_less_than_the_best() -> None:
    p_yes, labels = _drawn()
    curve = CostCurve(p_yes, labels, Costs(2, 1))
    least = min(curve.cost_at(t) for t in np.linspace(0, 1, 2001))
    assert curve.cost_at(curve.best()) <= least + 1e-12


@pytest.mark.parametrize(("false_capture", "miss"), [(1, 1), (3, 1), (1, 4)])
def test_calibrated_probabilities_want_the_ratio_of_the_costs(
    false_capture: float, miss: float
) -> None:
    p_yes, labels = _drawn(20_000)
    costs = Costs(false_capture, miss)
    best = CostCurve(p_yes, labels, costs).best()
    assert best == pytest.approx(costs.threshold_if_calibrated, abs=0.06)


def test_of_equal_costs_the_higher_threshold_captures_less() -> None:
    # One mistake is made below 0.4 (a false capture) as well as above 0.6 (a miss).
    p_yes, labels = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0, 1, 0, 1])
    assert 0.6 < CostCurve(p_yes, labels, Costs(1, 1)).best() <= 0.8


def test_a_model_that_knows_nothing_never_captures_or_always() -> None:
    p_yes, labels = np.full(10, 0.5), np.array([1, 0] * 5)
    assert CostCurve(p_yes, labels, Costs(10, 1)).best() > 0.5
    assert CostCurve(p_yes, labels, Costs(1, 10)).best() <= 0.5


def test_threshold_is_found_between_probabilities_that_nearly_touch() -> None:
    p_yes = np.array([0.9999990, 0.9999995])
    best = CostCurve(p_yes, np.array([0, 1]), Costs(1, 1)).best()
    assert p_yes[0] < best <= p_yes[1]


def test_probability_one_leaves_no_threshold_above() -> None:
    best = CostCurve(np.array([1.0, 1.0]), np.array([0, 1]), Costs(10, 1)).best()
    assert 0 <= best <= 1


def test_bootstrap_holds_the_choice_and_is_repeatable() -> None:
    p_yes, labels = _drawn(1000)
    curve = CostCurve(p_yes, labels, Costs(2, 1))
    records = [str(i) for i in range(1000)]
    found = curve.bootstrap(records, replicates=200)
    assert found == curve.bootstrap(records, replicates=200)
    assert found.threshold.low <= curve.best() <= found.threshold.high
    assert found.cost.low <= curve.cost_at(curve.best()) <= found.cost.high
    # The choice looks best on the rows that it was made by.
    assert found.cost_on_unseen >= curve.cost_at(curve.best())


def test_rows_of_one_conversation_are_drawn_together() -> None:
    p_yes, labels = _drawn(1000)
    curve = CostCurve(p_yes, labels, Costs(2, 1))
    alone = curve.bootstrap([str(i) for i in range(1000)], replicates=200).cost
    copies = CostCurve(np.repeat(p_yes, 4), np.repeat(labels, 4), Costs(2, 1))
    together = copies.bootstrap([str(i // 4) for i in range(4000)], replicates=200).cost
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.01)
