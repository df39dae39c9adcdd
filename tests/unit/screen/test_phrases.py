"""A phrase fits what it says and nothing else, and a bad one is refused with what to change."""

from __future__ import annotations

import time
from itertools import accumulate, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.screen.rule_files import RULE, rules_of
from yap.errors import StartupError
from yap.screen.rules import load_rules


@pytest.mark.parametrize(
    ("phrase", "fits", "fits_not"),
    [
        ("look here", ["look here"], ["look", "here", "lookhere", "look over here"]),
        ("(look|see) here", ["look here", "see here"], ["here", "look see here"]),
        ("(look|come over) here", ["come over here"], ["come here", "look over here"]),
        ("[please] look", ["look", "please look"], ["please", "please please look"]),
        ("[a|one] look", ["look", "a look", "one look"], ["a one look"]),
        ("look[s]", ["look", "looks"], ["look s", "lookss"]),
        ("freest(y|i)l[e]", ["freestyle", "freestil"], ["freestyile", "freest(y)l"]),
        ("l(oo|uu|u)k", ["look", "luuk", "luk"], ["lk", "loouuk"]),
        ("lo+k", ["lok", "look", "looook"], ["lk", "lo+k"]),
        ("take <word>", ["take a", "take é", "take 12"], ["take", "take a b"]),
        ("take <number>", ["take 7", "take 100"], ["take a", "take 7a", "take ٣"]),
        ("([very] [old]|new) cat", ["cat", "very old cat", "new cat"], ["very new cat"]),
        ("look|see this", ["look", "see this"], ["look this"]),
        ("das größer".casefold(), ["das Größer", "DAS GRÖSSER"], ["das groser"]),
        ("don\u2019t look", ["don't look", "DON\u2019T LOOK"], ["dont look"]),
        ("{shot} now", ["snap now", "quick pic now"], ["snap", "quick now"]),
    ],
)
def test_a_phrase_fits_what_it_says(
    tmp_path: Path, phrase: str, fits: list[str], fits_not: list[str]
) -> None:
    rules = rules_of(tmp_path, phrase.replace("'", "\u2019"), 'shot = "snap|[quick] pic"')
    assert [text for text in fits if rules.match(text, None) is None] == []
    assert [text for text in fits_not if rules.match(text, None) is not None] == []


WORD = st.sampled_from(["a", "b", "ab", "ba"])
# A phrase, and all that it should fit. Every choice is small, so that all can be listed.
PHRASE: st.SearchStrategy[tuple[str, frozenset[str]]] = st.recursive(
    WORD.map(lambda word: (word, frozenset({word}))),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(
            lambda parts: (
                f"({'|'.join(phrase for phrase, _ in parts)})",
                frozenset().union(*(texts for _, texts in parts)),
            )
        ),
        inner.map(lambda part: (f"[{part[0]}]", part[1] | {""})),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda parts: (
                f"({' '.join(phrase for phrase, _ in parts)})",
                frozenset(
                    " ".join(filter(None, texts))
                    for texts in product(*(sorted(texts) for _, texts in parts))
                ),
            )
        ),
    ),
    max_leaves=6,
)


@settings(deadline=None)  # it writes files
@given(PHRASE, st.lists(WORD, max_size=6).map(" ".join))
def test_a_phrase_fits_exactly_its_combinations(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[str, frozenset[str]], other: str
) -> None:
    phrase, texts = made
    depth = max(accumulate((char in "([") - (char in ")]") for char in phrase))
    folder = tmp_path_factory.mktemp("rules")
    if depth > 4:
        with pytest.raises(StartupError, match="nested more than 4 deep"):
            rules_of(folder, f"{phrase} end")
        return
    rules = rules_of(folder, f"{phrase} end")
    for text in [*texts, other]:
        assert (rules.match(f"{text} end", None) is not None) == (text in texts)


def test_a_phrase_at_the_limit_is_not_slow(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, " ".join(["[a]"] * 13) + " b")  # 8192 ways
    began = time.perf_counter()
    for n in (12, 13, 14, 50):
        assert rules.match("a " * n + "c", None) is None
    assert time.perf_counter() - began < 0.1  # measured: 0.0003 each
    with pytest.raises(StartupError, match="16,384 ways"):
        rules_of(tmp_path, " ".join(["[a]"] * 14) + " b")


@settings(deadline=None)
@given(st.text(alphabet="ab ([|])+{}<>'-1", max_size=30))
def test_a_bad_phrase_is_a_clear_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, phrase: str
) -> None:
    message = None
    try:
        rules_of(tmp_path_factory.mktemp("rules"), phrase.replace("'", "\u2019"))
    except StartupError as error:
        message = str(error)
    assert message is None or "one.toml, line 6, rule 'one': the phrase " in message


@pytest.mark.parametrize(
    ("phrase", "problem"),
    [
        ("look [here", "'[' is never closed"),
        ("look here]", "']' closes nothing that is open"),
        ("(look]", "']' closes nothing that is open"),
        ("((((([a])))))", "nested more than 4 deep"),
        ("", "there is nothing in it"),
        ("look ()", "there is nothing in it, or beside a '|'"),
        ("(a|) b", "beside a '|'"),
        ("[please]", "all of it is optional"),
        ("look {there}", "'{there}' is not defined; there are {personality}, <word>, <number>"),
        ("look <there>", "'<there>' is not defined"),
        ("screen-shot", "'-' cannot be in the word 'screen-shot'"),
        ("look?", "'?' cannot be in the word"),
        ("loo+ok", "'o+o' never fits"),
        ("look[s s]", "only letters can be between the brackets"),
        ("Look", "small letters"),
        ("be {personality}", "only be in a rule that answers switch_personality"),
        ("([a] [b]) " * 7, "combine in 16,384 ways"),
    ],
)
def test_an_error_in_a_phrase_says_where_and_what(
    tmp_path: Path, phrase: str, problem: str
) -> None:
    with pytest.raises(StartupError) as caught:
        rules_of(tmp_path, phrase)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'one.toml'}, line ")
    assert ", rule 'one': " in message
    assert problem in message


@pytest.mark.parametrize(
    ("phrase", "problem"),
    [
        ("be playful", "must be in it once"),
        ("be {personality} or {personality}", "must be in it once"),
        ("be more{personality}", "must be in it once"),
        ("be [ {personality} ]", "outside all brackets"),
        ("be ( {personality} |fun)", "outside all brackets"),
        ("<word> | be {personality}", "outside all brackets"),
    ],
)
def test_a_personality_has_one_certain_place(tmp_path: Path, phrase: str, problem: str) -> None:
    text = RULE.replace("take_screenshot", "switch_personality").replace('"always this", ', "", 1)
    (tmp_path / "one.toml").write_text(text.replace("{phrase}", f"'{phrase}'"))
    with pytest.raises(StartupError, match=problem):
        load_rules(tmp_path)
