"""Measures a saved classifier on the CPU and writes its model card.

    python -m models.training.screen.evaluate --model models/yap-screen-demo

Writes `metrics.json`, `README.md` and the card's pictures into the model's folder, in less than
three minutes on one core. The model is run as the service runs it; a sample of the rows is run
through the stock Hugging Face classes as well, and the two must agree.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from models.training.screen.card import render
from models.training.screen.heldout import Draw, drawn_for_training, held_out_sets, probe_sets
from models.training.screen.inventory import Inventory, inventory
from models.training.screen.predict import Predictor
from models.training.screen.record import stages
from yap.screen import pictures
from yap.screen.checkpoint import Checkpoint, Options
from yap.screen.dataset import Row
from yap.screen.quality import DEFAULT_THRESHOLD, Probabilities, Report, report
from yap.screen.reports import number, quality_table, say, write_json
from yap.screen.scoring import Host, Latency, host, labels_of, latency, load, score

KEYWORDS = re.compile(
    r"screen|\blook|\bsee\b|\bpic|check (this|my)|snap|peek|capture", re.IGNORECASE
)
# Half-precision weights loaded as fp32 leave sums in another order as the only difference.
TOLERANCE = 1e-4
_STOCK_ROWS = 60
_TIMED_ROWS = 200
_SHORT_WORDS, _LATE_LINES = 4, 10
_COLOURS = 48

Rows = Sequence[Row]
Scored = tuple[Rows, Probabilities]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line of the probe that was decided wrongly, after the user's earlier lines."""

    lines: Sequence[str]
    label: int
    p_yes: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the service's forward pass is from the stock one, in probability, at most."""

    rows: int
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """All that was measured; `config` is the model's own. Sets are named as in heldout.py.

    by_class: for each of some sets, a report for each class. short_follow_ups: lines of at most
    four words after at least ten others, in the conversations of held-out talks and the probe.
    unseen_probes: the probes without the lines that training may have met.
    """

    measured_at: str
    host: Host
    config: Mapping[str, Any]
    parameters: int
    max_tokens: int
    threshold: float
    drawn: int
    data: Inventory
    trained_on: Mapping[str, int]
    quality: Mapping[str, Report]
    by_class: Mapping[str, Mapping[str, Report]]
    no_earlier_lines: Report
    earlier_lines: Report
    keyword_search: Report
    short_follow_ups: Report
    conversation_lines: Report
    unseen_probes: Report
    mistakes: Sequence[Mistake]
    latency: Latency | None
    agreement: Agreement


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder written by train.py")
    parser.add_argument("--test-rows", type=int, default=8000, help="rows drawn before dedup")
    arguments = parser.parse_args()
    directory: Path = arguments.model
    if not pictures.available():
        sys.exit("The card needs pictures, and those matplotlib: pip install matplotlib")
    training = json.loads((directory / "training.json").read_text(encoding="utf-8"))
    metrics, scored = measure(directory, training, arguments.test_rows)
    write_json(directory / "metrics.json", metrics)
    _draw(directory, scored, metrics)
    (directory / "README.md").write_text(render(metrics, training), encoding="utf-8")
    say(quality_table({"": metrics.quality}))


def measure(
    directory: Path, training: Mapping[str, Any], test_rows: int
) -> tuple[Metrics, dict[str, Scored]]:
    """Score every set; also returns its rows and probabilities.

    Raises:
        RuntimeError: the service's forward pass and the stock one disagree.
    """
    draws = [
        Draw(each["train_rows"], each["validation_rows"], each["seed"])
        for each in (stage["settings"] for stage in stages(training))
    ]
    seed, drawn = draws[-1].seed, drawn_for_training(*draws)
    sets: dict[str, Rows] = {**held_out_sets(drawn.cores, test_rows, seed), **probe_sets()}
    chosen = Options(model=str(directory), device="cpu")
    checkpoint, stock = load(chosen), Predictor(directory)
    with tqdm(total=sum(map(len, sets.values())), unit=" texts", file=sys.stderr) as bar:
        scored: dict[str, Scored] = {
            name: (rows, score(checkpoint, rows, chosen, bar.update)[0])
            for name, rows in sets.items()
        }
    families, probes = scored["families"], _joined(scored, "probe", "probe_lines", "probe_talks")
    in_talks = _joined(scored, "talks", "probe_talks")
    metrics = Metrics(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=host(chosen),
        config=json.loads((directory / "config.json").read_text(encoding="utf-8")),
        parameters=stock.parameters,
        max_tokens=checkpoint.max_length,
        threshold=DEFAULT_THRESHOLD,
        drawn=test_rows,
        data=inventory(),
        trained_on=drawn.trained_on,
        quality={name: report(p_yes, labels_of(rows)) for name, (rows, p_yes) in scored.items()},
        by_class={
            "families": _by_class(families),
            "templates": _by_class(scored["templates"]),
            "probe_lines": _by_class(_joined(scored, "probe", "probe_lines")),
        },
        no_earlier_lines=_part(families, [not row.earlier for row in families[0]]),
        earlier_lines=_part(families, [bool(row.earlier) for row in families[0]]),
        keyword_search=report(_keywords(families[0]), labels_of(families[0])),
        short_follow_ups=_part(in_talks, [_is_short_follow_up(row) for row in in_talks[0]]),
        conversation_lines=report(in_talks[1], labels_of(in_talks[0])),
        unseen_probes=_part(probes, [not drawn.has(row) for row in probes[0]]),
        mistakes=_mistakes(scored["probe"]),
        latency=latency(checkpoint, probes[0], _TIMED_ROWS, lambda _: None),
        agreement=_agreement(checkpoint, stock, [r for rows in sets.values() for r in rows]),
    )
    return metrics, scored


