"""Labelled lines of one's own, to judge a classifier by: JSON Lines or CSV.

A row of JSON Lines has one of three shapes; `class` and `language` may be in each of them:

    {"lines": ["what was said before", "the judged line"], "label": 1}
    {"lines": ["hi", "look at this", "thanks"], "labels": [0, 1, 0]}
    {"text": "the judged line", "label": 0}

The second is a whole conversation: every line is judged after those before it. A CSV file has the
columns text and label, and may have class and language; others are passed over. Line breaks in a
`text` separate earlier lines from the judged one, which is the last. Label 1 means that the line
asks to look at the screen.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SHOWN_PROBLEMS = 5
_SHAPES = '"text" and "label", "lines" and "label", or "lines" and "labels"'


class DatasetError(Exception):
    """The data cannot be used. The message names file and line, and says what to change."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line to judge, and what its user said before, oldest first.

    `record` is where it was read, as FILE:LINE; rows of one conversation have one record, and each
    its `turn` in it, counted from 1.
    """

    utterance: str
    earlier: tuple[str, ...]
    label: int
    phrase_class: str | None
    language: str | None
    record: str
    turn: int | None = None

    @property
    def where(self) -> str:
        """Where to find the row, for people."""
        return self.record if self.turn is None else f"{self.record} turn {self.turn}"


class _Problem(Exception):
    """What is wrong with one record, without its place."""


def read_dataset(path: Path) -> list[Row]:
    """The rows of a file: CSV if its name ends in .csv, JSON Lines otherwise.

    Raises:
        DatasetError: it cannot be read, has no rows, or some are malformed; names the first few.
    """
    records = _csv_records if path.suffix.lower() == ".csv" else _json_records
    rows: list[Row] = []
    problems: list[str] = []
    for number, record in records(path):
        try:
            if isinstance(record, _Problem):
                raise record
            rows += _rows(record, f"{path}:{number}")
        except _Problem as problem:
            problems.append(f"{path}, line {number}: {problem}")
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        rest = [f"... and {more} more lines"] if more > 0 else []
        raise DatasetError("\n".join(problems[:_SHOWN_PROBLEMS] + rest))
    if not rows:
        raise DatasetError(f"{path} has no rows; each needs {_SHAPES}.")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}, line {line}: it is not UTF-8; save it as UTF-8.") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def _json_records(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            yield number, _Problem(f"it is not JSON ({error}); write one object on each line")


def _csv_records(path: Path) -> Iterator[tuple[int, Any]]:
    end = 0
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        columns = reader.fieldnames or ()
        end = reader.line_num
        missing = [name for name in ("text", "label") if name not in columns]
        if missing:
            raise DatasetError(
                f"{path}, line 1: there is no column {' and no column '.join(missing)}; begin with "
                "a line that names the columns, such as text,label,class,language."
            )
        for record in reader:
            end = reader.line_num
            # A record ends some lines further down than it begins, if there are breaks in it.
            yield end - sum(str(cell).count("\n") for cell in record.values()), _typed(record)
    except csv.Error as error:
        raise DatasetError(
            f"{path}, line {end + 1}: it is not CSV ({error}); put a text that has quotes "
            "into quotes, and double those inside."
        ) from error


def _typed(record: dict[str, Any]) -> Any:
    """A CSV record as a JSON one: its label a number, its empty cells left out."""
    if None in record:
        return _Problem("it has more cells than there are columns; quote a text that has commas")
    typed = {name: value for name, value in record.items() if value}
    label = str(typed.get("label", "")).strip()
    if label in {"0", "1"}:
        typed["label"] = int(label)
    return typed


def _rows(record: object, where: str) -> list[Row]:
    if not isinstance(record, dict):
        raise _Problem(f"it is not an object; write {_SHAPES}")
    if ("text" in record) == ("lines" in record) or ("label" in record) == ("labels" in record):
        raise _Problem(f"it needs {_SHAPES}")
    phrase_class, language = _name(record, "class"), _name(record, "language")
    lines = _lines(record)
    if "label" in record:
        label = _label(record["label"], "label")
        rows = [Row(lines[-1], lines[:-1], label, phrase_class, language, where)]
    else:
        rows = [
            Row(lines[i], lines[:i], label, phrase_class, language, where, i + 1)
            for i, label in enumerate(_labels(record, len(lines)))
        ]
    empty = next((row for row in rows if not row.utterance.strip()), None)
    if empty is not None:
        raise _Problem("a line to judge is empty; remove it, and its label")
    return rows


def _lines(record: Mapping[str, object]) -> tuple[str, ...]:
    if "text" in record:
        text = record["text"]
        if not isinstance(text, str) or not text.strip():
            raise _Problem('"text" must be a string that is not empty')
        if "labels" in record:
            raise _Problem('"labels" goes with "lines"; beside "text" write "label"')
        return tuple(re.split(r"\r?\n", text.strip("\r\n")))
    lines = record["lines"]
    if not isinstance(lines, list) or not lines or not all(isinstance(x, str) for x in lines):
        raise _Problem('"lines" must be a list of strings, the oldest first, and not empty')
    return tuple(lines)


def _labels(record: Mapping[str, object], lines: int) -> list[int]:
    labels = record["labels"]
    if not isinstance(labels, list):
        raise _Problem('"labels" must be a list with a 0 or 1 for each line')
    if len(labels) != lines:
        raise _Problem(f'"lines" has {lines} lines and "labels" {len(labels)}; give each line one')
    return [_label(label, f"label {i}") for i, label in enumerate(labels, start=1)]


def _label(value: object, name: str) -> int:
    if isinstance(value, int) and value in (0, 1):  # true and false are integers, too
        return int(value)
    raise _Problem(f"{name} is {value!r}; write 1 where the line asks for the screen, else 0")


def _name(record: Mapping[str, object], key: str) -> str | None:
    value = record.get(key)
    if value is None or (isinstance(value, str) and value.strip()):
        return None if value is None else str(value).strip()
    raise _Problem(f'"{key}" is {value!r}; give it a name, or leave it out')


def read_datasets(paths: Sequence[Path]) -> dict[str, list[Row]]:
    """The rows of each file, by the path as it was given; the same file twice is refused.

    Raises:
        DatasetError: as `read_dataset`.
    """
    if len(set(paths)) < len(paths):
        raise DatasetError("A dataset is named twice; name each once.")
    return {str(path): read_dataset(path) for path in paths}
