"""Counts what the classifier's data are made of, for its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.training.screen.grammar import Family, load_families, load_lexicon
from models.training.screen.splits import SPLITS, split_families
from models.training.screen.talks import Talk, load_talks, split_talks


@dataclass(frozen=True, slots=True)
class Part:
    """What one split holds. words: entries of the word lists that it may use."""

    families: int
    pinned: int
    templates: int
    conversations: int
    conversation_lines: int
    words: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of it; `dropped_templates` are those that an earlier split had already."""

    classes: int
    word_lists: int
    words: int
    dropped_templates: int
    splits: Mapping[str, Part]


def inventory() -> Inventory:
    """Count families, templates, word lists and conversations, whole and by split."""
    families = load_families()
    placed, talks = split_families(families), split_talks(load_talks())
    lexicons = {training: load_lexicon(training=training) for training in (True, False)}
    words = {
        training: {(name, entry) for name, entries in lexicon.items() for entry in entries}
        for training, lexicon in lexicons.items()
    }
    return Inventory(
        classes=len({family.phrase_class for family in families}),
        word_lists=len(lexicons[True]),
        words=len(words[True] | words[False]),
        dropped_templates=_templates(families) - sum(_templates(placed[split]) for split in SPLITS),
        splits={
            split: _part(placed[split], talks[split], len(words[split == "train"]))
            for split in SPLITS
        },
    )


def _part(families: tuple[Family, ...], talks: tuple[Talk, ...], words: int) -> Part:
    return Part(
        families=len(families),
        pinned=sum(family.pinned for family in families),
        templates=_templates(families),
        conversations=len(talks),
        conversation_lines=sum(len(talk.lines) for talk in talks),
        words=words,
    )


def _templates(families: tuple[Family, ...]) -> int:
    return sum(len(family.templates) for family in families)
