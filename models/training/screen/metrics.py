"""Figures of a binary classifier from its probabilities; plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]

DEFAULT_THRESHOLD = 0.66


@dataclass(frozen=True, slots=True)
class Report:
    """Quality at one threshold; all shares in 0..1."""

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


def report(p_yes: Probabilities, labels: Labels, threshold: float = DEFAULT_THRESHOLD) -> Report:
    """Score probabilities [rows] against labels [rows] in {0, 1}."""
    said, truth = p_yes >= threshold, labels == 1
    tp, fp = int((said & truth).sum()), int((said & ~truth).sum())
    fn, tn = int((~said & truth).sum()), int((~said & ~truth).sum())
    return Report(
        rows=len(labels),
        positives=int(truth.sum()),
        accuracy=(tp + tn) / max(1, len(labels)),
        precision=tp / max(1, tp + fp),
        recall=tp / max(1, tp + fn),
        f1=2 * tp / max(1, 2 * tp + fp + fn),
        recall_at_1pct_fpr=recall_at_fpr(p_yes, labels, 0.01),
        ece=expected_calibration_error(p_yes, labels),
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
    )


def recall_at_fpr(p_yes: Probabilities, labels: Labels, fpr: float) -> float:
    """Recall at the lowest threshold whose false-positive rate is at most `fpr`."""
    negatives = np.sort(p_yes[labels == 0])[::-1]
    positives = p_yes[labels == 1]
    if not len(positives) or not len(negatives):
        return float("nan")
    threshold = negatives[min(int(fpr * len(negatives)), len(negatives) - 1)]
    return float((positives > threshold).mean())


def expected_calibration_error(p_yes: Probabilities, labels: Labels, bins: int = 15) -> float:
    """ECE of the predicted class over equal-width confidence bins (Guo et al., 2017)."""
    confidence = np.maximum(p_yes, 1 - p_yes)
    correct = (p_yes >= 0.5) == (labels == 1)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[bin_of == b].mean() - confidence[bin_of == b].mean()) * (bin_of == b).mean()
        for b in range(bins)
        if (bin_of == b).any()
    ]
    return float(sum(gaps))


def fit_temperature(logits: NDArray[np.float64], labels: Labels) -> float:
    """The temperature that minimises validation log-loss, by a fine search over 0.3..5.

    logits: [rows, 2].
    """
    margin = logits[:, 1] - logits[:, 0]
    sign = np.where(labels == 1, 1.0, -1.0)
    candidates = np.geomspace(0.3, 5.0, 400)
    losses = [np.logaddexp(0.0, -sign * margin / t).mean() for t in candidates]
    return float(candidates[int(np.argmin(losses))])
