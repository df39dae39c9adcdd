"""Persona files as clients read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.client.arguments import Setup
from tests.client.fixtures import PERSONAS
from tests.client.personas import (
    PersonaFileError,
    Wardrobe,
    find_persona,
    personality_table,
    plain_persona,
    read_persona,
)
from tests.client.places import LIBRARY
from yap.persona import parse_persona
from yap.protocol import StartRules, parse, read_start

FRONT = "---\nname: {name}\ntitle: Ada\ngender: female\npersonality: calm\n---\n"


@pytest.mark.parametrize("path", sorted([*LIBRARY.glob("*.md"), *PERSONAS.glob("*.md")]))
def test_files_are_read_as_the_server_reads_them(path: Path) -> None:
    here, there = read_persona(path), parse_persona(path.read_text(encoding="utf-8"), path.name)
    for field in ("name", "title", "gender", "personality", "synonyms", "prompt"):
        assert getattr(here, field) == getattr(there, field)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("You are Ada.", "two lines"),
        (FRONT.format(name=""), "name is missing"),
        (FRONT.format(name="ada"), "the prompt is empty"),
        (FRONT.format(name="ada").replace("female", "woman") + "Hi.", "female or male"),
        ("---\nmood: good\n---\nHi.", "is none of name"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "ada.md"
    path.write_text(text)
    with pytest.raises(PersonaFileError, match=told):
        read_persona(path)


def test_the_server_takes_every_personality_table() -> None:
    personas = [read_persona(path) for path in sorted(LIBRARY.glob("*.md"))]
    for persona in [*personas, plain_persona("male", "calm"), plain_persona("female", "gentle")]:
        table = personality_table(persona, *personas)
        assert persona.personality in table
        words = [word for name, synonyms in table.items() for word in (name, *synonyms)]
        assert len(words) == len(set(words)), words


def test_an_edited_file_is_read_again_and_a_broken_one_keeps_its_last_good_text(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ada.md"
    path.write_text(FRONT.format(name="ada") + "You are Ada.")
    wardrobe = Wardrobe([tmp_path])
    assert wardrobe.refresh() == ["ada"]
    assert wardrobe.refresh() == []
    path.write_text("---\nbroken\n---\n")
    assert wardrobe.refresh() == []
    assert wardrobe.personas["ada"].prompt == "You are Ada."
    assert path in wardrobe.problems
    path.write_text(FRONT.format(name="ada") + "You are Ada, and glad.")
    assert wardrobe.refresh() == ["ada"]
    assert not wardrobe.problems and wardrobe.personas["ada"].prompt.endswith("glad.")
    path.unlink()
    assert wardrobe.refresh() == ["ada"] and not wardrobe.personas


def test_a_persona_is_found_by_name_in_any_case_or_by_file() -> None:
    assert find_persona("Anna").title == "Anna"
    assert find_persona(str(PERSONAS / "nora.md")).title == "Nora"
    with pytest.raises(PersonaFileError, match="anna, june"):
        find_persona("nobody")


def test_a_start_of_the_clients_is_one() -> None:
    message = Setup(plain_persona("female", "witty")).start("Hi!")
    text = json.dumps({"type": "start", **message})
    start = read_start(parse(text, cancel_sentinel="__C__", end_sentinel="__E__"), StartRules())
    assert start.personality == "witty" and start.user_utterance == "Hi!"
