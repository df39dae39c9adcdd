"""Short commands are recognised by rules, and nothing else is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.screen.rule_files import RULE
from yap.errors import StartupError
from yap.protocol import ControlFunction
from yap.screen.rule_matching import CACHED_SESSIONS, MAX_CHARS, PhraseRules, RuleMatch
from yap.screen.rules import DEFAULT_FOLDER, Example, check_examples, load_rules, main

SESSION = {
    "friendly": ("kind", "warm hearted"),
    "playful": ("silly", "full of beans"),
    "savage": ("bold",),
    "nerdy": ("c++ fan", "(very) odd", "d.i.y", "laid-back", "don't care", "what?!"),
}
START = ("start_freestyle", None)
STOP = ("stop_freestyle", None)
MALE = ("switch_gender", "male")
FEMALE = ("switch_gender", "female")
SCREENSHOT = ("take_screenshot", None)

_RULES = load_rules(DEFAULT_FOLDER)  # for tests with many examples, which fixtures do not suit
_COMMANDS = [example for example in check_examples() if example.promised]


@pytest.fixture(scope="module")
def rules() -> PhraseRules:
    return load_rules(DEFAULT_FOLDER)


def found(match: RuleMatch | None) -> tuple[str, str | None] | str | None:
    """The function and its param, "no" for a refusal, None where no rule fits."""
    if match is None:
        return None
    return (match.functions[0].name, match.functions[0].param) if match.functions else "no"


# --- the rules of this project ----------------------------------------------------------------


@pytest.mark.parametrize("example", check_examples(), ids=lambda e: f"{e.rule}: {e.phrase}")
def test_every_rule_does_what_its_examples_say(example: Example) -> None:
    assert example.kept, f"{example.phrase!r} fits {example.found}"


@pytest.mark.parametrize(
    ("utterance", "answer"),
    [
        # freestyle: start, one word after it, can you, please, mind, just
        ("start freestyle", START),
        ("start freestyle mode", START),
        ("start freestyle buddy", START),
        ("can you start freestyle", START),
        ("please start freestyle", START),
        ("please start freestyle now", START),
        ("mind starting freestyle", START),
        ("mind starting freestyle mode", START),
        ("just start freestyle", START),
        ("just start freestyle already", START),
        ("start freeeestyle", START),
        ("start freestile", START),
        ("start freestyl", START),
        ("start free-style", START),
        ("stop freestyle", STOP),
        ("stop freestyle mode", STOP),
        ("can you stop freestyle", STOP),
        ("please stop freestyle", STOP),
        ("please stop freestyle now", STOP),
        ("stopping freestyle", STOP),
        ("mind stop freestyle", STOP),
        ("mind stopping freestyle", STOP),
        ("mind stopping freestyle mode", STOP),
        ("just stop freestyle", STOP),
        ("just stop freestyle already", STOP),
        ("stop freeestile", STOP),
        *((f"{verb} to {word}", MALE) for verb in ("switch", "change") for word in
          ("guy", "him", "male", "hunk", "dude", "boy", "marc", "mark", "marck")),
        *((f"{verb} to {word}", FEMALE) for verb in ("switch", "change") for word in
          ("gal", "girl", "female", "femme", "ana", "anna", "annan")),
        ("be playful", ("switch_personality", "playful")),
        ("bee playful", ("switch_personality", "playful")),
        ("be more playful", ("switch_personality", "playful")),
        ("bee more savage", ("switch_personality", "savage")),
        ("be savage today", ("switch_personality", "savage")),
        ("be more bold today", ("switch_personality", "savage")),
        ("can you be friendly", ("switch_personality", "friendly")),
        ("can you be more kind", ("switch_personality", "friendly")),
        ("can you be more kind buddy", ("switch_personality", "friendly")),
        ("be more warm hearted", ("switch_personality", "friendly")),
        ("be full of beans today", ("switch_personality", "playful")),
        *((f"{verb} {often}", "no") for verb in ("look", "check") for often in
          ("twice", "thrice", "twice at this", "thrice at this", "multiple times")),
        *((f"take {one} {shot}", SCREENSHOT) for one in ("one", "1", "once", "a") for shot in
          ("screenshot", "screenshots")),
        *((f"take {many} {shot}", "no") for many in ("two", "2", "ten", "0", "many", "both") for
          shot in ("screenshot", "screenshots")),
        ("take dozens screenshots", "no"),
        ("take a few screenshots", "no"),
        ("take screenshot", SCREENSHOT),
        ("take screenshots", SCREENSHOT),
        ("screenshot this", SCREENSHOT),
        ("lok at this", SCREENSHOT),
        ("look at thsi", SCREENSHOT),
        ("tak a look", SCREENSHOT),
        ("take a lok", SCREENSHOT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("said", ["{}", "{}.", "  {}!? ", "Hey, {}…", "{} please", "ok. {}!"])
def test_a_command_is_recognised(
    rules: PhraseRules, utterance: str, answer: tuple[str, str | None] | str, said: str
) -> None:
    assert found(rules.match(said.format(utterance), SESSION)) == answer
    assert found(rules.match(said.format(utterance).upper(), SESSION)) == answer


@pytest.mark.parametrize(
    "utterance",
    [
        # "the", "another" and "my" may well mean one: the classifier decides
        "take the screenshot",
        "take another screenshot",
        "take my screenshot",
        "Please take the screenshots.",
        "take quick screenshot",
        # a question about a skill
        "can you take screenshots?",
        # sentences that contain a command
        "I'd love to be more playful with my dog",
        "i start freestyle swimming on monday",
        "we start at nine and then i have to stop",
        "my coach told me to start freestyle",
        "they want me to be friendly",
        "i should be more playful",
        "take a screenshot of your heart and keep it",
        "he said switch to male",
        "should i switch to anna's plan for the weekend",
        "take two screenshots and call me in the morning",
        "look twice before you cross the street",
        # the opposite, idioms, parts
        "don't start freestyle",
        "never be savage",
        "don't take a screenshot",
        "be less playful",
        "be kind to yourself",
        "be bold and brave",
        "think twice",
        "change to winter tyres",
        "switch gears",
        "take one for the team",
        "take two",
        "take a break",
        "start",
        "stop",
        "please",
        "be",
        "be more",
        "screenshot",
        "friendly",
        "",
        "   ",
        "?!...",
        "-",
    ],
)
def test_anything_else_is_for_the_classifier(rules: PhraseRules, utterance: str) -> None:
    assert rules.match(utterance, SESSION) is None


def test_only_a_screenshot_asks_for_the_screen(rules: PhraseRules) -> None:
    for utterance in ("take a screenshot", "screenshot this", "lok at this"):
        match = rules.match(utterance, None)
        assert match is not None and match.asks_for_screen
        assert match.functions == (ControlFunction(name="take_screenshot"),)
    for utterance in ("be bold", "switch to him", "start freestyle", "look twice"):
        match = rules.match(utterance, SESSION)
        assert match is not None and not match.asks_for_screen


def test_a_match_names_its_rule(rules: PhraseRules) -> None:
    match = rules.match("look twice", None)
    assert match == RuleMatch(functions=(), rule="refuse_repeated_look")


# --- personalities ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "c++ fan",
        "C++  Fan",
        "(very) odd",
        "d.i.y",
        "d.i.y.",
        "laid-back",
        "laid back",
        "laid–back",
        "don't care",
        "don’t care",
        "what",
    ],
)
def test_a_synonym_is_text_and_not_a_pattern(rules: PhraseRules, word: str) -> None:
    assert found(rules.match(f"be more {word}", SESSION)) == ("switch_personality", "nerdy")


@pytest.mark.parametrize("synonym", [".*", "[a-z]+", "(a|b)", "\\w", "x{9}", "^$", "a|playful"])
def test_metacharacters_fit_only_themselves(rules: PhraseRules, synonym: str) -> None:
    session = {"calm": (synonym,)}
    assert found(rules.match(f"be {synonym}", session)) == ("switch_personality", "calm")
    assert rules.match("be playful", session) is None
    assert rules.match("be a", session) is None


def test_a_session_may_have_no_personalities(rules: PhraseRules) -> None:
    assert rules.match("be playful", None) is None
    assert rules.match("be playful", {}) is None
    assert found(rules.match("start freestyle", None)) == START


def test_the_name_is_returned_as_the_session_has_it(rules: PhraseRules) -> None:
    session = {"Playful": ("SILLY Billy",)}
    assert found(rules.match("be playful", session)) == ("switch_personality", "Playful")
    assert found(rules.match("be silly  billy!", session)) == ("switch_personality", "Playful")


def test_the_longest_word_decides_and_a_name_goes_before_a_synonym(rules: PhraseRules) -> None:
    session = {"calm": ("very kind", "bold"), "kind": ("more bold",), "bold": ()}
    assert found(rules.match("be very kind", session)) == ("switch_personality", "calm")
    assert found(rules.match("be kind", session)) == ("switch_personality", "kind")
    assert found(rules.match("be more bold", session)) == ("switch_personality", "kind")
    assert found(rules.match("be bold", session)) == ("switch_personality", "bold")


def test_synonyms_without_words_never_fit(rules: PhraseRules) -> None:
    session = {"calm": ("...", "-", "a" * (MAX_CHARS + 1))}
    assert rules.match("be ...", session) is None
    assert rules.match("be more", session) is None


def test_two_sessions_do_not_share_words(rules: PhraseRules) -> None:
    assert found(rules.match("be fun", {"a": ("fun",)})) == ("switch_personality", "a")
    assert found(rules.match("be fun", {"b": ("fun",)})) == ("switch_personality", "b")
    assert rules.match("be fun", {"a": ("sad",)}) is None


def test_the_words_of_at_most_128_sessions_are_kept() -> None:
    rules = load_rules(DEFAULT_FOLDER)
    for number in range(CACHED_SESSIONS + 50):
        assert rules.match(f"be n{number}", {f"n{number}": ("x" * 10_000,)}) is not None
    kept = rules._vocabulary.cache_info()
    assert kept.maxsize == CACHED_SESSIONS == 128
    assert kept.currsize == CACHED_SESSIONS
    rules.match("be n177", {"n177": ("y" * 10_000,)})  # what is too long is no part of the key
    assert rules._vocabulary.cache_info().hits == kept.hits + 1


# --- any input --------------------------------------------------------------------------------


@given(
    st.text(max_size=200),
    st.dictionaries(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3), max_size=4),
)
def test_no_text_raises(utterance: str, session: dict[str, list[str]]) -> None:
    _RULES.match(utterance, session)
    for synonym in [*session, *(word for words in session.values() for word in words)]:
        match = _RULES.match(f"be {synonym}", session)
        assert match is None or match.functions


@given(
    st.sampled_from(_COMMANDS),
    st.text(alphabet=" \t\n\u00a0", max_size=3),
    st.text(alphabet=" .!?…", max_size=4),
    st.booleans(),
)
def test_blanks_capitals_and_ends_do_not_matter(
    example: Example, blank: str, end: str, capitals: bool
) -> None:
    said = f"{blank}{example.phrase.replace(' ', ' ' + blank)}{end}"
    match = _RULES.match(
        said.upper() if capitals else said,
        {
            "friendly": ("kind",),
            "playful": ("silly", "full of beans"),
            "calm": ("laid back", "chill"),
        },
    )
    assert len(said) > MAX_CHARS or (match is not None and match.rule == example.rule)


@pytest.mark.parametrize("command", ["start freestyle", "be playful", "take a screenshot"])
def test_a_command_inside_other_words_does_not_count(command: str) -> None:
    for before, after in (("they said", ""), ("why", ""), ("", "in the morning"), ("i", "often")):
        assert _RULES.match(f"{before} {command} {after}", SESSION) is None


@pytest.mark.parametrize(
    "attack",
    [
        "x" * 100_000,
        " " * 100_000,
        "start fr" + "e" * 100_000,
        "please " * 20_000,
        "be more " * 20_000,
        "take a " * 20_000 + "screenshot",
        "." * 100_000 + "x",
        "\ufdfa" * 100_000,
        "İ" * 100_000,
        "\ud800" * 100_000,
        "start fr" + "e" * (MAX_CHARS - 8),
        "please " * 17,
        "now for me please " * 6,
        "be more a a a a a a a a a a a a a a a",
        "a " * 60,
        "." * 119 + "x",
        "ΐ" * 120,
    ],
    ids=lambda attack: f"{attack[:12]!r} x {len(attack)}",
)
def test_no_text_is_slow(attack: str) -> None:
    session = {"playful": [" ".join("a" * n) for n in range(1, 61)]}
    _RULES.match(attack, session)  # the session's words are known from here on
    took = []
    for _ in range(3):
        began = time.perf_counter()
        _RULES.match(attack, session)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.02  # measured: under 0.0005


def test_rules_are_for_short_commands() -> None:
    padded = "start freestyle" + " " * (MAX_CHARS - 15)
    assert found(_RULES.match(padded, None)) == START
    assert _RULES.match(padded + " ", None) is None


# --- errors in the files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rule = [", "is not valid TOML"),
        ("name = 'x'", "line 1: there is no key 'name'"),
        ("[[rule]]\nname = 'x'", "line 1, rule 'x': answer: Field required"),
        ("[[rule]]", "line 1, rule 1: name: Field required"),
        ("rule = ['x']", "line 1, rule 1: "),
        ("rule = 3", "rule: Input should be a valid list"),
        (RULE.replace("phrases", "phrase"), "line 4, rule 'one': there is no key 'phrase'"),
        (RULE.replace("take_screenshot", "dance"), "line 3, rule 'one': answer: Input should be"),
        (RULE.replace('["always this"]', "[]"), "line 5, rule 'one': yes: List should have"),
        (
            RULE.replace("yes = [", "yes = [7, "),
            "line 5, rule 'one': yes.0: Input",
        ),
        (RULE.replace("take_screenshot", "switch_gender"), "switch_gender, and no other answer"),
        (RULE + 'param = "male"\n', "switch_gender, and no other answer, needs a param"),
        (RULE.replace("take_screenshot", "switch_personality"), "must be in it once"),
        (RULE + RULE, "line 7, rule 'one': another rule has this name"),
        (RULE + 'unless = ["a (b"]\n', "line 7, rule 'one': the phrase 'a (b': '(' is never"),
        ("[words]\nx = 'a'\n" + RULE.replace("always this", "{y}", 1), "'{y}' is not defined"),
        ("[words]\ny = 'a {z}'\nz = 'b'", "line 2: the word 'y': '{z}' is not defined"),
        ("[words]\ny = '{personality}'", "the word 'y': {personality} can only be in a phrase"),
        ("[words]\npersonality = 'a'", "line 2: the word 'personality' needs a name"),
        ("[words]\nY = 'a'", "the word 'Y' needs a name of small letters"),
        (
            "".join(f"[[rule]]\nname = 'r{n}'\n" for n in range(2)),
            "line 1, rule 'r0': answer: Field required",
        ),
    ],
)
def test_an_error_in_a_file_says_where_and_what(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "some.toml").write_text(text.replace("{phrase}", "'look'"))
    with pytest.raises(StartupError) as caught:
        load_rules(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "some.toml"))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            'yes = ["always this"]',
            'yes = ["always that"]',
            "line 5, rule 'one': its 'yes' example 'always that' fits no rule",
        ),
        (
            'no = ["never this"]',
            'no = ["always this"]',
            "its 'no' example 'always this' fits the rule 'one'",
        ),
    ],
)
def test_rules_that_break_their_promises_are_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, problem: str
) -> None:
    text = RULE.replace("{phrase}", "'look'")
    assert old in text
    (tmp_path / "one.toml").write_text(text.replace(old, new))
    with pytest.raises(StartupError) as caught:
        load_rules(tmp_path)
    assert problem in str(caught.value)
    assert main(["--check", str(tmp_path)]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_an_example_that_an_earlier_rule_takes_is_broken(tmp_path: Path) -> None:
    text = RULE.replace("{phrase}", "'look'")
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "b.toml").write_text(text.replace('"one"', '"two"'))
    with pytest.raises(StartupError, match=r"b\.toml, line 4, rule 'two'.* fits the rule 'one'"):
        load_rules(tmp_path)


def test_the_first_rule_that_fits_decides(tmp_path: Path) -> None:
    text = RULE.replace("{phrase}", "'look'").replace('"always', '"{name} always')
    for name in ("b", "a", "c"):
        own = text.replace("{name}", name).replace('"one"', f'"rule_{name}"')
        (tmp_path / f"{name}.toml").write_text(own)
    match = load_rules(tmp_path).match("look", None)
    assert match is not None and match.rule == "rule_a"


def test_words_of_the_shared_file_are_known_everywhere(tmp_path: Path) -> None:
    (tmp_path / "words.toml").write_text("[words]\nverb = 'look|see'\n")
    text = RULE.replace("{phrase}", "'{verb} {noun}'")
    (tmp_path / "a.toml").write_text(f"[words]\nnoun = 'here|[{{verb}}] there'\n{text}")
    rules = load_rules(tmp_path)
    assert rules.match("see look there", None) is not None
    (tmp_path / "b.toml").write_text("[words]\nverb = 'x'\n")
    with pytest.raises(StartupError, match=r"b\.toml, line 2: the word 'verb' needs a name"):
        load_rules(tmp_path)


def test_a_folder_without_rules_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StartupError, match="There are no phrase rules"):
            load_rules(folder)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match=r"a\.toml cannot be read"):
        load_rules(tmp_path)


def test_the_check_prints_every_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    out = capsys.readouterr().out
    assert f"{len(check_examples())} examples, 0 broken" in out
    assert all(example.phrase in out for example in check_examples())


def test_the_check_tells_of_a_file_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "There are no phrase rules" in capsys.readouterr().err
