"""A picture of latency against load. matplotlib is imported when one is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PANELS = (("TTFT", "TTFT, ms"), ("TPOT", "TPOT, ms"))


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(documents: Sequence[Mapping[str, Any]], path: Path) -> None:
    """TTFT, TPOT and throughput against load, a line for each document.

    Args:
        documents: as `report.document` makes them, each with its own label; all against clients,
            or all against arrivals a second.
        path: where the picture goes; its suffix says the format.

    Raises:
        ValueError: they are of different kinds of load.
    """
    from matplotlib.figure import Figure

    axis = _axis(documents)
    figure = Figure(figsize=(13, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    for document in documents:
        loads = document["loads"]
        for panel, (metric, _) in zip(panels, _PANELS, strict=False):
            points = [one for one in loads if metric in one["metrics"]]
            x = [one["load"][axis] for one in points]
            p50, p95 = ([one["metrics"][metric][q] for one in points] for q in ("p50", "p95"))
            (line,) = panel.plot(x, p50, marker="o", label=f"{document['label']}, p50")
            colour = line.get_color()
            panel.plot(x, p95, "--", marker=".", color=colour, label=f"{document['label']}, p95")
        x = [one["load"][axis] for one in loads]
        rates = [one["output_tokens_per_s"] for one in loads]
        panels[2].plot(x, rates, marker="o", label=document["label"])
    for panel, title in zip(panels, [*(t for _, t in _PANELS), "output tokens/s"], strict=True):
        panel.set_title(title)
        panel.set_xlabel("clients" if axis == "clients" else "sessions/s")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _axis(documents: Sequence[Mapping[str, Any]]) -> str:
    kinds = {
        "clients" if load["load"]["clients"] is not None else "rate"
        for document in documents
        for load in document["loads"]
    }
    if len(kinds) != 1:
        raise ValueError("A picture holds measurements of clients (-c) or of --rate, not of both.")
    return kinds.pop()
