"""Text from outside is cleaned in the same way wherever it comes in."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
import regex  # type: ignore[import-untyped]
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
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("soft\u00adly", "soft\u00adly"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("\u200b", ""),
        ("\u00ad \u2060\n\ufeff", ""),
        ("\u200d\ufe0f\u3164", ""),
    ],
)
def test_what_nobody_sees_goes_and_the_rest_stays(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_what_shows_nothing_is_what_unicode_says() -> None:
    ignorable = regex.compile(r"\p{Default_Ignorable_Code_Point}")
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if ignorable.match(char) and unicodedata.category(char) != "Cn":
            assert not clean_text(char), hex(code)
        elif unicodedata.category(char)[0] in "LNPS":
            assert clean_text(char), hex(code)


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


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\uff9e", "\U0001d165"])
def test_any_number_of_accents_takes_no_time(marks: str) -> None:
    begun = time.perf_counter()
    cleaned = clean_text("e" + marks * 200_000)
    assert time.perf_counter() - begun < 1  # it was minutes: sorting takes the square
    assert len(cleaned) < 100


def test_accents_that_somebody_writes_stay() -> None:
    assert clean_text("e\u0301") == "\u00e9"
    assert clean_text("Vie\u0302\u0323t") == "Vi\u1ec7t"
    assert clean_text("z" + "\u0337" * 30) == "z" + "\u0337" * 30


def test_whatever_unicode_sorts_is_cut() -> None:
    from yap.text import _long_runs

    cut = _long_runs()
    for code in range(sys.maxunicode + 1):
        if unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0]):
            assert cut.fullmatch(chr(code) * 31), hex(code)


@pytest.mark.parametrize(("most", "kept"), [(0, ""), (3, "abc"), (9, "abcdef"), (None, "abcdef")])
def test_the_start_of_a_text_is_kept(most: int | None, kept: str) -> None:
    assert clean_text("abcdef", most) == kept


def test_letters_that_unfold_are_cut_too() -> None:
    assert len(clean_text("\ufdfa" * 100, 100)) == 100
