"""The demo screenshot classifier: its generated data keep their promises, and the model answers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from models.training.screen.data import TALK, TALK_SHARE, dataset, rows
from models.training.screen.grammar import (
    Family,
    Template,
    expand,
    load_families,
    load_lexicon,
    parse,
    tidy,
)
from models.training.screen.normal import normalise
from models.training.screen.predict import Predictor
from models.training.screen.probe import load_probe
from models.training.screen.splits import SPLITS, split_families
from models.training.screen.talks import load_talks, split_talks

MODEL = Path(__file__).parents[3] / "models" / "yap-screen-demo"

CLASSES = frozenset(
    (
        "single", "weird_nouns", "quantities", "past_narration",
        "capability", "measurements", "visual_request", "non_visual",
        "negation", "spatial", "idioms", "code",
        "here", "read_translate", "multilingual", "hypothetical",
        "meta", "typos", "context", "multi_turn",
        "long_multi_turn", "reactions", "small_talk", "control",
    )
)  # fmt: skip


def test_same_seed_gives_the_same_rows() -> None:
    assert rows("train", 300, seed=7) == rows("train", 300, seed=7)
    assert rows("train", 300, seed=7) != rows("train", 300, seed=8)


def test_number_of_workers_does_not_change_the_rows() -> None:
    assert rows("test", 4200, seed=3, workers=2) == rows("test", 4200, seed=3, workers=1)


def test_families_belong_to_one_split_only() -> None:
    families = load_families()
    ids = {family.id for family in families}
    assert len(ids) == len(families)
    placed = split_families(families)
    everywhere = [family.id for members in placed.values() for family in members]
    assert len(everywhere) == len(set(everywhere))
    assert set(everywhere) <= ids
    assert len(placed["test"]) >= 0.1 * len(families)
    assert len(placed["validation"]) >= 0.05 * len(families)
    assert not any(f.pinned for split in ("validation", "test") for f in placed[split])


def test_training_loses_no_template_to_the_other_splits() -> None:
    families = {family.id: family for family in load_families()}
    placed = split_families(tuple(families.values()))
    assert all(family == families[family.id] for family in placed["train"])
    elsewhere = {family.id for split in ("validation", "test") for family in placed[split]}
    trained = {normalise(t.source) for family in placed["train"] for t in family.templates}
    for family in families.values():
        if family not in placed["train"] and family.id not in elsewhere:
            assert {normalise(t.source) for t in family.templates} <= trained, family.id


def test_template_that_an_earlier_split_has_is_dropped_with_its_emptied_family() -> None:
    def family(name: str, *sources: str, pinned: bool = False) -> Family:
        return Family("single", name, pinned, tuple(Template(s, 1, parse(s)) for s in sources))

    free = [family(str(n), f"line {n}", "Please, look at this!") for n in range(4)]
    placed = split_families((family("everyday", "look at this", pinned=True), *free))
    assert [len(placed[split]) for split in SPLITS] == [3, 1, 1]
    held_out = [t.source for s in ("validation", "test") for f in placed[s] for t in f.templates]
    assert sorted(held_out) == sorted(set(held_out))
    assert all(source.startswith("line") for source in held_out)

    alike = [family(str(n), "hey, look at this") for n in range(4)]
    placed = split_families((family("everyday", "look at this", pinned=True), *alike))
    assert [len(placed[split]) for split in SPLITS] == [3, 0, 0]


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_is_in_every_split(split: str) -> None:
    placed = split_families(load_families())
    assert {f.phrase_class for s, members in placed.items() if s == split for f in members} == (
        CLASSES
    )


def test_no_template_is_in_two_splits() -> None:
    seen: dict[str, str] = {}
    for split, members in split_families(load_families()).items():
        for template in (t for family in members for t in family.templates):
            assert seen.setdefault(normalise(template.source), split) == split, template.source


def test_rows_are_of_the_grammar_s_classes_and_of_conversations() -> None:
    drawn = rows("test", 3000, seed=0)
    assert {row.phrase_class for row in drawn} == CLASSES | {TALK}
    from_talks = [row for row in drawn if row.phrase_class == TALK]
    assert len(from_talks) / len(drawn) == pytest.approx(TALK_SHARE, abs=0.05)
    families = {family.id for family in split_families(load_families())["test"]}
    talks = {talk.id for talk in split_talks(load_talks())["test"]}
    assert {row.family for row in drawn if row.phrase_class != TALK} <= families
    # A row's family is talk/FILE/NUMBER/STEP.
    assert {row.family.split("/", 1)[1].rsplit("/", 1)[0] for row in from_talks} <= talks


def test_near_duplicates_of_training_are_not_in_the_test_rows() -> None:
    drawn = dataset({"train": 4000, "validation": 400, "test": 800}, seed=1)
    cores = [{row.core for row in drawn[split]} for split in SPLITS]
    assert not cores[0] & (cores[1] | cores[2])
    assert not cores[1] & cores[2]


def test_about_a_third_of_the_rows_ask_for_the_screen() -> None:
    drawn = rows("train", 3000, seed=0)
    assert 0.25 <= sum(row.label for row in drawn) / len(drawn) <= 0.36


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("take a {shot}", 1),
        ("i took a {shot} {when}", 0),
        ("can you take {shot}s?", 0),
        ("take {num} {shot}s", 0),
        ("is my outfit cute?", 1),
        ("don't look at my {screen}", 0),
        ("look at line {num} of my code", 1),
        ("translate {phrase} to {lang}", 0),
        ("translate what's on my {screen}", 1),
        ("start freestyle", 0),
        ("{sc} // (what about|how about) this one?", 1),
        ("{tc} // what about this one?", 0),
    ],
)
def test_label_of_well_known_phrasings(source: str, label: int) -> None:
    labels = {t.source: t.label for family in load_families() for t in family.templates}
    assert labels[source] == label


def test_every_template_expands_with_either_lexicon() -> None:
    rng = Random(0)
    for training in (True, False):
        lexicon = load_lexicon(training=training)
        for template in (t for family in load_families() for t in family.templates):
            text = tidy(expand(template.body, lexicon, rng))
            assert text
            assert not set("{}|") & set(text), template.source


def test_probe_holds_every_class_and_no_training_line() -> None:
    probe = load_probe()
    assert len(probe) >= 150
    assert {item.phrase_class for item in probe} == CLASSES
    assert 0.25 <= sum(item.label for item in probe) / len(probe) <= 0.45


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    if not MODEL.is_dir():
        pytest.skip("models/yap-screen-demo is not there; models.training.screen.train makes it")
    return Predictor(MODEL)


def test_committed_model_says_yes_to_plain_requests(predictor: Predictor) -> None:
    texts = [
        "take a screenshot",
        "look at this",
        "can you see my screen?",
        "Check this out!",
        "hey how are you\ni'm good\nwhat do you think of this pic",
        "what does this error say",
        "translate what's on my screen",
    ]
    assert dict(zip(texts, predictor.p_yes(texts) >= 0.66, strict=True)) == dict.fromkeys(
        texts, True
    )


def test_committed_model_says_no_to_everything_else(predictor: Predictor) -> None:
    texts = [
        "hello",
        "i took a screenshot yesterday",
        "can you take screenshots?",
        "don't look at my screen",
        "take 3 screenshots",
        "look, i just think it's weird",
        "take a screenshot\nthanks\ni love pizza",
        "be more playful",
        "wow",
    ]
    said = predictor.p_yes(texts) >= 0.66
    assert dict(zip(texts, said, strict=True)) == dict.fromkeys(texts, False)


def test_batching_does_not_change_the_answer(predictor: Predictor) -> None:
    texts = ["look at my screen", "\n".join(["i had soup for lunch"] * 60 + ["nice weather"])]
    alone = [float(predictor.p_yes([text])[0]) for text in texts]
    assert predictor.p_yes(texts).tolist() == pytest.approx(alone, abs=1e-4)
