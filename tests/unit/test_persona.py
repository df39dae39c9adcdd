"""A persona file is checked: it is taken as it is, or refused with what to change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.persona_files import PROMPT, page
from yap.persona import PROMPT_MAX_CHARS, Persona, PersonaError, parse_persona
from yap.text import clean_text


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(PersonaError) as raised:
        parse_persona(text, "anna.md")
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def problem(text: str) -> str:
    """The one sentence that this file gives."""
    (sentence,) = problems(text)
    return sentence


def test_a_file_is_a_persona() -> None:
    assert parse_persona(page(), "anna.md") == Persona(
        name="anna",
        title="Anna",
        gender="female",
        personality="friendly",
        synonyms=("warm", "big hearted"),
        prompt=PROMPT,
    )


def test_synonyms_may_be_left_out_and_listed_line_by_line() -> None:
    assert parse_persona(page(synonyms=None), "anna.md").synonyms == ()
    assert parse_persona(page(synonyms="\n- warm\n- kind"), "anna.md").synonyms == ("warm", "kind")


def test_a_persona_is_not_changed() -> None:
    persona = parse_persona(page(), "anna.md")
    with pytest.raises(ValidationError, match="frozen"):
        persona.name = "otto"  # type: ignore[misc]


def test_how_an_editor_ends_lines_and_marks_utf8_makes_no_difference() -> None:
    plain = parse_persona(page(), "anna.md")
    for ends in ("\r\n", "\r"):
        assert parse_persona("\ufeff" + page().replace("\n", ends), "anna.md") == plain


def test_values_are_text_whatever_yaml_takes_them_for() -> None:
    persona = parse_persona(page(name="no", title="007", synonyms="[on, '1.5']"), "anna.md")
    assert (persona.name, persona.title, persona.synonyms) == ("no", "007", ("on", "1.5"))


def test_a_tag_constructs_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    title = f"!!python/object/apply:pathlib.Path.touch [{victim}]"
    assert "title must be" in problem(page(title=title))
    assert not victim.exists()


def test_the_prompt_may_hold_lines_of_dashes() -> None:
    assert parse_persona(page(prompt="You.\n---\nEnd."), "anna.md").prompt == "You.\n---\nEnd."


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gender": "woman"}, '4: gender must be female or male, not "woman"'),
        ({"gender": "Female"}, '4: gender must be female or male, not "Female"'),
        ({"gender": "[female]"}, "4: gender must be female or male, not a list"),
        ({"gender": ""}, '4: gender must be female or male, not ""'),
        ({"personality": "very kind"}, '5: personality must be one word .* not "very kind"'),
        ({"personality": "a" * 21}, "5: personality must be one word of 1 to 20"),
        ({"personality": "süß"}, '5: personality must be one word .* not "süß"'),
        ({"title": "x" * 41}, "3: title must be 1 to 40 visible characters, not "),
        ({"title": r'"a\nb"'}, r'3: title must be .* not "a\\nb"'),
        ({"title": r'"\u202eannA"'}, r'3: title must be .* not "\\u202eannA"'),
        ({"synonyms": "warm"}, r'6: synonyms must be a list such as "\[warm, kind\]", not "warm"'),
        ({"synonyms": ""}, "6: synonyms must be a list"),
        ({"synonyms": str(list("abcdefghijk"))}, "6: synonyms has 11 entries; at most 10 may be"),
        ({"synonyms": "\n- warm\n- Kind"}, '8: a synonym must be .* in lower case, not "Kind"'),
        ({"synonyms": "\n- warm\n- ''"}, '8: a synonym must be .* not ""'),
        ({"synonyms": "\n- warm\n- [a]"}, "8: a field must be a text or a list of texts"),
        ({"synonyms": "[a, b, a]"}, '6: "a" is there twice among personality and synonyms'),
        ({"synonyms": "[friendly]"}, '6: "friendly" is there twice among personality'),
        ({"title": "{a: b}"}, "3: a field must be a text or a list of texts"),
        ({"gender": None}, '6: gender is missing; add a line "gender: ..." to the front matter'),
        ({"age": "30"}, '7: unknown field "age"; the fields are name, title, gender, person'),
        ({"synonyms": "[]\nprompt: Hi"}, '7: unknown field "prompt"'),
        ({"title": "Anna: a friend"}, '3: the front matter is not YAML: .* needs quotes'),
        ({"title": "[a"}, r"\d: the front matter is not YAML: "),
        ({"title": r'"\U00110000"'}, "2: the front matter holds characters or nesting"),
        ({"title": "[" * 9_000}, "2: the front matter holds characters or nesting"),
        ({"title": "*nobody"}, "3: the front matter is not YAML: found undefined alias"),
        ({"title": "Anna\ntitle: Anna"}, '4: "title" is there twice, first in line 3'),
    ],
)  # fmt: skip
def test_an_error_says_where_and_what_to_write(fields: dict[str, str], sentence: str) -> None:
    found = problem(page(**fields))
    assert re.match(rf"anna\.md:{sentence}", found)
    assert found.isprintable()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'anna.md:1: the file must begin with a line "---", then its fields'),
        ("You are Anna.", 'anna.md:1: the file must begin with a line "---", then its fields'),
        ("---\nname: a\n", 'anna.md:1: the front matter has no end; write a line "---"'),
        ("---\n---\nHi", 'anna.md:2: the front matter must hold fields, one "key: value" a line'),
        ("---\n- a\n---\nHi", "anna.md:2: the front matter must hold fields"),
        (page(prompt=""), "anna.md:8: the prompt is empty; write it below the front matter"),
        (page(prompt=" \n "), "anna.md:8: the prompt is empty"),
        (
            page(prompt="x" * (PROMPT_MAX_CHARS + 1)),
            "anna.md:9: the prompt has 30151 characters; at most 30150 may be",
        ),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused(text: str, sentence: str) -> None:
    assert any(found.startswith(sentence) for found in problems(text))


def test_every_problem_of_a_file_is_told_in_the_order_of_its_lines() -> None:
    found = problems(page(gender="woman", title="", personality="Kind", mood="good"))
    assert [int(line.split(":")[1]) for line in found] == [3, 4, 5, 7]


def test_a_prompt_may_have_the_operators_length_and_no_more() -> None:
    assert parse_persona(page(prompt="x" * PROMPT_MAX_CHARS), "anna.md")
    assert parse_persona(page(prompt="12345"), "anna.md", prompt_max_chars=5).prompt == "12345"
    with pytest.raises(PersonaError, match="6 characters; at most 5 may be"):
        parse_persona(page(prompt="123456"), "anna.md", prompt_max_chars=5)


@pytest.mark.parametrize("name", ["a", "anna", "anna-2", "old_otis", "a" * 40])
def test_a_name_is_plain_ascii_as_clients_type_it(name: str) -> None:
    assert parse_persona(page(name=name), "anna.md").name == name


@pytest.mark.parametrize(
    "name",
    ["''", "Anna", "änna", "анна", "安娜", "anna smith", "2anna", "-anna", "../anna", "a" * 41],
)
def test_another_name_is_refused(name: str) -> None:
    assert problem(page(name=name)).startswith("anna.md:2: name must be a lower-case ASCII letter")


@pytest.mark.parametrize("title", ["Zoë", "李明", "Анна", "Mary-Jane O'Neil", "Otis 😀"])
def test_a_title_may_be_in_any_script(title: str) -> None:
    assert parse_persona(page(title=title), "anna.md").title == title


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("Hi\u202e there", "U+202E RIGHT-TO-LEFT OVERRIDE is invisible; remove it"),
        ("Hi\x07", "U+0007 is invisible; remove it"),
        ("Hi\x85", "U+0085 is invisible; remove it"),
        (
            "Well\u2026",
            'U+2026 HORIZONTAL ELLIPSIS would be rewritten; write "..." instead',
        ),
        ("a\u00a0b", 'U+00A0 NO-BREAK SPACE would be rewritten; write " " instead'),
        ("\u3000a", 'U+3000 IDEOGRAPHIC SPACE would be rewritten; write " " instead'),
        ("cafe\u0301", "letters and accents are apart; save the file in Unicode normal form C"),
        ("a\u2028b", "U+2028 LINE SEPARATOR is no line break here; press Enter instead"),
    ],
)
def test_text_that_cleaning_would_change_is_told_not_changed(prompt: str, sentence: str) -> None:
    assert problem(page(prompt=f"You are Anna.\n{prompt}")) == f"anna.md:10: {sentence}"


def test_a_persona_made_in_code_is_checked_as_well() -> None:
    fields = parse_persona(page(), "anna.md").model_dump()
    for wrong in ({"prompt": "Well\u2026"}, {"name": "Anna"}, {"synonyms": ["warm"]}, {"age": 30}):
        with pytest.raises(ValidationError):
            Persona.model_validate(fields | wrong)


def test_what_cleaning_keeps_is_kept() -> None:
    prompt = "Café 😀 „quoted“ – dash\n\ttab  two blanks \nمرحبا"
    assert parse_persona(page(prompt=prompt), "anna.md").prompt == prompt


def test_every_line_with_such_text_is_told() -> None:
    found = problems(page(prompt="a\u200e\nb\nc\u200e"))
    assert [line.split(":")[1] for line in found] == ["9", "11"]


CLEAN = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])).filter(
    lambda text: text == clean_text(text)
)
YAML_LIKE = st.text(st.sampled_from("ab :-[]{},#&*!|>%@`?~'\"\\ux01\t\n.<="), max_size=80)


@given(st.text() | st.builds("---\n{}\n---\n{}".format, YAML_LIKE | st.text(), st.text()))
@example("---\n%YAML 1." + "9" * 5_000 + "\n---\na: b\n---\n")
@example("---\na: !!python/name:os.system x\n---\n")
@example("---\n? [a]\n: b\n---\n")
@example("---\na: b\n...\nc: d\n---\n")
@example("---\na: &x b\n*x : c\n---\n")
@example("---\na: \ufffe\n---\n")
@example("---\n" + "- " * 3_000 + "\n---\n")
def test_any_text_is_a_persona_or_the_declared_error(text: str) -> None:
    result = outcome(text)
    if isinstance(result, Persona):
        assert result.prompt == clean_text(result.prompt)
    else:
        assert result.problems
        assert all(re.match(r"any\.md:[1-9]\d*: .", line) for line in result.problems)


def outcome(text: str) -> Persona | PersonaError:
    try:
        return parse_persona(text, "any.md")
    except PersonaError as error:
        return error


@given(
    title=CLEAN.filter(lambda text: text.isprintable() and 0 < len(text) <= 40),
    prompt=CLEAN.filter(lambda text: "\r" not in text and text != ""),
)
def test_what_is_written_is_what_is_read(title: str, prompt: str) -> None:
    quoted = "'" + title.replace("'", "''") + "'"
    persona = parse_persona(page(title=quoted, prompt=prompt), "anna.md")
    assert (persona.title, persona.prompt) == (title, prompt)
