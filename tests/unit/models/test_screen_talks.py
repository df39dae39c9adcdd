"""The classifier's conversations: how they are read, split and filled in."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from models.training.screen.grammar import GrammarError, expand, load_lexicon, tidy
from models.training.screen.normal import normalise
from models.training.screen.splits import SPLITS
from models.training.screen.talks import Talk, load_talks, split_talks


def _load(tmp_path: Path, text: str) -> tuple[Talk, ...]:
    (tmp_path / "kitchen.txt").write_text(text, encoding="utf-8")
    return load_talks(tmp_path)


def test_blank_lines_divide_conversations(tmp_path: Path) -> None:
    text = (
        "# bread\n- hi (there|)\n+ is it done?\n\n# only a note\n\n- hello\n# in between\n- bye\n"
    )
    first, second = _load(tmp_path, text)
    assert (first.id, second.id) == ("kitchen/0", "kitchen/2")
    assert (first.labels, second.labels) == ((0, 1), (0, 0))
    assert first.source == "hi (there|)\nis it done?"
    spoken = {tidy(expand(first.lines[0], {}, Random(n))) for n in range(20)}
    assert spoken == {"hi", "hi there"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- hi\nlook at this\n", 2),
        ("# note\n-hi\n", 2),
        ("- hi\n+ \n", 2),
        ("- hi\n\n\n- bye\n+ and (this|that?\n", 5),
        ("- hi\n- bye\n\n# two\n- hello\n\n+ look) here\n", 7),
    ],
)
def test_error_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(GrammarError, match=rf"^kitchen\.txt, line {line}: "):
        _load(tmp_path, text)


def test_conversation_belongs_to_one_split_only() -> None:
    talks = load_talks()
    assert len({talk.id for talk in talks}) == len(talks)
    placed = split_talks(talks)
    assert split_talks(reversed(talks)) == placed
    everywhere = [talk.id for split in SPLITS for talk in placed[split]]
    assert len(everywhere) == len(set(everywhere))
    forms = [{normalise(talk.source) for talk in placed[split]} for split in SPLITS]
    assert not forms[0] & (forms[1] | forms[2])
    assert not forms[1] & forms[2]
    assert len(placed["test"]) >= 0.1 * len(talks)
    assert len(placed["validation"]) >= 0.05 * len(talks)


def test_same_conversation_twice_stays_in_the_earlier_split(tmp_path: Path) -> None:
    text = "\n\n".join(f"- Hi, {'!' * n}there\n+ look" for n in range(100))
    placed = split_talks(_load(tmp_path, text))
    assert [len(placed[split]) for split in SPLITS] == [81, 0, 0]


def test_every_line_expands_with_either_lexicon() -> None:
    for training in (True, False):
        lexicon = load_lexicon(training=training)
        for talk in load_talks():
            for line in talk.lines:
                text = tidy(expand(line, lexicon, Random(talk.id)))
                assert text, talk.id
                assert not set("{}|()") & set(text), (talk.id, text)
