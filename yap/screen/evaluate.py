"""Measures a screenshot-intent classifier on labelled lines of one's own.

    python -m yap.screen.evaluate MODEL DATASET [DATASET...] [--threshold T] [--out DIR] [--json]
    python -m yap.screen.evaluate calibrate ...      the same as python -m yap.screen.calibrate

The model is run as the service runs it, and alone: the phrase rules and the language gate, which
the service asks first, are not. Nothing is changed, neither the model nor the data.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from yap.errors import StartupError
from yap.screen import pictures
from yap.screen.dataset import DatasetError, Row, read_datasets
from yap.screen.quality import DEFAULT_THRESHOLD, Labels, Probabilities, Report, report
from yap.screen.reports import (
    NO_MATPLOTLIB,
    as_json,
    make_folder,
    number,
    quality_table,
    say,
    shortened,
    warn,
    write_json,
)
from yap.screen.scoring import (
    Host,
    Latency,
    Throughput,
    add_arguments,
    host,
    labels_of,
    latency,
    load,
    not_negative,
    options,
    score,
)

BAD_INPUT = 2
_EPILOG = """\
datasets: JSON Lines or .csv, UTF-8. Each line of JSON Lines is one of
  {"lines": ["said before", "the judged line"], "label": 1}
  {"lines": ["hi", "look at this", "thanks"], "labels": [0, 1, 0]}
  {"text": "the judged line", "label": 0}
and may have "class" and "language". CSV has the columns text,label[,class,language]. Label 1 means
that the line asks to look at the screen.

exit code: 0, or 2 if arguments or data cannot be used. docs/screen.md explains the figures.
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row that was decided wrongly, and where to find it."""

    where: str
    label: int
    p_yes: float
    text: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured. `options` are those of `Checkpoint`."""

    measured_at: str
    host: Host
    options: Mapping[str, object]
    threshold: float
    all: Report
    by_dataset: Mapping[str, Report]
    by_class: Mapping[str, Report]
    by_language: Mapping[str, Report]
    mistakes: Sequence[Mistake]
    latency: Latency | None
    throughput: Throughput


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["calibrate"]:
        from yap.screen import calibrate

        return calibrate.main(given[1:])
    return guarded(lambda: _run(_parser().parse_args(given)))


def guarded(work: Callable[[], None]) -> int:
    """Do it, and turn what is wrong with arguments and data into a sentence and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # texts may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        work()
    except (DatasetError, StartupError) as error:
        warn(str(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        warn("Stopped.")
        return 130
    return 0


def probability(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m yap.screen.evaluate",
        description="Measures a screenshot-intent classifier on labelled lines of one's own.\n"
        "With `calibrate` before MODEL it chooses a threshold: see `calibrate --help`.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--threshold",
        type=probability,
        default=DEFAULT_THRESHOLD,
        metavar="T",
        help=f"yes from this probability on (default: the service's own, {DEFAULT_THRESHOLD})",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report.json and pictures")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, no table")
    parser.add_argument(
        "--mistakes",
        type=not_negative,
        default=10,
        metavar="N",
        help="how many of the worst mistakes are listed (default: 10)",
    )
    parser.add_argument(
        "--latency-texts",
        type=not_negative,
        default=200,
        metavar="N",
        help="rows that are timed one at a time; 0 for none (default: 200)",
    )
    add_arguments(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm  # type: ignore[import-untyped]

    datasets = read_datasets(arguments.datasets)
    if arguments.out is not None:
        make_folder(arguments.out)
    rows = [row for each in datasets.values() for row in each]
    chosen = options(arguments)
    warn(f"Loading {chosen.model}")
    checkpoint = load(chosen)
    timed = min(arguments.latency_texts, len(rows))
    with tqdm(total=len(rows) + timed, unit=" texts", file=sys.stderr) as bar:
        p_yes, throughput = score(checkpoint, rows, chosen, bar.update)
        times = latency(checkpoint, rows, timed, bar.update)
    labels, threshold = labels_of(rows), arguments.threshold
    names = [name for name, each in datasets.items() for _ in each]
    evaluation = Evaluation(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=host(chosen),
        options=asdict(chosen),
        threshold=threshold,
        all=report(p_yes, labels, threshold),
        by_dataset=_by(names, p_yes, labels, threshold),
        by_class=_by([row.phrase_class for row in rows], p_yes, labels, threshold),
        by_language=_by([row.language for row in rows], p_yes, labels, threshold),
        mistakes=_mistakes(rows, p_yes, threshold, arguments.mistakes),
        latency=times,
        throughput=throughput,
    )
    say(as_json(evaluation) if arguments.json else _render(evaluation))
    if arguments.out is not None:
        _write(arguments.out, evaluation, p_yes, labels)


def _by(
    names: Sequence[str | None], p_yes: Probabilities, labels: Labels, threshold: float
) -> dict[str, Report]:
    """A report for the rows of each name, in order of names; none if no row has one."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        members[name or "(none)"].append(i)
    if set(members) <= {"(none)"}:
        return {}
    return {
        name: report(p_yes[indices], labels[indices], threshold)
        for name, indices in sorted(members.items())
    }


