"""Measures a saved classifier with the stock forward pass on the CPU and writes its model card.

    python -m models.training.screen.evaluate --model models/yap-screen-demo

Writes `metrics.json` and `README.md` into the model's folder. Takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from models.training.screen.card import render
from models.training.screen.data import Row, dataset
from models.training.screen.grammar import load_families
from models.training.screen.predict import Predictor
from models.training.screen.probe import Probe, load_probe
from models.training.screen.splits import SPLITS, split_families
from yap.screen.quality import DEFAULT_THRESHOLD, Labels, Probabilities, report

KEYWORDS = re.compile(
    r"screen|\blook|\bsee\b|\bpic|check (this|my)|snap|peek|capture", re.IGNORECASE
)


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder written by train.py")
    parser.add_argument("--test-rows", type=int, default=6000, help="rows drawn before dedup")
    arguments = parser.parse_args()
    directory: Path = arguments.model
    started = time.perf_counter()
    training = json.loads((directory / "training.json").read_text(encoding="utf-8"))
    settings = training["settings"]
    # The training rows are drawn again because near-duplicates of them are not test rows.
    rows = dataset(
        {
            "train": settings["train_rows"],
            "validation": settings["validation_rows"],
            "test": arguments.test_rows,
        },
        settings["seed"],
        workers=2,
    )
    predictor = Predictor(directory)
    test = rows["test"]
    p_test = predictor.p_yes([row.text for row in test])
    probe = load_probe()
    p_probe = predictor.p_yes([item.text for item in probe])
    metrics = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
        },
        "parameters": predictor.parameters,
        "threshold": DEFAULT_THRESHOLD,
        "test": asdict(report(p_test, _labels(test))),
        "test_at_0.5": asdict(report(p_test, _labels(test), threshold=0.5)),
        "test_by_class": _by_class(test, p_test),
        "test_without_history": asdict(_subset(test, p_test, with_history=False)),
        "test_with_history": asdict(_subset(test, p_test, with_history=True)),
        "keyword_baseline": asdict(report(_keywords(test), _labels(test))),
        "probe": asdict(report(p_probe, _labels(probe))),
        "probe_by_class": _by_class(probe, p_probe),
        "probe_answers": [
            {"lines": list(item.lines), "label": item.label, "p_yes": round(float(p), 3)}
            for item, p in zip(probe, p_probe, strict=True)
        ],
        "families": _family_counts(),
        "training_rows_by_class": dict(
            sorted(Counter(r.phrase_class for r in rows["train"]).items())
        ),
        "latency_cpu": [
            asdict(predictor.latency(text))
            for text in ("look at my screen", _history(40), _history(1536))
        ],
    }
    (directory / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(render(metrics, training), encoding="utf-8")
    test_figures = metrics["test"]
    print(json.dumps({"test": test_figures, "probe": metrics["probe"]}, indent=1))
    print(f"{time.perf_counter() - started:.0f} s")


def _labels(items: list[Row] | list[Probe]) -> Labels:
    return np.array([item.label for item in items], dtype=np.int64)


def _by_class(items: list[Row] | list[Probe], p_yes: Probabilities) -> dict[str, dict[str, Any]]:
    """Rows, positives, accuracy and errors of each class, in name order."""
    labels = _labels(items)
    names = np.array([item.phrase_class for item in items])
    out: dict[str, dict[str, Any]] = {}
    for name in sorted(set(names.tolist())):
        figures = report(p_yes[names == name], labels[names == name])
        out[name] = {
            "rows": figures.rows,
            "positives": figures.positives,
            "accuracy": round(figures.accuracy, 4),
            "false_positives": figures.false_positives,
            "false_negatives": figures.false_negatives,
        }
    return out


def _subset(rows: list[Row], p_yes: Probabilities, *, with_history: bool) -> Any:
    chosen = np.array([("\n" in row.text) == with_history for row in rows])
    return report(p_yes[chosen], _labels(rows)[chosen])


def _keywords(rows: list[Row]) -> Probabilities:
    """What a keyword search over the last line answers: the bar to beat."""
    return np.array([float(bool(KEYWORDS.search(r.text.rsplit("\n", 1)[-1]))) for r in rows])


def _family_counts() -> dict[str, Any]:
    placed = split_families(load_families())
    return {
        split: {
            "families": len(placed[split]),
            "templates": sum(len(family.templates) for family in placed[split]),
            "pinned": sum(family.pinned for family in placed[split]),
        }
        for split in SPLITS
    }


def _history(lines: int) -> str:
    return "\n".join([*["we talked about the weather all day"] * lines, "look at my screen"])


if __name__ == "__main__":
    main()
