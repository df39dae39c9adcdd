"""Persona files that several tests write."""

from __future__ import annotations

FIELDS = {
    "name": "anna",
    "title": "Anna",
    "gender": "female",
    "personality": "friendly",
    "synonyms": "[warm, big hearted]",
}
PROMPT = "You are Anna.\n\nKeep it short."


def page(prompt: str = PROMPT, **fields: str | None) -> str:
    """A persona file; a field that is None is left out."""
    given_fields = {key: text for key, text in (FIELDS | fields).items() if text is not None}
    front = "".join(f"{key}: {text}\n" for key, text in given_fields.items())
    return f"---\n{front}---\n\n{prompt}\n"
