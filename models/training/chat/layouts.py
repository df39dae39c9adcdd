"""System prompts laid out as forms: labelled sheets, sections, JSON and tagged blocks."""

from __future__ import annotations

import json
from random import Random

_NAME_LABELS = ("Name", "Name", "name", "NAME", "Character", "CHARACTER", "Your name", "Persona")
_TONE_LABELS = ("Personality", "Traits", "Tone", "Style", "Character", "Mood", "Voice")
_LABELS = {
    "city": ("City", "Home", "Lives in", "From", "Location", "Home town"),
    "job": ("Job", "Occupation", "Profession", "Work", "Role"),
    "hobby": ("Hobby", "Hobbies", "Interests", "Likes", "Spare time"),
    "food": ("Favourite food", "Favorite food", "Food"),
    "color": ("Favourite colour", "Favorite color", "Colour"),
    "age": ("Age", "Years"),
    "drink": ("Drink", "Favourite drink"),
    "music": ("Music", "Favourite music"),
    "pet_name": ("Pet", "Pets", "Animals"),
    "user": ("User", "User name", "The user's name", "Talking to"),
    "friend": ("Best friend", "Closest friend"),
    "maker": ("Creator", "Made by"),
}
_SHEET_HEADS = (
    "", "", "# Character sheet", "## Identity", "CHARACTER:", "Character profile", "## Profile",
    "IDENTITY", "[Persona]", "### Who you play", "--- character ---", "**Character card**",
)  # fmt: skip
_SHEET_FEET = (
    "", "", "Stay in character.", "Answer as this character.", "Speak in the first person.",
    "You are this person. Talk like them.", "Never leave the role.",
)  # fmt: skip
TAGS = ("persona", "character", "identity", "profile")


def labelled(
    rng: Random, name: str, words: tuple[str, str], facts: dict[str, str]
) -> dict[str, str]:
    """Label to value for a persona's name, two tone words and stated facts, in random order.

    The name comes first most of the time.
    """
    rows = [(rng.choice(_TONE_LABELS), ", ".join(words) if rng.random() < 0.6 else words[0])]
    for key, labels in _LABELS.items():
        if key in facts:
            rows.append((rng.choice(labels), _value(rng, facts, key)))
    rng.shuffle(rows)
    place = 0 if rng.random() < 0.7 else rng.randint(0, len(rows))
    label = next(
        label
        for label in rng.sample(_NAME_LABELS, len(_NAME_LABELS))
        if all(label.lower() != row[0].lower() for row in rows)
    )
    rows.insert(place, (label, name))
    return dict(rows)


def _value(rng: Random, facts: dict[str, str], key: str) -> str:
    value = facts[key]
    if key != "pet_name":
        return value
    kind = facts["pet_kind"]
    return rng.choice((f"{value} the {kind}", f"{value}, a {kind}", f"{kind} ({value})"))


def sheet(rng: Random, rows: dict[str, str]) -> str:
    """The rows as "Label: value" lines under an optional heading."""
    pattern = rng.choice(
        ("{}: {}", "{}: {}", "- {}: {}", "* {}: {}", "**{}:** {}", "- **{}**: {}", "{} = {}",
         "{}: {}.", "{} - {}")
    )  # fmt: skip
    separator = "\n" if rng.random() < 0.8 else rng.choice(("; ", " | ", ". ", ", "))
    body = separator.join(pattern.format(*row) for row in rows.items())
    head, foot = rng.choice(_SHEET_HEADS), rng.choice(_SHEET_FEET)
    return "\n".join(part for part in (head, body, foot) if part)


def as_json(rng: Random, rows: dict[str, str]) -> str:
    """The rows as a JSON object, flat or under one key, on one line or indented."""
    data: dict[str, object] = {key.lower().replace(" ", "_"): row for key, row in rows.items()}
    if rng.random() < 0.3:
        data = {rng.choice(TAGS): data}
    text = json.dumps(data, ensure_ascii=False, indent=rng.choice((None, None, 2)))
    return f"{text}\n{foot}" if (foot := rng.choice(_SHEET_FEET)) else text
