"""Places whole phrasing families into train, validation and test."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Literal

from models.training.screen.grammar import Family

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

TEST_SHARE = 0.12
VALIDATION_SHARE = 0.07


def split_families(families: tuple[Family, ...]) -> dict[Split, tuple[Family, ...]]:
    """Divide each class's families: 12 % test, 7 % validation, at least one each, rest train.

    The order within a class is that of a hash of the family's id, so nobody picks; families pinned
    to training are left out of the draw. Where a class has both labels, its test share holds both.
    """
    by_class: dict[str, list[Family]] = defaultdict(list)
    for family in families:
        by_class[family.phrase_class].append(family)
    placed: dict[Split, list[Family]] = {split: [] for split in SPLITS}
    for members in by_class.values():
        for split, family in _place(members):
            placed[split].append(family)
    return {split: tuple(members) for split, members in placed.items()}


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
