"""Pictures of a classifier's quality, as PNG files. matplotlib is imported when one is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yap.screen.quality import (
    Floats,
    Labels,
    Probabilities,
    Report,
    expected_calibration_error,
    precision_recall,
    reliability,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _PALE, _ORANGE, _RED, _GREY = "#2b6cb0", "#bcd3ea", "#dd8a2e", "#c0392b", "#888888"
_DOTS_PER_INCH = 120


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_precision_recall(
    path: Path, p_yes: Probabilities, labels: Labels, threshold: float
) -> None:
    """The precision-recall curve, with the place of `threshold` on it."""
    curve = precision_recall(p_yes, labels)
    figure, axes = _axes()
    axes.step(curve.recall, curve.precision, where="post", color=_BLUE)
    said = np.flatnonzero(curve.thresholds >= threshold)
    if len(said):
        at = said[-1]
        axes.plot(
            [curve.recall[at]], [curve.precision[at]], "o", color=_RED, label=f"at {threshold:g}"
        )
        axes.legend(loc="lower left")
    axes.axhline(float(labels.mean()), color=_GREY, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"Precision and recall (average precision {curve.average_precision:.3f})")
    _save(figure, path)


def draw_reliability(path: Path, p_yes: Probabilities, labels: Labels) -> None:
    """Accuracy over confidence in the predicted class, in the bins that ECE is made of."""
    from matplotlib.figure import Figure

    bins = reliability(p_yes, labels)
    figure = Figure(figsize=(6, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left = [each.low for each in bins]
    width = [each.high - each.low for each in bins]
    upper.bar(
        left, [each.accuracy for each in bins], width, align="edge", color=_PALE, edgecolor=_BLUE
    )
    upper.plot(
        [each.confidence for each in bins], [each.accuracy for each in bins], "o", color=_RED
    )
    upper.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="calibrated")
    upper.set(xlim=(0.5, 1), ylim=(0, 1.02), ylabel="accuracy")
    upper.legend(loc="lower right")
    upper.set_title(f"Reliability (ECE {expected_calibration_error(p_yes, labels):.3f})")
    lower.bar(left, [each.rows for each in bins], width, align="edge", color=_GREY)
    lower.set_yscale("log")
    lower.set(xlabel="confidence in the likelier answer", ylabel="rows")
    _save(figure, path)


def draw_confusion(path: Path, groups: Mapping[str, Report]) -> None:
    """What became of every group's rows: right, captured in error, or missed."""
    figure, axes = _axes(height=1.6 + 0.3 * len(groups))
    names = list(groups)[::-1]
    left = np.zeros(len(names))
    for outcome, label, color in (
        ("true_positives", "right: yes", _BLUE),
        ("true_negatives", "right: no", _PALE),
        ("false_positives", "false capture", _RED),
        ("false_negatives", "miss", _ORANGE),
    ):
        counts = [int(getattr(groups[name], outcome)) for name in names]
        share = np.array(
            [100 * n / groups[name].rows for n, name in zip(counts, names, strict=True)]
        )
        bars = axes.barh(names, share, left=left, label=label, color=color)
        written = [str(n) if wide >= 4 else "" for n, wide in zip(counts, share, strict=True)]
        dark = outcome in {"true_positives", "false_positives"}
        axes.bar_label(
            bars, written, label_type="center", fontsize=7, color="white" if dark else "black"
        )
        left += share
    axes.margins(y=0.01)
    axes.set(xlim=(0, 100), xlabel="% of the rows; the numbers are rows")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=8, frameon=False)
    _save(figure, path)


def draw_costs(
    path: Path,
    thresholds: Floats,
    costs: Floats,
    chosen: float,
    interval: Sequence[float],
    default: float,
) -> None:
    """The cost of 1,000 decisions at every threshold, the chosen one, and its interval."""
    figure, axes = _axes()
    axes.plot(thresholds, 1000 * costs, color=_BLUE)
    axes.axvspan(interval[0], interval[1], color=_PALE, alpha=0.5, label="90 % interval")
    axes.axvline(chosen, color=_RED, label=f"least cost: {chosen:g}")
    axes.axvline(default, color=_GREY, linestyle=":", label=f"default: {default:g}")
    axes.set(xlim=(0, 1), xlabel="TOOL_DECISION_THRESHOLD", ylabel="cost of 1,000 decisions")
    # What it costs to capture always says nothing, and would flatten the rest.
    least, most = 1000 * float(costs.min()), 1000 * float(costs.max())
    axes.set_ylim(0, min(5 * least, 1.05 * most) if least else 1.05 * most)
    axes.set_title("Expected cost of false captures and misses")
    axes.legend()
    _save(figure, path)


def _axes(height: float = 4.5) -> tuple[Figure, Axes]:
    # A figure of its own, without pyplot, keeps no state and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DOTS_PER_INCH, format="png")
