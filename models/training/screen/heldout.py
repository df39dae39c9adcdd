"""The sets that a finished classifier is judged on: what was held out, and the three probes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

from models.training.screen import data
from models.training.screen.data import CORE_OF_TALK, TALK, held_out, rows, stream
from models.training.screen.grammar import (
    TURN_SEPARATOR,
    Lexicon,
    Sequence,
    expand,
    load_families,
    load_lexicon,
    tidy,
)
from models.training.screen.normal import normalise
from models.training.screen.splits import split_families
from models.training.screen.talks import load_talks, split_talks
from yap.screen.dataset import Row, read_dataset

PROBES: Mapping[str, Path] = MappingProxyType(
    {
        name: Path(__file__).parent / f"{name}.jsonl"
        for name in ("probe", "probe_lines", "probe_talks")
    }
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What training and validation drew.

    cores: normal forms of the scripted lines. lines: those of every line that training's templates
    and conversations have, as written. trained_on: training rows by class.
    """

    cores: frozenset[str]
    lines: frozenset[str]
    trained_on: Mapping[str, int]

    def has(self, row: Row) -> bool:
        """Whether training may have met this line, alone or after these earlier ones."""
        lines = (*row.earlier, row.utterance)
        core = normalise("\n".join(lines if row.turn is None else lines[-CORE_OF_TALK:]))
        alone = normalise(row.utterance)
        return core in self.cores or alone in self.cores or alone in self.lines


@dataclass(frozen=True, slots=True)
class Draw:
    """What a training run drew."""

    train_rows: int
    validation_rows: int
    seed: int


def drawn_for_training(*draws: Draw) -> Drawn:
    """Draw the rows of training runs again, to know what is a near-duplicate of them."""
    cores: set[str] = set()
    trained_on: Counter[str] = Counter()
    for draw in draws:
        for row in stream("train", draw.train_rows, draw.seed):
            cores.add(row.core)
            trained_on[row.phrase_class] += 1
        cores |= {row.core for row in stream("validation", draw.validation_rows, draw.seed)}
    return Drawn(frozenset(cores), _training_lines(), dict(sorted(trained_on.items())))


def _training_lines() -> frozenset[str]:
    families, talks = split_families(load_families()), split_talks(load_talks())
    lines = [
        line
        for family in families["train"]
        for template in family.templates
        for line in template.source.split(TURN_SEPARATOR)
    ]
    lines += [line for talk in talks["train"] for line in talk.source.split("\n")]
    return frozenset(map(normalise, lines))


def held_out_sets(cores: frozenset[str], count: int, seed: int) -> dict[str, list[Row]]:
    """What no training row had, by name.

    families, talk_rows: of `count` rows of the test split, drawn as training rows are, those from
    templates and those from conversations. templates: each held-out template once, as written.
    talks: every line of the held-out conversations, as written. Rows with a core in `cores` are
    left out of the first three; a conversation is kept whole.
    """
    drawn = held_out(rows("test", count, seed), set(cores))
    return {
        "families": [_judged(row) for row in drawn if row.phrase_class != TALK],
        "templates": _templates(cores, seed),
        "talk_rows": [_judged(row) for row in drawn if row.phrase_class == TALK],
        "talks": _talks(seed),
    }


def probe_sets() -> dict[str, list[Row]]:
    """The probes, written by hand without a look at the phrasings, by name.

    Raises:
        DatasetError: one cannot be read.
    """
    return {name: read_dataset(path) for name, path in PROBES.items()}


def _judged(row: data.Row) -> Row:
    *earlier, utterance = row.text.split("\n")
    return Row(utterance, tuple(earlier), row.label, row.phrase_class, None, row.family)


def _templates(cores: frozenset[str], seed: int) -> list[Row]:
    lexicon = load_lexicon(training=False)
    out: list[Row] = []
    for family in split_families(load_families())["test"]:
        for number, template in enumerate(family.templates):
            rng = Random(f"{seed}/{family.id}/{number}")
            lines = _written(expand(template.body, lexicon, rng).split(TURN_SEPARATOR))
            if normalise("\n".join(lines)) not in cores:
                out.append(
                    Row(lines[-1], lines[:-1], template.label, family.phrase_class, None, family.id)
                )
    return out


def _talks(seed: int) -> list[Row]:
    lexicon = load_lexicon(training=False)
    out: list[Row] = []
    for talk in split_talks(load_talks())["test"]:
        lines = _said(talk.lines, lexicon, Random(f"{seed}/{talk.id}"))
        out += [
            Row(lines[i], lines[:i], label, TALK, None, talk.id, i + 1)
            for i, label in enumerate(talk.labels)
        ]
    return out


def _said(lines: Iterable[Sequence], lexicon: Lexicon, rng: Random) -> tuple[str, ...]:
    return _written(expand(line, lexicon, rng) for line in lines)


def _written(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(tidy(line) for line in lines)
