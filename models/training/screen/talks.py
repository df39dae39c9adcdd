"""Whole conversations: the user's lines in order, each labelled, for judging lines in context.

A file in `talks/` holds conversations divided by blank lines:

    - an earlier line that does not ask for the screen
    + a line that does (right now|)

A line may hold `(a|b)` alternatives, as in the grammar. A conversation belongs to one split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.training.screen.grammar import GrammarError, Sequence, parse
from models.training.screen.normal import normalise
from models.training.screen.splits import SPLITS, TEST_SHARE, VALIDATION_SHARE, Split

TALKS_DIR = Path(__file__).parent / "talks"


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation. labels: for each line, 1 if it asks for a look. source: as written."""

    id: str
    lines: tuple[Sequence, ...]
    labels: tuple[int, ...]
    source: str


def load_talks(directory: Path = TALKS_DIR) -> tuple[Talk, ...]:
    """Read every file, in name order. Raises GrammarError with file and line."""
    return tuple(talk for path in sorted(directory.glob("*.txt")) for talk in _load_file(path))


def _load_file(path: Path) -> Iterator[Talk]:
    first = 1
    for index, block in enumerate(path.read_text(encoding="utf-8").split("\n\n")):
        talk = _talk(f"{path.stem}/{index}", block, path.name, first)
        if talk.lines:
            yield talk
        first += block.count("\n") + 2


def _talk(name: str, block: str, file: str, first: int) -> Talk:
    """The conversation of a block whose first line is line `first` of its file."""
    sources: list[str] = []
    lines: list[Sequence] = []
    labels: list[int] = []
    for number, line in enumerate(block.splitlines(), start=first):
        if not line.strip() or line.startswith("#"):
            continue
        mark, source = line[:2], line[2:].strip()
        if mark not in ("+ ", "- ") or not source:
            raise GrammarError(
                f"{file}, line {number}: {line!r} must be '+ ' or '- ' and a text, or a comment "
                "after '#'"
            )
        try:
            lines.append(parse(source))
        except GrammarError as error:
            raise GrammarError(f"{file}, line {number}: {error}") from error
        sources.append(source)
        labels.append(int(mark == "+ "))
    return Talk(name, tuple(lines), tuple(labels), "\n".join(sources))


def split_talks(talks: Iterable[Talk]) -> dict[Split, tuple[Talk, ...]]:
    """Divide the conversations, in the order of a hash of their ids, so that nobody picks.

    One that also stands in an earlier split, in the same normal form, is dropped from the later.
    """
    drawn = sorted(talks, key=lambda talk: hashlib.sha256(talk.id.encode()).hexdigest())
    test = round(TEST_SHARE * len(drawn))
    validation = test + round(VALIDATION_SHARE * len(drawn))
    placed: dict[Split, list[Talk]] = {
        "test": drawn[:test],
        "validation": drawn[test:validation],
        "train": drawn[validation:],
    }
    earlier: set[str] = set()
    out: dict[Split, tuple[Talk, ...]] = {}
    for split in SPLITS:
        out[split] = tuple(t for t in placed[split] if normalise(t.source) not in earlier)
        earlier |= {normalise(talk.source) for talk in out[split]}
    return out
