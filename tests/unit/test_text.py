"""Text from outside is cleaned in the same way wherever it comes in."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from yap.text import clean_text

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # surrogates too


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("  hello \n", "hello"),
        ("a\tb\r\nc", "a\tb\r\nc"),
        ("a\x00b\x07c\x1bd\x7fe\x85f", "abcdef"),
        ("\u202eevil\u202c", "evil"),
        ("\u2066a\u2069\u200e\u200f\u061c", "a"),
        ("ﬁne ｔｅｘｔ", "fine text"),
        ("e\u0301", "é"),
        ("e\u200e\u0301", "é"),
        ("\x00 a \x00", "a"),
        ("\ud800x", "\ufffdx"),
        ("😀 👩\u200d💻", "😀 👩\u200d💻"),
        ("مرحبا", "مرحبا"),
    ],
)
def test_what_nobody_sees_goes_and_the_rest_stays(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@given(ANY_TEXT)
@example("e\u200e\u0301")
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(ANY_TEXT)
def test_cleaned_text_can_be_sent_and_shown(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert cleaned == cleaned.strip()
    assert not [c for c in cleaned if unicodedata.category(c) == "Cc" and c not in "\t\r\n"]
