"""Figures of a yes/no classifier from its probabilities; NumPy alone.

The training scripts and the operator's tools both take them from here, so that a number means the
same wherever it stands. Probabilities and labels are arrays of one length: [rows].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]

DEFAULT_THRESHOLD = 0.66
CALIBRATION_BINS = 15
COLDEST, HOTTEST = 0.3, 5.0
# Probabilities are computed in float32, where the one next to 1 is 6e-8 away from it.
_CLIP = 1e-7


@dataclass(frozen=True, slots=True)
class Report:
    """Quality at one threshold. Shares are 0 to 1; NaN where no row could tell.

    A false positive is a false capture, a false negative is a miss. `ece` and
    `recall_at_1pct_fpr` do not depend on the threshold.
    """

    rows: int
    positives: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    recall_at_1pct_fpr: float
    ece: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows whose confidence in the predicted class is from `low` to below `high`."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall at every threshold that decides differently, the highest first."""

    thresholds: Floats
    precision: Floats
    recall: Floats

    @property
    def average_precision(self) -> float:
        """The area under the curve as a sum of steps, 0 to 1; NaN without positives."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())


def report(p_yes: Probabilities, labels: Labels, threshold: float = DEFAULT_THRESHOLD) -> Report:
    """Score probabilities against labels in {0, 1}; yes is what is at least `threshold`."""
    said, truth = p_yes >= threshold, labels == 1
    tp, fp = int((said & truth).sum()), int((said & ~truth).sum())
    fn, tn = int((~said & truth).sum()), int((~said & ~truth).sum())
    return Report(
        rows=len(labels),
        positives=int(truth.sum()),
        accuracy=_share(tp + tn, len(labels)),
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        f1=_share(2 * tp, 2 * tp + fp + fn),
        recall_at_1pct_fpr=recall_at_fpr(p_yes, labels, 0.01),
        ece=expected_calibration_error(p_yes, labels),
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def recall_at_fpr(p_yes: Probabilities, labels: Labels, fpr: float) -> float:
    """Recall at the lowest threshold whose false-positive rate is at most `fpr`.

    NaN where a label is missing.
    """
    negatives = np.sort(p_yes[labels == 0])[::-1]
    positives = p_yes[labels == 1]
    if not len(positives) or not len(negatives):
        return float("nan")
    threshold = negatives[min(int(fpr * len(negatives)), len(negatives) - 1)]
    return float((positives > threshold).mean())


def reliability(
    p_yes: Probabilities, labels: Labels, bins: int = CALIBRATION_BINS
) -> tuple[Bin, ...]:
    """Confidence and accuracy in equal-width bins of the predicted class's confidence.

    The predicted class is the likelier one, whatever the threshold. Empty bins are left out.
    """
    confidence = np.maximum(p_yes, 1 - p_yes)
    correct = (p_yes >= 0.5) == (labels == 1)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return tuple(
        Bin(
            low=b / bins,
            high=(b + 1) / bins,
            rows=int((bin_of == b).sum()),
            confidence=float(confidence[bin_of == b].mean()),
            accuracy=float(correct[bin_of == b].mean()),
        )
        for b in range(bins)
        if (bin_of == b).any()
    )


def expected_calibration_error(
    p_yes: Probabilities, labels: Labels, bins: int = CALIBRATION_BINS
) -> float:
    """ECE of the predicted class over equal-width confidence bins (Guo et al., 2017); 0 to 1."""
    if not len(labels):
        return float("nan")
    gaps = (
        abs(each.accuracy - each.confidence) * each.rows
        for each in reliability(p_yes, labels, bins)
    )
    return sum(gaps) / len(labels)


def precision_recall(p_yes: Probabilities, labels: Labels) -> PrecisionRecall:
    """The precision-recall curve; rows of one probability are one point."""
    order = np.argsort(-p_yes, kind="stable")
    ranked = p_yes[order]
    found = np.cumsum(labels[order] == 1)
    last_of_ties = np.flatnonzero(np.diff(ranked, append=-1.0))
    found, said = found[last_of_ties], last_of_ties + 1
    positives = int((labels == 1).sum())
    recall = found / positives if positives else np.full(len(found), np.nan)
    return PrecisionRecall(ranked[last_of_ties], found / said, recall)


def log_loss(p_yes: Probabilities, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(np.logaddexp(0.0, -_signs(labels) * margins(p_yes)).mean())


def margins(p_yes: Probabilities) -> Floats:
    """The logit of yes less that of no, at most 16 either way."""
    clipped = np.clip(p_yes, _CLIP, 1 - _CLIP)
    logits: Floats = np.log(clipped) - np.log1p(-clipped)
    return logits


def rescale(p_yes: Probabilities, temperature: float) -> Probabilities:
    """The probabilities that logits divided by `temperature` give."""
    return 1 / (1 + np.exp(-margins(p_yes) / temperature))


def fit_temperature(margin: Floats, labels: Labels) -> float:
    """The temperature that minimises log-loss, by a fine search from COLDEST to HOTTEST.

    margin: the logit of yes less that of no, [rows].
    """
    candidates = np.geomspace(COLDEST, HOTTEST, 400)
    signed = _signs(labels) * margin
    losses = [np.logaddexp(0.0, -signed / t).mean() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def _signs(labels: Labels) -> Floats:
    return np.where(labels == 1, 1.0, -1.0)
