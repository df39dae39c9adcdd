"""Draws labelled conversations from the grammar: the user's earlier lines, then the line judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from random import Random

from models.training.screen.grammar import (
    TURN_SEPARATOR,
    Family,
    Lexicon,
    Template,
    expand,
    load_families,
    load_lexicon,
    tidy,
)
from models.training.screen.noise import surface, typed
from models.training.screen.normal import normalise
from models.training.screen.splits import SPLITS, Split, split_families
from models.training.screen.talks import Talk, load_talks, split_talks

# The class of rows that are lines of a conversation.
TALK = "talk"
POSITIVE_SHARE = 0.32
# Of the rows, so many are a line of a whole conversation, with all that was said before it.
TALK_SHARE = 0.42
# A line that is not elliptic needs no more than this many lines before it to be understood.
_CONTEXT_LINES = 8
# Of a conversation, so many lines make a near-duplicate.
CORE_OF_TALK = 3
CHUNK_ROWS = 4000
REPEATS_OF_ONE_CORE = 3
# Classes that need more rows than the rest: the two everyday ones, and those where a small model
# errs most.
CLASS_WEIGHT = {
    "small_talk": 3.0, "single": 2.5, "visual_request": 2.0, "non_visual": 2.0, "negation": 1.5,
    "context": 1.6, "idioms": 1.3, "multi_turn": 1.3, "multilingual": 0.5, "long_multi_turn": 0.7,
}  # fmt: skip
_SCRIPTED = ("context", "multi_turn")


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled conversation.

    text: the user's lines, oldest first, newline-joined; the last one is judged.
    core: the scripted lines in a normal form, for finding near-duplicates.
    """

    text: str
    label: int
    phrase_class: str
    family: str
    core: str


@dataclass(frozen=True)
class Sampler:
    """Everything needed to draw rows of one split."""

    lexicon: Lexicon
    choices: dict[int, list[tuple[str, list[tuple[Family, list[Template]]]]]]
    weights: dict[int, list[float]]
    talks: tuple[Talk, ...]

    def template(self, rng: Random, label: int) -> tuple[Family, Template]:
        """Draw a class by weight, then a family, then a template, each with the given label."""
        _, families = rng.choices(self.choices[label], weights=self.weights[label])[0]
        family, templates = rng.choice(families)
        return family, rng.choice(templates)

    def passage(self, rng: Random, label: int) -> list[str]:
        """One utterance, or a few that belong together, for use as history."""
        while True:
            family, template = self.template(rng, label)
            if family.phrase_class not in (*_SCRIPTED, "multilingual"):
                lines = expand(template.body, self.lexicon, rng).split(TURN_SEPARATOR)
                return [tidy(line) for line in lines]

    def line(self, rng: Random, label: int) -> str:
        """One utterance for use as a second clause."""
        while True:
            lines = self.passage(rng, label)
            if len(lines) == 1:
                return lines[0]


@cache
def sampler(split: Split) -> Sampler:
    """The sampler of one split; built once a process."""
    families = split_families(load_families())[split]
    choices: dict[int, dict[str, list[tuple[Family, list[Template]]]]] = {0: {}, 1: {}}
    for family in families:
        for label in (0, 1):
            templates = [t for t in family.templates if t.label == label]
            if templates:
                choices[label].setdefault(family.phrase_class, []).append((family, templates))
    listed = {label: list(by_class.items()) for label, by_class in choices.items()}
    weights = {
        label: [CLASS_WEIGHT.get(name, 1.0) * len(members) ** 0.5 for name, members in items]
        for label, items in listed.items()
    }
    talks = split_talks(load_talks())[split]
    return Sampler(load_lexicon(training=split == "train"), listed, weights, talks)


def draw(source: Sampler, rng: Random) -> Row:
    """Draw one row: a line of a conversation, or a scripted core behind random history."""
    label = int(rng.random() < POSITIVE_SHARE)
    if rng.random() < TALK_SHARE:
        return _draw_from_talk(source, label, rng)
    family, template = source.template(rng, label)
    scripted = [tidy(line) for line in _scripted_lines(source, template, rng)]
    lines = [typed(line, rng) for line in scripted[:-1]]
    lines.append(_last_line(source, family, scripted[-1], label, rng))
    history = [
        typed(line, rng)
        for _ in range(_history_length(family.phrase_class, rng))
        for line in source.passage(rng, _history_label(family, rng))
    ]
    return Row("\n".join(history + lines), label, family.phrase_class, family.id,
               normalise("\n".join(scripted)))  # fmt: skip


