"""What is a banned phrase, and that it is found however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yap.chat import phrases as module
from yap.chat.phrases import Found, Phrases, Search, compile_pattern, fold


def banned(*strings: str, patterns: tuple[str, ...] = ()) -> Phrases:
    return Phrases(strings, map(compile_pattern, patterns))


def read(phrases: Phrases, pieces: list[str]) -> tuple[str, Found | None]:
    """What went out of a text in pieces before the first phrase, and where that is."""
    search, text, clear = Search(phrases), "", 0
    for number, piece in enumerate(pieces, 1):
        text += piece
        final = number == len(pieces)
        found, clear = search.look(text, clear, final=final)
        if found is not None:
            return text[:clear], found
    return text[:clear], None


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("as an AI", "Well, AS AN ai I"),
        ("as an AI", "so as \n  an\tAI"),
        ("as  an   AI", "as an AI"),
        ("shiver", "it shivers"),
        ("STRASSE", "die Straße"),
        ("straße", "DIE STRASSE"),
        ("STRAẞE", "die strasse"),
        ("office", "the o\ufb03ce"),
        ("ΣΊΣΥΦΟΣ", "ο Σίσυφος"),
        ("İstanbul", "i\u0307stanbul"),
        ("café", "cafe\u0301"),
        ("cafe\u0301", "Café"),
        ("hello", "\uff28\uff25\uff2c\uff2c\uff2f"),
        ("hello", "he\u200bl\u00adlo"),
        ("hello", "he\u034fllo"),
        ("\u06dd", "verse \u06dd 5"),  # a format character, and yet it is drawn
        ("❤️", "love ❤ you"),
        ("...", "well…"),
        ("~", "hey~"),
        (" hm", "ah hm"),
    ],
)
def test_a_string_is_found_in_any_case_width_and_spacing(phrase: str, text: str) -> None:
    assert read(banned(phrase), [text])[1] is not None
    assert read(banned(phrase), list(text))[1] is not None


@pytest.mark.parametrize(
    ("phrase", "text"),
    [("as an AI", "as anAI"), (" hm", "hm"), ("cat", "c a t"), ("résumé", "resume"), ("a", "")],
)
def test_what_is_another_text_is_not_found(phrase: str, text: str) -> None:
    assert read(banned(phrase), [text]) == (text, None)


def test_a_string_of_which_nothing_is_left_bans_nothing() -> None:
    assert not banned("", "  ", "\u200b", "\ufe0f")
    assert read(banned("\u200b"), ["some text"]) == ("some text", None)


def test_where_it_stands_is_told_in_characters_of_the_text() -> None:
    assert read(banned("strasse am"), ["Die  Straße \u200b am See"])[1] == Found(5, 16)


def test_only_what_may_become_a_phrase_is_held_back() -> None:
    phrases = banned("how about you", "nice")
    assert Search(phrases).look("I am fine. How abo", 0, final=False) == (None, 11)
    assert Search(phrases).look("I am fine. How abs", 0, final=False) == (None, 18)
    assert Search(phrases).look("a knight knigh ni", 0, final=False) == (None, 15)
    assert Search(phrases).look("I am fine. How abo", 0, final=True) == (None, 18)


# Expressions


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"\bcat\b", "the cat sat", True),
        (r"\bcat\b", "the CAT", True),
        (r"\bcat\b", "a category", False),
        (r"\bcat\b", "concat it", False),
        (r"(?<=x)yz", "xyz", True),
        (r"(?<=x)yz", "ayz", False),
        (r"foo(?=bar)", "a foobar", True),
        (r"foo(?=bar)", "a foobaz", False),
        (r"\*[^*]{1,40}\*", "well *smiles softly* hi", True),
        (r"\*[^*]{1,40}\*", "2 * 3 is 6", False),
        (r"abcde|cd", "abcdx", True),
        (r"^oh\b", "oh dear", True),
        (r"^oh\b", "and oh dear", False),
        (r"bye$", "good bye", True),
        (r"bye$", "byes", False),
    ],
)
def test_an_expression_finds_the_same_whole_and_letter_by_letter(
    pattern: str, text: str, found: bool
) -> None:
    phrases = banned(patterns=(pattern,))
    for pieces in ([text], list(text), cut(text, [3, 5, 8, 9])):
        out, seen = read(phrases, pieces)
        assert (seen is not None) is found
        if seen is not None:
            assert len(out) <= seen.start
        else:
            assert out == text


def test_more_than_its_window_is_not_held_back_for_an_expression() -> None:
    search = Search(banned(patterns=(r"<.*>",)))
    text = "<" + "x" * module.MAX_PATTERN_CHARS
    assert search.look(text[:-1], 0, final=False) == (None, 0)
    assert search.look(text, 0, final=False) == (None, len(text))


@pytest.mark.parametrize("pattern", ["(", "a**", "x*", "", r"(?<n", "|a"])
def test_an_expression_that_is_none_or_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="it "):
        compile_pattern(pattern)


def test_an_expression_without_end_is_given_up_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    search = Search(banned("nice", patterns=(r"(a|aa)+!", "cat")))
    assert search.look("a" * 200 + "b", 0, final=False)[0] is None
    assert "(a|aa)+!" in caplog.text
    assert search.look("a" * 200 + "b cat ", 0, final=False)[0] == Found(202, 205)


# Any text, any cuts

LETTERS = st.text("ab \tßSſé\u0301\u200b…", max_size=40)


@given(st.lists(st.text("abs sé…", min_size=1, max_size=4), max_size=4), LETTERS, st.data())
def test_nothing_of_a_phrase_goes_out_however_the_text_is_cut(
    strings: list[str], text: str, data: st.DataObject
) -> None:
    phrases = banned(*strings)
    pieces = cut(text, data.draw(st.lists(st.integers(0, 40), max_size=10)))
    out, found = read(phrases, pieces)
    assert (found is not None) is any(string in fold(text) for string in phrases.strings)
    assert text.startswith(out)
    assert not any(string in fold(out) for string in phrases.strings)
    if found is None:
        assert out == text
    else:
        assert len(out) <= found.start
        assert phrases.are_in(text[found.start : found.end])
