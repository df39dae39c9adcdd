"""Labelled lines of one's own: what is read, and what is refused with which sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from yap.screen.dataset import DatasetError, read_dataset, read_datasets

PROBES = Path(__file__).parents[3] / "models" / "training" / "screen"


def _file(folder: Path, text: str, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_last_line_is_judged_after_those_before(tmp_path: Path) -> None:
    (row,) = read_dataset(
        _file(tmp_path, '{"lines": ["hi", "look"], "label": 1, "class": "c", "language": "en"}\n')
    )
    assert (row.utterance, row.earlier, row.label) == ("look", ("hi",), 1)
    assert (row.phrase_class, row.language) == ("c", "en")
    assert row.where == f"{tmp_path}/data.jsonl:1"


def test_conversation_is_judged_line_by_line(tmp_path: Path) -> None:
    rows = read_dataset(_file(tmp_path, '\n{"lines": ["a", "b", "c"], "labels": [0, 1, false]}'))
    assert [(row.earlier, row.utterance, row.label) for row in rows] == [
        ((), "a", 0),
        (("a",), "b", 1),
        (("a", "b"), "c", 0),
    ]
    assert {row.record for row in rows} == {f"{tmp_path}/data.jsonl:2"}
    assert rows[2].where.endswith("data.jsonl:2 turn 3")


def test_text_is_one_line_or_the_lines_it_has(tmp_path: Path) -> None:
    alone, after = read_dataset(
        _file(
            tmp_path,
            '{"text": "look\\u2028here", "label": 1}\n{"text": "hi\\r\\nlook\\n", "label": 1}\n',
        )
    )
    assert (alone.earlier, alone.utterance) == ((), "look\u2028here")
    assert (after.earlier, after.utterance) == (("hi",), "look")


def test_csv_with_a_byte_order_mark_quotes_and_more_columns(tmp_path: Path) -> None:
    text = '\ufeffid,text,label,class,language\n1,"hi, ""you""\nlook",1,c,\n\n2,no,0,,de\n'
    first, second = read_dataset(_file(tmp_path, text, "data.CSV"))
    assert (first.earlier, first.utterance, first.label) == (('hi, "you"',), "look", 1)
    assert (first.phrase_class, first.language) == ("c", None)
    assert (second.phrase_class, second.language, second.label) == (None, "de", 0)
    assert second.where.endswith(":5")
    assert first.where.endswith(":2")


def test_the_project_s_own_probes_are_datasets() -> None:
    data = read_datasets([PROBES / "probe_lines.jsonl", PROBES / "probe_talks.jsonl"])
    assert all(len(rows) >= 1000 for rows in data.values())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ('{"text": "a"}', "it needs"),
        ('{"text": "a", "lable": 1}', "it needs"),
        ('{"text": "a", "lines": ["a"], "label": 1}', "it needs"),
        ('{"text": "a", "labels": [1]}', 'beside "text" write "label"'),
        ('{"text": " ", "label": 1}', "not empty"),
        ('{"text": 5, "label": 1}', "must be a string"),
        ('{"lines": [], "label": 1}', "list of strings"),
        ('{"lines": "a", "label": 1}', "list of strings"),
        ('{"lines": ["a", ""], "label": 1}', "is empty"),
        ('{"lines": ["a"], "labels": 1}', "for each line"),
        ('{"lines": ["a"], "labels": [1, 0]}', '"lines" has 1 lines and "labels" 2'),
        ('{"lines": ["a"], "labels": [2]}', "label 1 is 2"),
        ('{"text": "a", "label": "yes"}', "write 1 where"),
        ('{"text": "a", "label": 0.5}', "write 1 where"),
        ('{"text": "a", "label": null}', "write 1 where"),
        ('{"text": "a", "label": 1, "class": 3}', '"class" is 3'),
    ],
)
def test_malformed_line_is_named_with_what_to_change(tmp_path: Path, line: str, says: str) -> None:
    path = _file(tmp_path, f'{{"text": "fine", "label": 0}}\n{line}\n')
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert says in str(caught.value)


def test_first_few_problems_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset(_file(tmp_path, "{}\n" * 9))
    told = str(caught.value).splitlines()
    assert [f"line {i}" in told[i - 1] for i in range(1, 6)] == [True] * 5
    assert told[5:] == ["... and 4 more lines"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text,lable\na,1\n", "line 1: there is no column label"),
        ("a,b\n", "no column text and no column label"),
        ("text,label\nfine,0\na,maybe\n", "line 3: label is 'maybe'"),
        ("text,label\na,\n", "line 2: it needs"),
        ("text,label\na, b,1\n", "line 2: it has more cells"),
        ('text,label\n"a"b,1\n', "line 2: it is not CSV"),
        ("text,label\n", "has no rows"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        read_dataset(_file(tmp_path, text, "data.csv"))


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_dataset(tmp_path / "none.jsonl")
    with pytest.raises(DatasetError, match="has no rows"):
        read_dataset(_file(tmp_path, "\n"))
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"text": "a", "label": 0}\n{"text": "\xe9", "label": 0}\n')
    with pytest.raises(DatasetError, match="line 2: it is not UTF-8"):
        read_dataset(path)


def test_same_file_twice_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, '{"text": "a", "label": 0}')
    with pytest.raises(DatasetError, match="twice"):
        read_datasets([path, path])