def _draw_from_talk(source: Sampler, label: int, rng: Random) -> Row:
    while True:
        talk = rng.choice(source.talks)
        steps = [step for step, of in enumerate(talk.labels) if of == label]
        if steps:
            break
    step = rng.choice(steps)
    begin = 0 if rng.random() < 0.6 else rng.randint(0, max(0, step - _CONTEXT_LINES))
    lines = [tidy(expand(line, source.lexicon, rng)) for line in talk.lines[begin : step + 1]]
    history: list[str] = []
    if rng.random() < 0.15:
        for _ in range(rng.randint(1, 12)):
            history += source.passage(rng, int(rng.random() < 0.2))
    text = "\n".join(typed(line, rng, careful=True) for line in (*history, *lines))
    core = normalise("\n".join(lines[-CORE_OF_TALK:]))
    return Row(text, label, TALK, f"{TALK}/{talk.id}/{step}", core)


def _scripted_lines(source: Sampler, template: Template, rng: Random) -> list[str]:
    return expand(template.body, source.lexicon, rng).split(TURN_SEPARATOR)


def _last_line(source: Sampler, family: Family, line: str, label: int, rng: Random) -> str:
    if family.phrase_class == "multilingual":
        return line
    # Short answers and follow-ups mean what they mean right after the line before.
    if family.phrase_class not in (*_SCRIPTED, "long_multi_turn", "reactions", "control"):
        if rng.random() < 0.10:
            joint = rng.choice((". ", ", ", " and ", " so ", ". so ", "! "))
            line = f"{source.line(rng, 0).rstrip('?!.')}{joint}{line}"
        elif rng.random() < 0.04:
            joint = rng.choice((". ", ", ", ", "))
            line = f"{line.rstrip('?!.')}{joint}{source.line(rng, 0)}"
    return surface(line, rng, is_request=bool(label))


def _history_label(family: Family, rng: Random) -> int:
    if family.phrase_class in _SCRIPTED:
        return 0
    return int(rng.random() < 0.2)


def _history_length(phrase_class: str, rng: Random) -> int:
    if phrase_class == "long_multi_turn":
        return rng.randint(24, 110)
    draw = rng.random()
    if phrase_class in _SCRIPTED:
        return 0 if draw < 0.6 else rng.randint(1, 8)
    if draw < 0.5:
        return 0
    if draw < 0.82:
        return rng.randint(1, 4)
    return rng.randint(5, 14) if draw < 0.97 else rng.randint(15, 50)


def rows(split: Split, count: int, seed: int, workers: int = 1) -> list[Row]:
    """Draw `count` rows of one split; the same for every number of workers."""
    if workers <= 1:
        return list(stream(split, count, seed))
    with ProcessPoolExecutor(workers) as pool:
        drawn = pool.map(_draw_chunk, _chunks(split, count, seed))
        return [row for part in drawn for row in part]


def stream(split: Split, count: int, seed: int) -> Iterator[Row]:
    """The rows of `rows`, of which no more than a chunk is in memory at a time."""
    for chunk in _chunks(split, count, seed):
        yield from _draw_chunk(chunk)


def _chunks(split: Split, count: int, seed: int) -> list[tuple[Split, int, str]]:
    return [
        (split, min(CHUNK_ROWS, count - start), f"{seed}/{split}/{start}")
        for start in range(0, count, CHUNK_ROWS)
    ]


def _draw_chunk(chunk: tuple[Split, int, str]) -> list[Row]:
    split, count, seed = chunk
    rng, source = Random(seed), sampler(split)
    return [draw(source, rng) for _ in range(count)]


def held_out(kept: Iterable[Row], against: set[str]) -> list[Row]:
    """Drop rows whose core is in `against`, and a fourth or later use of one core."""
    seen: Counter[str] = Counter()
    out: list[Row] = []
    for row in kept:
        seen[row.core] += 1
        if row.core not in against and seen[row.core] <= REPEATS_OF_ONE_CORE:
            out.append(row)
    return out


def dataset(counts: dict[Split, int], seed: int, workers: int = 1) -> dict[Split, list[Row]]:
    """Draw the three splits. Near-duplicates are removed from validation and test, which makes
    those two harder and leaves the everyday phrasings in training."""
    against: set[str] = set()
    out: dict[Split, list[Row]] = {}
    for split in SPLITS:
        drawn = rows(split, counts[split], seed, workers)
        out[split] = drawn if split == "train" else held_out(drawn, against)
        against |= {row.core for row in drawn}
    return out
