"""Whole conversations: the user's lines in order, each labelled, for judging lines in context.

A file in `talks/` holds conversations divided by blank lines:

    - an earlier line that does not ask for the screen
    + a line that does (right now|)

A line may hold `(a|b)` alternatives, as in the grammar. A conversation belongs to one split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.training.screen.grammar import GrammarError, Sequence, parse
from models.training.screen.splits import TEST_SHARE, VALIDATION_SHARE, Split

TALKS_DIR = Path(__file__).parent / "talks"


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation. labels: for each line, 1 if it asks for a look."""

    id: str
    lines: tuple[Sequence, ...]
    labels: tuple[int, ...]


def load_talks(directory: Path = TALKS_DIR) -> tuple[Talk, ...]:
    """Read every file, in name order. Raises GrammarError with file and line."""
    talks: list[Talk] = []
    for path in sorted(directory.glob("*.txt")):
        blocks = path.read_text(encoding="utf-8").split("\n\n")
        read = (_talk(f"{path.stem}/{number}", block) for number, block in enumerate(blocks))
        talks.extend(talk for talk in read if talk.lines)
    return tuple(talks)


def _talk(name: str, block: str) -> Talk:
    lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if line[:2] not in ("+ ", "- "):
            raise GrammarError(f"talk {name}: {line!r} must start with '+ ', '- ' or '#'")
    return Talk(
        name,
        tuple(parse(line[2:].strip()) for line in lines),
        tuple(int(line[0] == "+") for line in lines),
    )


def split_talks(talks: Iterable[Talk]) -> dict[Split, tuple[Talk, ...]]:
    """Divide the conversations, in the order of a hash of their ids, so that nobody picks."""
    drawn = sorted(talks, key=lambda talk: hashlib.sha256(talk.id.encode()).hexdigest())
    test = round(TEST_SHARE * len(drawn))
    validation = test + round(VALIDATION_SHARE * len(drawn))
    return {
        "test": tuple(drawn[:test]),
        "validation": tuple(drawn[test:validation]),
        "train": tuple(drawn[validation:]),
    }
