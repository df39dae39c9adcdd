"""The grammar's files: classes by slash, and errors that say where."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.training.screen.grammar import GrammarError, load_families, parse


def _folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "lexicon.txt").write_text("colour: red, blue\n", encoding="utf-8")
    (tmp_path / "frames.txt").write_text(text, encoding="utf-8")
    return tmp_path


def test_class_is_the_file_s_or_what_stands_before_the_slash(tmp_path: Path) -> None:
    text = """
# a comment
@ plain
+ look at this
@ spatial/left_side train
- it is on the left
+ what is on the left (here|)?
"""
    plain, named = load_families(_folder(tmp_path, text))
    assert (plain.id, plain.phrase_class, plain.name) == ("frames/plain", "frames", "plain")
    assert (named.id, named.phrase_class, named.name) == (
        "spatial/left_side", "spatial", "left_side",
    )  # fmt: skip
    assert not plain.pinned
    assert named.pinned
    assert [(t.source, t.label) for t in named.templates] == [
        ("it is on the left", 0),
        ("what is on the left (here|)?", 1),
    ]


def test_family_without_templates_is_left_out(tmp_path: Path) -> None:
    assert load_families(_folder(tmp_path, "@ single/empty\n# nothing yet\n")) == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("@ one\n+ fine\n* what is this\n", 3),
        ("@ one\n\n# note\n+ look at (this|that\n", 4),
        ("@ one\n- look) here\n", 2),
        ("@ one\n+\n", 2),
        ("# note\n+ look at this\n", 2),
        ("@ /one\n+ look\n", 1),
        ("@ single/\n+ look\n", 1),
        ("@ single/one/two\n+ look\n", 1),
        ("@ one test\n+ look\n", 1),
    ],
)
def test_error_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(GrammarError, match=rf"^frames\.txt, line {line}: "):
        load_families(_folder(tmp_path, text))


def test_unbalanced_template_is_refused() -> None:
    with pytest.raises(GrammarError, match="missing"):
        parse("look at (this|that")
    with pytest.raises(GrammarError, match="unbalanced"):
        parse("look at this) now")
