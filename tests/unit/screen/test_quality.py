"""Figures of a yes/no classifier, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yap.screen.quality import (
    DEFAULT_THRESHOLD,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    margins,
    precision_recall,
    recall_at_fpr,
    reliability,
    report,
    rescale,
)
from yap.settings import Settings

P = np.array([0.9, 0.8, 0.7, 0.4, 0.2, 0.1])
LABELS = np.array([1, 0, 1, 1, 0, 0])


def test_report_counts_and_shares() -> None:
    found = report(P, LABELS, threshold=0.5)
    assert (found.rows, found.positives) == (6, 3)
    assert (found.true_positives, found.false_positives) == (2, 1)
    assert (found.true_negatives, found.false_negatives) == (2, 1)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)


def test_yes_is_what_is_at_least_the_threshold() -> None:
    assert report(P, LABELS, threshold=0.7).recall == pytest.approx(2 / 3)
    assert report(P, LABELS, threshold=0.71).recall == pytest.approx(1 / 3)


def test_what_no_row_can_tell_is_nan() -> None:
    nobody_asks = report(np.array([0.1, 0.2]), np.array([0, 0]))
    assert math.isnan(nobody_asks.recall)
    assert math.isnan(nobody_asks.precision)
    assert math.isnan(nobody_asks.f1)
    assert math.isnan(nobody_asks.recall_at_1pct_fpr)
    assert nobody_asks.accuracy == 1


def test_default_threshold_is_the_service_s() -> None:
    assert Settings.model_fields["tool_decision_threshold"].default == DEFAULT_THRESHOLD


def test_recall_at_a_false_positive_rate() -> None:
    # Ten negatives; at most 10 % of them may pass, so the second highest of them is the bar.
    negatives = np.arange(10) / 100  # 0.00 to 0.09
    positives = np.array([0.085, 0.08, 0.5, 0.01])
    p_yes = np.concatenate([negatives, positives])
    labels = np.array([0] * 10 + [1] * 4)
    assert recall_at_fpr(p_yes, labels, 0.1) == pytest.approx(2 / 4)  # above 0.08
    assert recall_at_fpr(p_yes, labels, 0.01) == pytest.approx(1 / 4)  # above 0.09


def test_ece_is_of_the_predicted_class_over_equal_bins() -> None:
    # Confidence 0.95 twice, right once; 0.55 twice (one says no), right both times.
    p_yes = np.array([0.95, 0.95, 0.55, 0.45])
    labels = np.array([1, 0, 1, 0])
    assert expected_calibration_error(p_yes, labels) == pytest.approx(
        0.5 * abs(0.5 - 0.95) + 0.5 * abs(1.0 - 0.55)
    )
    low, high = reliability(p_yes, labels)
    assert (low.low, low.high) == pytest.approx((8 / 15, 9 / 15))
    assert (low.rows, low.accuracy, low.confidence) == pytest.approx((2, 1.0, 0.55))
    assert (high.rows, high.accuracy, high.confidence) == pytest.approx((2, 0.5, 0.95))


def test_ece_of_full_confidence_that_is_right_is_nothing() -> None:
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1, 0])) == 0


def test_precision_recall_has_one_point_for_each_probability() -> None:
    curve = precision_recall(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.1]
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 2 / 4])
    assert curve.recall.tolist() == pytest.approx([0.5, 1, 1])
    assert curve.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_precision_recall_where_a_probability_is_nought() -> None:
    curve = precision_recall(np.array([0.0, 0.0]), np.array([1, 0]))
    assert curve.thresholds.tolist() == [0.0]
    assert curve.recall.tolist() == [1.0]


def test_log_loss() -> None:
    expected = -(math.log(0.8) + math.log(1 - 0.3)) / 2
    assert log_loss(np.array([0.8, 0.3]), np.array([1, 0])) == pytest.approx(expected)


def test_log_loss_of_a_sure_mistake_is_finite() -> None:
    assert 10 < log_loss(np.array([1.0]), np.array([0])) < 20


def test_rescaling_divides_the_logits() -> None:
    logit = math.log(0.9 / 0.1)
    assert rescale(np.array([0.9]), 2.0)[0] == pytest.approx(1 / (1 + math.exp(-logit / 2)))


def test_temperature_of_a_model_that_is_too_sure() -> None:
    # Of what it gives 0.98, 80 % are yes: T = logit(0.98) / logit(0.8) = 2.807.
    p_yes = np.full(100, 0.98)
    labels = np.array([1] * 80 + [0] * 20)
    wanted = math.log(0.98 / 0.02) / math.log(0.8 / 0.2)
    temperature = fit_temperature(margins(p_yes), labels)
    assert temperature == pytest.approx(wanted, rel=0.01)
    assert expected_calibration_error(rescale(p_yes, temperature), labels) < 0.01
