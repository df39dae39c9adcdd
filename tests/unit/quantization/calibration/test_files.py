"""Rows from files: each kind, each fault with its file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from quantization.calibration.files import digest, files_of, rows
from quantization.errors import ExitCode, QuantizationError


def values(path: Path) -> list[Any]:
    return [row.value for row in rows(path)]


def places(path: Path) -> list[str]:
    return [row.place.rpartition("/")[2] for row in rows(path)]


def refused(path: Path) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        list(rows(path))
    assert "\n" not in caught.value.message
    return caught.value


def test_json_lines_with_a_mark_blank_lines_and_windows_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "one"}\r\n\r\n{"text": "zwölf"}\r\n"three"'.encode())
    assert values(path) == [{"text": "one"}, {"text": "zwölf"}, "three"]
    assert places(path) == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:4"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"text": "one"},\n {"text": "two"}]', ["a.json, row 1", "a.json, row 2"]),
        ('{"text": "one"}\n{"text": "two"}\n', ["a.json:1", "a.json:2"]),
        ('{\n "text": "one"\n}\n', ["a.json:1"]),
        ('\n\n["one", "two"]', ["a.json, row 1", "a.json, row 2"]),
        ("", []),
        ("[]", []),
    ],
)
def test_json_as_people_save_it(tmp_path: Path, content: str, found: list[str]) -> None:
    (tmp_path / "a.json").write_text(content)
    assert places(tmp_path / "a.json") == found


def test_paragraphs_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\none\nstill one\n\n \n\ntwo  \n")
    assert values(tmp_path / "a.txt") == ["one\nstill one", "two"]
    assert places(tmp_path / "a.txt") == ["a.txt:2", "a.txt:7"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_gzip_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b'{"text": "one"}\n'))
    assert values(tmp_path / name) == [{"text": "one"}]


def test_a_line_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"\n')
    error = refused(path)
    assert error.message.startswith(f"{path}:2 is not JSON (Expecting ',' delimiter")
    assert error.code is ExitCode.DAMAGED


def test_a_list_with_a_fault_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\n[{"text": "one"},\n {"text" "two"}]')
    assert f"{path}:3 is not JSON" in refused(path).message


def test_nesting_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"one"\n' + "[" * 200_000 + "\n")
    assert f"{path}:2 is not JSON" in refused(path).message


def test_a_line_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("eins\nzwölf\n".encode("latin-1"))
    assert refused(path).message.startswith(f"{path}:2 is not UTF-8")


def test_a_gzip_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n' * 1000)[:-20])
    error = refused(path)
    assert str(path) in error.message and error.code is ExitCode.DAMAGED


def test_a_folder_is_its_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jsonl", "c/d.json", ".hidden.txt", ".git/e.txt", "f.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    found = [path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path)]
    assert found == ["a.jsonl", "b.txt", "c/d.json"]


@pytest.mark.parametrize(("name", "says"), [("a.csv", "no kind"), ("empty/", "holds no")])
def test_what_holds_no_rows(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("a,b\n")
    with pytest.raises(QuantizationError, match=says):
        files_of(path)


def test_a_digest_follows_contents_and_names_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two", "three")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / ("b.txt" if number == 2 else "a.txt")).write_text("text")
        (folder / "ignored.png").write_text(str(number))
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "three")
    (tmp_path / "two" / "a.txt").write_text("texts")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    talk = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    table = pyarrow.table({"conversations": [talk] * 600, "unused": list(range(600))})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, row_group_size=100)
    assert values(path) == [{"conversations": talk}] * 600  # only the columns that are read
    assert list(rows(path))[599].place == f"{path}, row 600"


def test_parquet_that_is_cut_off_or_something_else(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a" * 100] * 1000}), path)
    for content in (path.read_bytes()[:-100], b"", json.dumps({"text": "a"}).encode()):
        path.write_bytes(content)
        error = refused(path)
        assert error.message.startswith(f"{path} cannot be read")
        assert error.code is ExitCode.DAMAGED


def test_parquet_where_nothing_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    error = refused(tmp_path / "a.parquet")
    assert "pyarrow" in error.message and error.code is ExitCode.USAGE
