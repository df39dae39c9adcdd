"""The texts that come with the project: for calibration without a network, and for the gauge.

Two files of JSON lines in `data/`, written for this project and under its licence: everyday
talks, explanations, letters, recipes, code, numbers and a little of other languages. What is in
`held_out.jsonl` is never calibrated with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from quantization.calibration import files
from quantization.calibration.rendering import Renderer
from quantization.calibration.rows import Document, NotUnderstood, document
from quantization.errors import ExitCode, QuantizationError

CALIBRATION: Final = Path(__file__).with_name("data") / "calibration.jsonl"
HELD_OUT: Final = Path(__file__).with_name("data") / "held_out.jsonl"
LICENCE: Final = "apache-2.0"
_LEAST: Final = 8  # tokens; of fewer, little can be said


@cache
def documents(path: Path = CALIBRATION) -> tuple[Document, ...]:
    """The texts and talks of a bundled file, in its order."""
    return tuple(_documents(path))


@cache
def held_out_marks() -> frozenset[bytes]:
    """`mark` of all that is held out."""
    return frozenset(mark(one) for one in documents(HELD_OUT))


def mark(one: Document) -> bytes:
    """The same for two documents that differ in blanks alone."""
    return hashlib.sha256(" ".join(str(one).split()).encode()).digest()


def held_out(
    tokenizer: Any, sequence_length: int, most_tokens: int = 16_384, path: Path | None = None
) -> list[list[int]]:
    """Rows for the gauge: a text or a talk each, as token ids, in a fixed order.

    Rows are not joined, so that each is an observation of its own for standard errors; of a text
    that is longer than `sequence_length` the beginning is taken.

    Args:
        most_tokens: of all rows together; at least one row is given.
        path: a file of rows to take instead of the bundled ones; that it holds nothing which is
            calibrated with is up to its owner.

    Raises:
        QuantizationError: the file cannot be read, or a row of it is not understood.
    """
    renderer = Renderer(tokenizer, sequence_length)
    rows: list[list[int]] = []
    tokens = 0
    for one in documents(HELD_OUT) if path is None else _documents(path):
        ids = renderer.ids(one)
        if ids is None or len(ids) < _LEAST:
            continue
        if rows and tokens + len(ids) > most_tokens:
            break
        rows.append(ids)
        tokens += len(ids)
    return rows


def _documents(path: Path) -> Iterator[Document]:
    files.files_of(path)  # refuses what is of no kind that is read
    for row in files.rows(path):
        try:
            one = document(row.value)
        except NotUnderstood as error:
            raise QuantizationError(
                f"{row.place} is {error}: give text, messages, or a question and its answer.",
                ExitCode.USAGE,
            ) from error
        if one is not None:
            yield one
