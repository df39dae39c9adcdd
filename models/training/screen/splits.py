"""Places whole phrasing families into train, validation and test."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import Literal

from models.training.screen.grammar import Family
from models.training.screen.normal import normalise

Split = Literal["train", "validation", "test"]
# In the order in which they claim a text that several have.
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

TEST_SHARE = 0.12
VALIDATION_SHARE = 0.07


def split_families(families: tuple[Family, ...]) -> dict[Split, tuple[Family, ...]]:
    """Divide each class's families: 12 % test, 7 % validation, at least one each, rest train.

    The order within a class is that of a hash of the family's id, so nobody picks; families pinned
    to training are left out of the draw. Where a class has both labels, its test share holds both.
    A template that also stands in an earlier split, in the same normal form, is dropped from the
    later one, and with its last template the family.
    """
    by_class: dict[str, list[Family]] = defaultdict(list)
    for family in families:
        by_class[family.phrase_class].append(family)
    placed: dict[Split, list[Family]] = {split: [] for split in SPLITS}
    for members in by_class.values():
        for split, family in _place(members):
            placed[split].append(family)
    return _without_repeats(placed)


def _without_repeats(placed: dict[Split, list[Family]]) -> dict[Split, tuple[Family, ...]]:
    earlier: set[str] = set()
    out: dict[Split, tuple[Family, ...]] = {}
    for split in SPLITS:
        fresh = (_without(family, earlier) for family in placed[split])
        out[split] = tuple(family for family in fresh if family.templates)
        earlier |= {normalise(t.source) for family in out[split] for t in family.templates}
    return out


def _without(family: Family, forms: set[str]) -> Family:
    kept = tuple(t for t in family.templates if normalise(t.source) not in forms)
    return family if len(kept) == len(family.templates) else replace(family, templates=kept)


def _place(members: list[Family]) -> list[tuple[Split, Family]]:
    free = sorted((f for f in members if not f.pinned), key=_draw_order)
    pinned = [f for f in members if f.pinned]
    n_test = max(1, round(TEST_SHARE * len(members)))
    n_validation = max(1, round(VALIDATION_SHARE * len(members)))
    labels = {t.label for f in members for t in f.templates}
    test = _take(free, n_test, labels)
    rest = [f for f in free if f not in test]
    validation = _take(rest, n_validation, labels)
    train = pinned + [f for f in rest if f not in validation]
    out: list[tuple[Split, Family]] = [("test", f) for f in test]
    out += [("validation", f) for f in validation]
    out += [("train", f) for f in train]
    return out


def _take(queue: list[Family], count: int, labels: set[int]) -> list[Family]:
    """The first `count` families, plus the first ones needed to see every label of the class."""
    taken = queue[:count]
    for family in queue[count:]:
        missing = labels - {t.label for f in taken for t in f.templates}
        if not missing:
            break
        if missing & {t.label for t in family.templates}:
            taken.append(family)
    return taken


def _draw_order(family: Family) -> str:
    return hashlib.sha256(family.id.encode()).hexdigest()
