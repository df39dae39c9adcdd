"""Reading rows from files: JSON lines, JSON, Parquet and plain text, also compressed by gzip.

A `.json` file holds a list of rows, one row, or a row on each line. A plain text (`.txt`, `.md`)
has a row for each paragraph: blank lines part them. A folder is all of its files of these kinds,
those of its folders too, in the order of their names; hidden ones are left out. Files are UTF-8.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from quantization.calibration.rows import COLUMNS
from quantization.errors import ExitCode, QuantizationError

_LINES: Final = (".jsonl", ".ndjson")
_TEXTS: Final = (".txt", ".md")
SUFFIXES: Final = (*_LINES, ".json", ".parquet", *_TEXTS)
_MOST_JSON: Final = 512 << 20  # bytes; a list is read as a whole
_BATCH: Final = 256  # rows of a Parquet file at a time


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is in its file, and where that is: a file and a line, or a file and a row."""

    value: Any
    place: str


def kind(name: str) -> str | None:
    """The suffix that says how a file is read, without .gz; None for other files."""
    bare = name.lower().removesuffix(".gz")
    found = next((suffix for suffix in SUFFIXES if bare.endswith(suffix)), None)
    return None if found == ".parquet" and bare != name.lower() else found


def files_of(path: Path) -> list[Path]:
    """The file, or the files of a folder.

    Raises:
        QuantizationError: there is none of a kind that can be read.
    """
    if path.is_file():
        if kind(path.name) is None:
            raise QuantizationError(
                f'"{path}" is of no kind that calibration reads: give {", ".join(SUFFIXES)} '
                "or a folder of such files.",
                ExitCode.USAGE,
            )
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if kind(file.name) is not None
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    ]
    if not found:
        raise QuantizationError(
            f'The folder "{path}" holds no {", ".join(SUFFIXES)}: put the texts there, or name '
            "another.",
            ExitCode.NOT_FOUND,
        )
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files with their names."""
    files = files_of(path)
    whole = hashlib.sha256()
    for file in files:
        if file != path:
            whole.update(f"{file.relative_to(path).as_posix()}\0".encode())
        try:
            with file.open("rb") as stream:
                part = hashlib.file_digest(stream, "sha256")
        except OSError as error:
            raise _unreadable(str(file), error.strerror or str(error)) from error
        if file == path:
            return part.hexdigest()
        whole.update(part.digest())
    return whole.hexdigest()


def rows(path: Path, name: str | None = None) -> Iterator[Row]:
    """The rows of a file, one after another.

    Args:
        name: what errors call it; by default its path.

    Raises:
        QuantizationError: it cannot be read; the sentence has the file and the line.
    """
    name = name or str(path)
    suffix = kind(path.name) or kind(name)
    if suffix == ".parquet":
        yield from _parquet(path, name)
        return
    try:
        with _opened(path) as stream:
            if suffix in _TEXTS:
                yield from _paragraphs(stream, name)
            elif suffix == ".json":
                yield from _json(stream, name)
            else:
                yield from _json_lines(stream, name)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(name, getattr(error, "strerror", None) or str(error)) from error


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(stream, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise QuantizationError(
                f"{name}:{number} is not UTF-8 ({error.reason}): save the file as UTF-8.",
                ExitCode.DAMAGED,
            ) from error
        yield number, line


def _json_lines(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, line in _lines(stream, name):
        if line.strip():
            yield Row(_parsed(line.rstrip(), name, number), f"{name}:{number}")


def _json(stream: BinaryIO, name: str) -> Iterator[Row]:
    """A list of rows, one row, or a row on each line."""
    numbered = _lines(stream, name)
    start, first = next(((n, line) for n, line in numbered if line.strip()), (0, ""))
    if first.lstrip().startswith("{"):
        try:
            value = json.loads(first)
        except (ValueError, RecursionError):
            pass  # an object over several lines
        else:
            yield Row(value, f"{name}:{start}")
            for number, line in numbered:
                if line.strip():
                    yield Row(_parsed(line.rstrip(), name, number), f"{name}:{number}")
            return
    size, parts = len(first), [first]
    for _, line in numbered:
        size += len(line)
        if size > _MOST_JSON:
            raise QuantizationError(
                f"{name} is one JSON value of more than {_MOST_JSON >> 20} MiB: save it with a row "
                "on each line, as .jsonl.",
                ExitCode.USAGE,
            )
        parts.append(line)
    if not start:
        return
    value = _parsed("".join(parts), name, start)
    if not isinstance(value, list):
        yield Row(value, f"{name}:{start}")
        return
    for number, row in enumerate(value, 1):
        yield Row(row, f"{name}, row {number}")


def _parsed(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        raise QuantizationError(
            f"{name}:{at} is not JSON ({error.msg}, at column {error.colno}): correct or remove "
            "the line.",
            ExitCode.DAMAGED,
        ) from error
    except (ValueError, RecursionError) as error:
        raise QuantizationError(
            f"{name}:{line} is not JSON that can be read ({type(error).__name__}): correct or "
            "remove the line.",
            ExitCode.DAMAGED,
        ) from error


def _paragraphs(stream: BinaryIO, name: str) -> Iterator[Row]:
    held: list[str] = []
    start = 1
    for number, line in _lines(stream, name):
        if line.strip():
            start = start if held else number
            held.append(line.rstrip())
        elif held:
            yield Row("\n".join(held), f"{name}:{start}")
            held = []
    if held:
        yield Row("\n".join(held), f"{name}:{start}")


def _parquet(path: Path, name: str) -> Iterator[Row]:
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise QuantizationError(
            f"{name} is Parquet, which needs the package pyarrow: the quantizers' environments "
            "have it; or save the rows as .jsonl.",
            ExitCode.USAGE,
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            known = [column for column in file.schema_arrow.names if column in COLUMNS]
            for batch in file.iter_batches(batch_size=_BATCH, columns=known or None):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(value, f"{name}, row {number}")
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        where = f" behind row {number}" if number else ""
        raise _unreadable(name + where, " ".join(str(error).split())) from error


def _unreadable(name: str, why: str) -> QuantizationError:
    short = why if len(why) <= 160 else why[:157] + "..."
    return QuantizationError(
        f"{name} cannot be read ({short}): check the file, or fetch it again.", ExitCode.DAMAGED
    )