def _mistakes(
    rows: Sequence[Row], p_yes: Probabilities, threshold: float, most: int
) -> list[Mistake]:
    """The mistakes that the model was surest of."""
    labels = labels_of(rows)
    wrong = np.flatnonzero((p_yes >= threshold) != (labels == 1))
    worst = wrong[np.argsort(-np.abs(p_yes - labels)[wrong], kind="stable")][:most]
    return [
        Mistake(rows[i].where, rows[i].label, round(float(p_yes[i]), 4), shortened(rows[i]))
        for i in worst
    ]


def _render(evaluation: Evaluation) -> str:
    groups: dict[str, Mapping[str, Report]] = {"": {"all": evaluation.all}}
    if len(evaluation.by_dataset) > 1:
        groups["by dataset"] = {Path(k).name: v for k, v in evaluation.by_dataset.items()}
    if evaluation.by_class:
        groups["by class"] = evaluation.by_class
    if evaluation.by_language:
        groups["by language"] = evaluation.by_language
    parts = [
        f"{evaluation.options['model']} on {evaluation.host.device}, threshold "
        f"{evaluation.threshold:g}; the classifier alone, without phrase rules and language gate",
        quality_table(groups),
        _render_mistakes(evaluation),
        _render_speed(evaluation),
    ]
    return "\n\n".join(part for part in parts if part)


def _render_mistakes(evaluation: Evaluation) -> str:
    if not evaluation.mistakes:
        return ""
    count = evaluation.all.false_positives + evaluation.all.false_negatives
    lines = [f"the worst {len(evaluation.mistakes)} of {count:,} mistakes; / separates lines"]
    for each in evaluation.mistakes:
        kind = "miss         " if each.label else "false capture"
        lines.append(f"  {kind}  {number(each.p_yes)}  {each.text}  ({_short_place(each.where)})")
    return "\n".join(lines)


def _short_place(where: str) -> str:
    return where.rsplit("/", 1)[-1]


def _render_speed(evaluation: Evaluation) -> str:
    times, speed = evaluation.latency, evaluation.throughput
    lines = []
    if times is not None:
        lines.append(
            f"one at a time  p50 {times.p50_ms:.2f} ms, p90 {times.p90_ms:.2f} ms, p99 "
            f"{times.p99_ms:.2f} ms, tokenizing included ({times.texts} texts, median "
            f"{times.tokens:.0f} tokens)"
        )
    lines.append(
        f"in batches     {speed.rows_per_s:,.0f} texts/s, {speed.tokens_per_s:,.0f} tokens/s"
    )
    return "\n".join(lines)


def _write(out: Path, evaluation: Evaluation, p_yes: Probabilities, labels: Labels) -> None:
    write_json(out / "report.json", evaluation)
    if not pictures.available():
        warn(NO_MATPLOTLIB)
        return
    pictures.draw_precision_recall(
        out / "precision_recall.png", p_yes, labels, evaluation.threshold
    )
    pictures.draw_reliability(out / "reliability.png", p_yes, labels)
    groups = evaluation.by_class or {"all": evaluation.all}
    pictures.draw_confusion(out / "confusion_by_class.png", groups)
    warn(f"Wrote report.json and three pictures to {out}")


if __name__ == "__main__":
    sys.exit(main())
