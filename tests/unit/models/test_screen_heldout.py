"""What the classifier is judged on: nothing that training drew, and the probes."""

from __future__ import annotations

import pytest

from models.training.screen.data import TALK
from models.training.screen.grammar import load_families
from models.training.screen.heldout import (
    Draw,
    Drawn,
    drawn_for_training,
    held_out_sets,
    probe_sets,
)
from models.training.screen.inventory import inventory
from models.training.screen.normal import normalise
from models.training.screen.splits import SPLITS, split_families
from models.training.screen.talks import load_talks, split_talks
from yap.screen.dataset import Row


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return drawn_for_training(Draw(4000, 500, seed=0))


@pytest.fixture(scope="module")
def sets(drawn: Drawn) -> dict[str, list[Row]]:
    return held_out_sets(drawn.cores, 1200, seed=0)


def test_same_seed_gives_the_same_sets(drawn: Drawn, sets: dict[str, list[Row]]) -> None:
    assert held_out_sets(drawn.cores, 1200, seed=0) == sets


def test_rows_as_drawn_are_divided_by_where_they_come_from(sets: dict[str, list[Row]]) -> None:
    assert {row.phrase_class for row in sets["talk_rows"]} == {TALK}
    assert TALK not in {row.phrase_class for row in sets["families"]}
    assert 900 < len(sets["families"]) + len(sets["talk_rows"]) <= 1200


def test_templates_are_the_held_out_ones_once_each(sets: dict[str, list[Row]]) -> None:
    families = {family.id: family for family in split_families(load_families())["test"]}
    for row in sets["templates"]:
        assert row.phrase_class == families[row.record].phrase_class
        assert not set("{}|") & set(row.utterance)
    count = sum(len(family.templates) for family in families.values())
    assert 0.95 * count < len(sets["templates"]) <= count


def test_template_that_training_drew_is_left_out(sets: dict[str, list[Row]]) -> None:
    row = next(row for row in sets["templates"] if not row.earlier)
    alone = Drawn(frozenset({"x"}), frozenset(), {})
    assert not alone.has(row)
    core = normalise(row.utterance)
    assert Drawn(frozenset({core}), frozenset(), {}).has(row)
    assert Drawn(frozenset(), frozenset({core}), {}).has(row)
    assert row not in held_out_sets(frozenset({core}), 0, seed=0)["templates"]


def test_conversations_are_judged_line_by_line(sets: dict[str, list[Row]]) -> None:
    talks = {talk.id: talk for talk in split_talks(load_talks())["test"]}
    assert len(sets["talks"]) == sum(len(talk.lines) for talk in talks.values())
    for row in sets["talks"]:
        assert row.turn == len(row.earlier) + 1
        assert row.label == talks[row.record].labels[row.turn - 1]


def test_probes_are_all_there() -> None:
    probes = probe_sets()
    assert {name: len(rows) for name, rows in probes.items()} == {
        "probe": 182,
        "probe_lines": 1000,
        "probe_talks": 1237,
    }


def test_inventory_counts_what_the_splits_hold() -> None:
    counted, families = inventory(), load_families()
    templates = sum(len(family.templates) for family in families)
    kept = sum(counted.splits[split].templates for split in SPLITS)
    assert kept + counted.dropped_templates == templates
    assert counted.dropped_templates > 0
    assert counted.classes == 24
    assert sum(counted.splits[split].conversations for split in SPLITS) == len(load_talks())
    train, test = counted.splits["train"], counted.splits["test"]
    assert counted.words > train.words > test.words
    assert test.pinned == 0
