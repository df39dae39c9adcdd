"""Chooses a classifier's threshold by what its mistakes cost, on labelled lines of one's own.

    python -m yap.screen.calibrate MODEL DATASET --false-capture-cost 3 --miss-cost 1 [--out DIR]

It also fits a temperature, to tell how well the probabilities are calibrated. Nothing is changed,
neither the model nor the data.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from yap.screen import pictures
from yap.screen.costs import Bootstrap, CostCurve, Costs
from yap.screen.dataset import DatasetError, Row, read_datasets
from yap.screen.evaluate import guarded
from yap.screen.quality import (
    COLDEST,
    DEFAULT_THRESHOLD,
    HOTTEST,
    Labels,
    Probabilities,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    margins,
    report,
    rescale,
)
from yap.screen.reports import NO_MATPLOTLIB, make_folder, number, say, table, warn, write_json
from yap.screen.scoring import Host, add_arguments, host, labels_of, load, options, score

FEWEST_ROWS = 50
_NEIGHBOURS = (-0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1)
_EPILOG = """\
The costs are in any unit; only their ratio moves the threshold. Let the data have as large a share
of yes as your users' lines have: the least cost depends on it.

exit code: 0, or 2 if arguments or data cannot be used. docs/screen.md explains the figures;
`python -m yap.screen.evaluate --help` shows what a dataset looks like.
"""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-loss in nats and ECE, before and after the logits are divided by the temperature."""

    temperature: float
    at_the_edge: bool
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float
    threshold_after: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What another threshold does on the same rows; `cost` is that of one decision."""

    threshold: float
    cost: float
    false_captures: int
    misses: int
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Choice:
    """All that was found. `cost` is that of one decision; `options` are those of `Checkpoint`."""

    measured_at: str
    host: Host
    options: Mapping[str, object]
    datasets: Sequence[str]
    rows: int
    positives: int
    records: int
    costs: Costs
    threshold: float
    cost: float
    cost_of_never: float
    bootstrap: Bootstrap
    neighbours: Sequence[Neighbour]
    calibration: Calibration


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(_parser().parse_args(given)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m yap.screen.calibrate",
        description="Chooses TOOL_DECISION_THRESHOLD for a screenshot-intent classifier by what\n"
        "its mistakes cost, and tells how well its probabilities are calibrated. The checkpoint\n"
        "is not changed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--false-capture-cost",
        type=_cost,
        required=True,
        metavar="X",
        help="of capturing the screen though nobody asked",
    )
    parser.add_argument(
        "--miss-cost",
        type=_cost,
        required=True,
        metavar="Y",
        help="of not capturing it though somebody asked",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write calibration.json and cost_curve.png"
    )
    add_arguments(parser)
    return parser


def _cost(text: str) -> float:
    if not (0 < (value := float(text)) < math.inf):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _run(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm  # type: ignore[import-untyped]

    rows = [row for each in read_datasets(arguments.datasets).values() for row in each]
    _check(rows)
    if arguments.out is not None:
        make_folder(arguments.out)
    chosen = options(arguments)
    warn(f"Loading {chosen.model}")
    checkpoint = load(chosen)
    with tqdm(total=len(rows), unit=" texts", file=sys.stderr) as bar:
        p_yes, _ = score(checkpoint, rows, chosen, bar.update)
    costs = Costs(arguments.false_capture_cost, arguments.miss_cost)
    labels = labels_of(rows)
    curve = CostCurve(p_yes, labels, costs)
    threshold = curve.best()
    records = [row.record for row in rows]
    choice = Choice(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=host(chosen),
        options=asdict(chosen),
        datasets=[str(path) for path in arguments.datasets],
        rows=len(rows),
        positives=int(labels.sum()),
        records=len(set(records)),
        costs=costs,
        threshold=threshold,
        cost=curve.cost_at(threshold),
        cost_of_never=costs.miss * float(labels.mean()),
        bootstrap=curve.bootstrap(records),
        neighbours=_neighbours(curve, p_yes, labels, threshold),
        calibration=_calibration(p_yes, labels, threshold),
    )
    say(_render(choice))
    if arguments.out is not None:
        _write(arguments.out, choice, curve)


def _check(rows: Sequence[Row]) -> None:
    """Raises DatasetError where the rows cannot tell where a threshold belongs."""
    if len(rows) < FEWEST_ROWS:
        raise DatasetError(
            f"There are {len(rows)} rows, too few to choose a threshold by; give {FEWEST_ROWS} or "
            "more, better a thousand."
        )
    labels = {row.label for row in rows}
    if len(labels) == 1:
        raise DatasetError(
            f"All {len(rows)} rows have label {labels.pop()}; a threshold needs rows of both, 1 "
            "where the line asks for the screen and 0 where it does not."
        )


def _calibration(p_yes: Probabilities, labels: Labels, threshold: float) -> Calibration:
    temperature = round(fit_temperature(margins(p_yes), labels), 3)
    after = rescale(p_yes, temperature)
    return Calibration(
        temperature=temperature,
        at_the_edge=temperature in {COLDEST, HOTTEST},
        log_loss_before=log_loss(p_yes, labels),
        log_loss_after=log_loss(after, labels),
        ece_before=expected_calibration_error(p_yes, labels),
        ece_after=expected_calibration_error(after, labels),
        threshold_after=_rescaled_threshold(threshold, temperature),
    )


def _rescaled_threshold(threshold: float, temperature: float) -> float:
    """The threshold that decides alike on probabilities of logits divided by `temperature`."""
    if threshold in (0, 1):
        return threshold
    odds: float = ((1 - threshold) / threshold) ** (1 / temperature)
    return 1 / (1 + odds)


def _neighbours(
    curve: CostCurve, p_yes: Probabilities, labels: Labels, threshold: float
) -> list[Neighbour]:
    near = {round(threshold + step, 4) for step in _NEIGHBOURS if step}
    tried = {threshold, DEFAULT_THRESHOLD} | {each for each in near if 0 <= each <= 1}
    out = []
    for each in sorted(tried):
        at = report(p_yes, labels, each)
        cost = curve.cost_at(each)
        mistakes = (at.false_positives, at.false_negatives)
        out.append(Neighbour(each, cost, *mistakes, at.precision, at.recall))
    return out


def _render(choice: Choice) -> str:
    return "\n\n".join(
        (_render_calibration(choice), _render_costs(choice), _render_neighbours(choice))
    )


def _render_calibration(choice: Choice) -> str:
    found = choice.calibration
    beyond = " (the end of the range tried: treat it as a sign, not a value)"
    edge = beyond if found.at_the_edge else ""
    figures = table(
        [
            ("", "log-loss", "ECE"),
            ("as it is", f"{found.log_loss_before:.4f}", f"{found.ece_before:.4f}"),
            ("rescaled", f"{found.log_loss_after:.4f}", f"{found.ece_after:.4f}"),
        ]
    )
    return (
        f"Temperature {found.temperature:g}{edge}, fitted on {choice.rows:,} rows, "
        f"{choice.positives / choice.rows:.1%} of them yes\n{figures}\n"
        "This does not change the checkpoint, and the service decides by its probabilities as they "
        "are:\nthe threshold below is for those. To build the temperature in, divide weight and "
        f"bias of the\nmodel's output layer by {found.temperature:g}, save it under another name "
        f"and serve that with\nTOOL_DECISION_THRESHOLD={found.threshold_after:.6g}; it decides the "
        "same, and its probabilities are the rescaled ones."
    )


def _render_costs(choice: Choice) -> str:
    costs, drawn = choice.costs, choice.bootstrap
    lines = [
        f"TOOL_DECISION_THRESHOLD={choice.threshold!r}",
        f"  least cost, for {costs.false_capture:g} a false capture and {costs.miss:g} a miss; "
        f"90 % interval {drawn.threshold.low:.3f} to {drawn.threshold.high:.3f}",
        f"  1,000 decisions cost {_thousand(choice.cost)}; 90 % interval "
        f"{_thousand(drawn.cost.low)} to {_thousand(drawn.cost.high)}; "
        f"{_thousand(drawn.cost_on_unseen)} on rows that it was not chosen by",
        f"  never capturing would cost {_thousand(choice.cost_of_never)}; perfectly calibrated "
        f"probabilities would want {costs.threshold_if_calibrated:.3g}",
        f"  intervals by {drawn.replicates:,} bootstrap draws of {choice.records:,} records",
    ]
    if choice.cost >= choice.cost_of_never:
        lines.append("  At these costs this model is best not used: never capturing costs as much.")
    return "\n".join(lines)


def _render_neighbours(choice: Choice) -> str:
    rows = [
        ("threshold", "cost of 1,000", "false captures", "misses", "precision", "recall", ""),
        *(
            (
                f"{each.threshold:g}",
                _thousand(each.cost),
                f"{each.false_captures:,}",
                f"{each.misses:,}",
                number(each.precision),
                number(each.recall),
                _mark(each.threshold, choice.threshold),
            )
            for each in choice.neighbours
        ),
    ]
    return table(rows)


def _mark(threshold: float, chosen: float) -> str:
    names = ["least cost"] * (threshold == chosen) + ["default"] * (threshold == DEFAULT_THRESHOLD)
    return ", ".join(names).ljust(len("least cost"))


def _thousand(cost: float) -> str:
    return number(1000 * cost, 1)


def _write(out: Path, choice: Choice, curve: CostCurve) -> None:
    write_json(out / "calibration.json", choice)
    if not pictures.available():
        warn(NO_MATPLOTLIB)
        return
    interval = (choice.bootstrap.threshold.low, choice.bootstrap.threshold.high)
    pictures.draw_costs(
        out / "cost_curve.png", *curve.line(), choice.threshold, interval, DEFAULT_THRESHOLD
    )
    warn(f"Wrote calibration.json and cost_curve.png to {out}")


if __name__ == "__main__":
    sys.exit(main())
