"""How the figures of a classifier are printed and written to files."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yap.screen.dataset import DatasetError, Row
from yap.screen.quality import Report

NO_MATPLOTLIB = (
    "No pictures were made: they need matplotlib, which `pip install matplotlib` installs."
)
_HEADS = (
    "rows", "yes", "accuracy", "precision", "recall", "F1", "recall@1%FP", "ECE",
    "false captures", "misses",
)  # fmt: skip


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(text + "\n")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    )


def quality_table(groups: Mapping[str, Mapping[str, Report]]) -> str:
    """The figures of every group, under the names of the groupings; the first has no name."""
    rows: list[Sequence[str]] = [("", *_HEADS)]
    for grouping, members in groups.items():
        if grouping:
            rows.append((grouping, *[""] * len(_HEADS)))
        rows += [("  " * bool(grouping) + name, *_cells(each)) for name, each in members.items()]
    return table(rows)


def _cells(figures: Report) -> list[str]:
    shares = (
        figures.accuracy, figures.precision, figures.recall, figures.f1,
        figures.recall_at_1pct_fpr, figures.ece,
    )  # fmt: skip
    return [
        f"{figures.rows:,}",
        f"{figures.positives / figures.rows:.1%}",
        *(number(share) for share in shares),
        f"{figures.false_positives:,}",
        f"{figures.false_negatives:,}",
    ]


def number(value: float, digits: int = 3) -> str:
    """A figure, or a dash where it is not defined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def shortened(row: Row, width: int = 100) -> str:
    """The row's last lines, ` / ` between them, cut at the start to `width` characters.

    The judged line is what is kept, if not all fits.
    """
    if len(row.utterance) > width:
        return textwrap.shorten(row.utterance, width, placeholder=" ...")
    text = " / ".join((*row.earlier[-4:], row.utterance))
    if len(text) <= width:
        return text
    kept = text[len(text) - width + 4 :]
    return "... " + kept.partition(" ")[2].removeprefix("/ ")


def write_json(path: Path, report: object) -> None:
    """Write a dataclass as JSON."""
    path.write_text(as_json(report) + "\n", encoding="utf-8")


def as_json(report: object) -> str:
    """A dataclass as JSON; null stands for a figure that is not defined."""
    if not dataclasses.is_dataclass(report) or isinstance(report, type):
        raise TypeError("a report is a dataclass")
    return json.dumps(_finite(dataclasses.asdict(report)), indent=1, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_folder(path: Path) -> None:
    """Make the folder that results go into.

    Raises:
        DatasetError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(
            f"--out {path} cannot be made ({error.strerror}); name another folder."
        ) from error