def _joined(scored: Mapping[str, Scored], *names: str) -> Scored:
    return (
        [row for name in names for row in scored[name][0]],
        np.concatenate([scored[name][1] for name in names]),
    )


def _part(scored: Scored, belongs: Sequence[bool]) -> Report:
    rows, p_yes = scored
    chosen = np.array(belongs)
    return report(p_yes[chosen], labels_of(rows)[chosen])


def _by_class(scored: Scored) -> dict[str, Report]:
    """A report for each class, in name order."""
    names = [row.phrase_class or "" for row in scored[0]]
    return {name: _part(scored, [n == name for n in names]) for name in sorted(set(names))}


def _keywords(rows: Rows) -> Probabilities:
    """What a keyword search over the judged line answers: the bar to beat."""
    return np.array([float(bool(KEYWORDS.search(row.utterance))) for row in rows])


def _is_short_follow_up(row: Row) -> bool:
    return len(row.utterance.split()) <= _SHORT_WORDS and len(row.earlier) >= _LATE_LINES


def _mistakes(scored: Scored) -> list[Mistake]:
    return [
        Mistake((*row.earlier, row.utterance), row.label, round(float(p), 3))
        for row, p in zip(*scored, strict=True)
        if (p >= DEFAULT_THRESHOLD) != bool(row.label)
    ]


def _agreement(checkpoint: Checkpoint, stock: Predictor, rows: Rows) -> Agreement:
    """Run rows of every length both ways.

    Raises:
        RuntimeError: a probability differs by more than TOLERANCE.
    """
    by_length = sorted(rows, key=lambda row: sum(map(len, (*row.earlier, row.utterance))))
    chosen = [by_length[i] for i in np.linspace(0, len(rows) - 1, _STOCK_ROWS).astype(int)]
    ours = np.array(
        [
            checkpoint.probabilities([checkpoint.token_ids(row.utterance, row.earlier)])[0]
            for row in chosen
        ]
    )
    theirs = stock.p_yes(["\n".join((*row.earlier, row.utterance)) for row in chosen])
    largest = float(np.abs(ours - theirs).max())
    if not largest <= TOLERANCE:
        raise RuntimeError(
            f"the service's forward pass and the stock one differ by {number(largest, 6)} in "
            "probability; yap/screen/longformer.py must give what transformers gives"
        )
    return Agreement(len(chosen), largest)


def _draw(directory: Path, scored: Mapping[str, Scored], metrics: Metrics) -> None:
    """The card's pictures: curves of the held-out families and of all probes, and the classes."""
    probes = _joined(scored, "probe", "probe_lines", "probe_talks")
    for ending, (rows, p_yes) in (("", scored["families"]), ("_probes", probes)):
        labels = labels_of(rows)
        curve = directory / f"precision_recall{ending}.png"
        pictures.draw_precision_recall(curve, p_yes, labels, metrics.threshold)
        pictures.draw_reliability(directory / f"reliability{ending}.png", p_yes, labels)
    pictures.draw_confusion(directory / "confusion_by_class.png", metrics.by_class["families"])
    for path in directory.glob("*.png"):
        _shrink(path)


def _shrink(path: Path) -> None:
    """Write a picture again in few colours: a repository keeps every version of it."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(_COLOURS)
    few.save(path, optimize=True)


if __name__ == "__main__":
    main()
