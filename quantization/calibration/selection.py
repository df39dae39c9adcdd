"""Which rows are calibrated with.

Used are those of the first `window` rows (50,000; 8,192 of data sets whose rows are long and in no
order) that are understood, in an order drawn by the seed. A row is left out, and counted, where it

- holds nothing, or a talk in which nobody answers (`empty`),
- is of a shape that is not known, or holds unknown roles (`not_understood`),
- repeats a row before it but for blanks (`duplicate`), or is held out for the gauge (`held_out`),
- is a talk that the model's chat template refuses (`refused`),
- has fewer than eight tokens (`short`).

Rows are encoded only until there are as many sequences as were asked for, so that the counts of
`duplicate`, `held_out`, `refused` and `short` are of the rows that were come to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from quantization.calibration import bundled
from quantization.calibration.files import Row
from quantization.calibration.rendering import Renderer
from quantization.calibration.rows import Document, NotUnderstood, document
from quantization.errors import ExitCode, QuantizationError

LEAST: Final = 8  # tokens of a row; of fewer, little can be said
_REASONS: Final = ("empty", "not_understood", "duplicate", "held_out", "refused", "short")


def read(rows: Iterator[Row], window: int, counts: Counter[str], name: str) -> list[Document]:
    """The documents of the window, those that are empty or not understood left out."""
    found = []
    first = ""
    for row in islice(rows, window):
        counts["read"] += 1
        try:
            one = document(row.value)
        except NotUnderstood as error:
            counts["not_understood"] += 1
            first = first or f"{row.place} is {error}"
            continue
        if one is None:
            counts["empty"] += 1
        else:
            found.append(one)
    if first and not found:
        raise QuantizationError(
            f'No row of the calibration data "{name}" is understood: {first}. A row needs text, '
            "messages, or a question and its answer.",
            ExitCode.USAGE,
        )
    return found


def encoded(
    documents: Iterable[Document], renderer: Renderer, counts: Counter[str]
) -> Iterator[list[int]]:
    seen: set[bytes] = set()
    held_out = bundled.held_out_marks()
    for one in documents:
        mark = bundled.mark(one)
        if mark in seen:
            counts["duplicate"] += 1
            continue
        seen.add(mark)
        if mark in held_out:
            counts["held_out"] += 1
            continue
        ids = renderer.ids(one)
        if ids is None:
            counts["refused"] += 1
        elif len(ids) < LEAST:
            counts["short"] += 1
        else:
            yield ids


def all_counts(counts: Counter[str]) -> dict[str, int]:
    """Rows that were read, and those that were left out, by reason."""
    return {name: counts[name] for name in ("read", *_REASONS)}


def left_out(counts: Counter[str]) -> str:
    """The same in words."""
    said = [f"{counts[name]} {name.replace('_', ' ')}" for name in _REASONS if counts[name]]
    return ", ".join(said) or "none left out"
