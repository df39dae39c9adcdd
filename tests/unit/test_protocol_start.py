"""A `start` is taken as it was meant, or refused with the code of what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.strategies import JSON
from yap.chat.sampling import sampling_ranges
from yap.protocol import (
    SAMPLING_FIELDS,
    ErrorCode,
    ProtocolError,
    SamplingOptions,
    Start,
    StartRules,
    first_problem,
    parse,
    read_start,
)
from yap.settings import Settings

RULES = StartRules(sampling_ranges=sampling_ranges(Settings()))
TOOL = StartRules(chat=False)
CHAT = StartRules(tool=False)
GOOD: dict[str, Any] = {
    "type": "start",
    "session_id": "s-1",
    "gender": "female",
    "personality": "friendly",
    "personalities": {"friendly": ["kind", "warm hearted"], "savage": []},
    "chat_prompt": "You are Mira.",
    "user_utterance": "hello",
}
MARK = "zebra-crossing"  # stands in what clients send; no message may show it
ABSENT: Any = object()


def read(fields: dict[str, Any], rules: StartRules = RULES) -> Start:
    start = {name: value for name, value in (GOOD | fields).items() if value is not ABSENT}
    text = json.dumps(start)
    return read_start(parse(text, cancel_sentinel="__CANCEL__", end_sentinel="__END__"), rules)


def refusal(fields: dict[str, Any], rules: StartRules = RULES) -> ProtocolError:
    with pytest.raises(ProtocolError) as raised:
        read(fields, rules)
    return raised.value


def names(count: int) -> dict[str, list[str]]:
    """So many personalities."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return {letters[i // 26] + letters[i % 26]: [] for i in range(count)}


# What is accepted


def test_a_whole_start_is_read() -> None:
    start = read(
        {
            "sampling": {"temperature": 0.5, "top_k": 40, "sanitize_output": False},
            "check_screen_prefix": "LOOK:",
            "screen_checked_prefix": "SEEN:",
            "history_text": "User: hi\nAssistant: hey",
            "request_id": 7,
        }
    )
    assert start.session_id == "s-1"
    assert (start.gender, start.personality) == ("female", "friendly")
    assert start.chat_prompt == "You are Mira."
    assert start.sampling.temperature == 0.5
    assert start.sampling.top_k == 40
    assert start.sampling.sanitize_output is False
    assert start.sampling.top_p is None
    assert (start.check_screen_prefix, start.screen_checked_prefix) == ("LOOK:", "SEEN:")
    assert start.personalities == {"friendly": ("kind", "warm hearted"), "savage": ()}
    assert start.history_text == "User: hi\nAssistant: hey"
    assert start.user_utterance == "hello"
    assert start.request_id == "7"


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"type": "START"}, "type", "start"),
        ({"type": " Start "}, "type", "start"),
        ({"session_id": 42}, "session_id", 42),
        ({"session_id": 4.5}, "session_id", 4.5),
        ({"session_id": "x" * 500}, "session_id", "x" * 500),
        ({"gender": " FEMALE "}, "gender", "female"),
        ({"gender": "Male"}, "gender", "male"),
        ({"personality": "FRIENDLY"}, "personality", "friendly"),
        ({"personality": " savage\n"}, "personality", "savage"),
        ({"personality": "Kind"}, "personality", "kind"),
        ({"personality": "k", "personalities": {"K": []}}, "personality", "k"),
        ({"chat_prompt": "  a\u0000b\u202e \n"}, "chat_prompt", "ab"),
        ({"chat_prompt": "ﬁne"}, "chat_prompt", "fine"),
        ({"chat_prompt": "x" * 30_150}, "chat_prompt", "x" * 30_150),
        ({"chat_prompt": ABSENT, "persona_text": "p"}, "chat_prompt", "p"),
        ({"chat_prompt": None, "persona_text": "p"}, "chat_prompt", "p"),
        ({"persona_text": "p"}, "chat_prompt", "You are Mira."),
        ({"history_text": ABSENT}, "history_text", None),
        ({"history_text": None}, "history_text", None),
        ({"history_text": ""}, "history_text", ""),
        ({"user_utterance": ABSENT}, "user_utterance", ""),
        ({"user_utterance": None}, "user_utterance", ""),
        ({"user_utterance": ""}, "user_utterance", ""),
        ({"user_utterance": " hi\u200f "}, "user_utterance", "hi"),
        ({"check_screen_prefix": None}, "check_screen_prefix", None),
        ({"check_screen_prefix": " \n"}, "check_screen_prefix", None),
        ({"check_screen_prefix": " " * 40 + "LOOK:"}, "check_screen_prefix", "LOOK:"),
        ({"screen_checked_prefix": "x" * 30}, "screen_checked_prefix", "x" * 30),
        ({"personalities": names(49) | {"friendly": []}}, "personality", "friendly"),
        ({"seed": 5, "max_tokens": 10**9}, "session_id", "s-1"),
    ],
)
def test_a_field_is_taken_leniently(fields: dict[str, Any], name: str, value: Any) -> None:
    found = getattr(read(fields), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("where", ["in sampling", "in sampling_params", "at the top level"])
@pytest.mark.parametrize(
    ("name", "sent", "value"),
    [
        ("temperature", 0, 0.0),
        ("temperature", 1.2, 1.2),
        ("temperature", " 0.5 ", 0.5),
        ("temperature", "5e-1", 0.5),
        ("temperature", None, None),
        ("top_p", 0.6, 0.6),
        ("top_p", 1, 1.0),
        ("top_k", 0, 0),
        ("top_k", 60, 60),
        ("top_k", 5.0, 5),
        ("top_k", "5", 5),
        ("top_k", None, None),
        ("min_p", 0.2, 0.2),
        ("repetition_penalty", 1.3, 1.3),
        ("presence_penalty", 0.5, 0.5),
        ("frequency_penalty", "0", 0.0),
        ("sanitize_output", False, False),
        ("sanitize_output", None, None),
    ],
)
def test_sampling_is_taken_where_clients_put_it(
    where: str, name: str, sent: Any, value: Any
) -> None:
    fields = {name: sent}
    if where != "at the top level":
        fields = {where.removeprefix("in "): fields}
    found = getattr(read(fields).sampling, name)
    assert found == value
    assert type(found) is type(value)


def test_the_sampling_object_wins_over_the_top_level() -> None:
    start = read({"temperature": 0.1, "top_k": 7, "sampling": {"temperature": 0.9}})
    assert (start.sampling.temperature, start.sampling.top_k) == (0.9, 7)


def test_a_wrong_value_at_the_top_level_does_no_harm_under_one_in_the_object() -> None:
    assert read({"temperature": "hot", "sampling": {"temperature": 1}}).sampling.temperature == 1


def test_sampling_wins_over_sampling_params() -> None:
    start = read({"sampling": {"temperature": 0.2}, "sampling_params": {"temperature": 0.9}})
    assert start.sampling.temperature == 0.2


@pytest.mark.parametrize("empty", [None, {}, [], "", 0, False])
def test_sampling_may_be_empty(empty: Any) -> None:
    assert read({"sampling": empty}).sampling == SamplingOptions()


def test_an_empty_list_as_sampling_leaves_the_top_level_in_force() -> None:
    assert read({"sampling": [], "temperature": 0.5}).sampling.temperature == 0.5


def test_unknown_sampling_fields_are_ignored() -> None:
    assert read({"sampling": {"max_tokens": 5, "seed": 1, "stop": ["x"]}}) == read({})


def test_the_last_of_duplicate_keys_wins() -> None:
    text = json.dumps(GOOD)[:-1] + ', "gender": "male"}'
    envelope = parse(text, cancel_sentinel="__CANCEL__", end_sentinel="__END__")
    assert read_start(envelope, RULES).gender == "male"


def test_a_start_is_read_without_rules_too() -> None:
    assert read({}, StartRules()).sampling == SamplingOptions()
    assert read({"temperature": 1e6}, StartRules()).sampling.temperature == 1e6


# Deploy modes


def test_in_tool_mode_the_persona_and_the_sampling_are_not_looked_at() -> None:
    start = read({"chat_prompt": [MARK], "sampling": MARK, "temperature": "hot"}, TOOL)
    assert start.chat_prompt is None
    assert start.sampling == SamplingOptions()
    assert read({"chat_prompt": ABSENT}, TOOL).chat_prompt is None


def test_in_chat_mode_personalities_may_be_left_out() -> None:
    assert read({"personalities": ABSENT}, CHAT).personalities is None
    assert read({"personalities": None, "personality": "anyone"}, CHAT).personality == "anyone"


def test_in_chat_mode_personalities_are_checked_where_they_come() -> None:
    assert refusal({"personalities": {}}, CHAT).code is ErrorCode.EMPTY_PERSONALITIES
    assert refusal({"personality": "other"}, CHAT).code is ErrorCode.PERSONALITY_NOT_IN_LIST


# What is refused

NO_NUMBERS: list[Any] = [True, MARK, "", [], {}, math.nan, math.inf, "nan", "inf", "0x1"]
NO_BREAKERS: list[Any] = [
    *(MARK, 5, {}, True, [5], [None], [[MARK]], [""], [MARK * 2], ["x"] * 17),
]
MANY_SYNONYMS = [f"w{i}" for i in range(11)]
REFUSED: list[tuple[str, Any, str]] = [
    ("session_id", ABSENT, "missing_session_id"),
    ("session_id", None, "missing_session_id"),
    ("session_id", "", "missing_session_id"),
    ("session_id", 0, "missing_session_id"),
    ("session_id", [], "missing_session_id"),
    ("session_id", [MARK], "invalid_session_id"),
    ("session_id", {MARK: 1}, "invalid_session_id"),
    ("session_id", True, "invalid_session_id"),
    ("session_id", math.nan, "invalid_session_id"),
    ("session_id", math.inf, "invalid_session_id"),
    ("gender", ABSENT, "missing_gender"),
    ("gender", MARK, "invalid_gender"),
    ("gender", "woman", "invalid_gender"),
    ("gender", "null", "invalid_gender"),
    ("gender", "", "invalid_gender"),
    ("gender", 1, "invalid_gender"),
    ("gender", ["female"], "invalid_gender"),
    ("personality", ABSENT, "missing_personality"),
    ("personality", MARK, "invalid_personality"),
    ("personality", "", "invalid_personality"),
    ("personality", "a" * 21, "invalid_personality"),
    ("personality", "two words", "invalid_personality"),
    ("personality", "amélie", "invalid_personality"),
    ("personality", "r2d", "invalid_personality"),
    ("personality", 5, "invalid_personality"),
    ("personality", "stranger", "personality_not_in_list"),
    ("chat_prompt", ABSENT, "missing_chat_prompt"),
    ("chat_prompt", None, "missing_chat_prompt"),
    ("chat_prompt", 5, "invalid_chat_prompt"),
    ("chat_prompt", [MARK], "invalid_chat_prompt"),
    ("chat_prompt", "", "invalid_chat_prompt"),
    ("chat_prompt", " \u0000\u202e\n", "invalid_chat_prompt"),
    ("chat_prompt", MARK * 2_500, "invalid_chat_prompt"),
    ("sampling", MARK, "invalid_sampling_payload"),
    ("sampling", [MARK], "invalid_sampling_payload"),
    ("sampling", 1, "invalid_sampling_payload"),
    ("sampling", True, "invalid_sampling_payload"),
    ("sampling_params", MARK, "invalid_sampling_payload"),
    ("top_k", "5.0", "invalid_top_k"),
    ("top_k", 5.5, "invalid_top_k"),
    ("top_k", 10**400, "invalid_top_k"),
    ("sanitize_output", 1, "invalid_sanitize_output"),
    ("sanitize_output", "true", "invalid_sanitize_output"),
    ("sanitize_output", [], "invalid_sanitize_output"),
    ("logit_bias", MARK, "invalid_logit_bias"),
    ("logit_bias", {MARK: "1"}, "invalid_logit_bias"),
    ("logit_bias", {MARK: 101}, "invalid_logit_bias"),
    ("banned_strings", MARK, "invalid_banned_strings"),
    ("banned_strings", [MARK, 5], "invalid_banned_strings"),
    ("check_screen_prefix", "x" * 31, "invalid_check_screen_prefix"),
    ("check_screen_prefix", 5, "invalid_check_screen_prefix"),
    ("check_screen_prefix", MARK * 3, "invalid_check_screen_prefix"),
    ("screen_checked_prefix", "x" * 31, "invalid_screen_checked_prefix"),
    ("screen_checked_prefix", [MARK], "invalid_screen_checked_prefix"),
    ("personalities", ABSENT, "missing_personalities"),
    ("personalities", None, "missing_personalities"),
    ("personalities", ["friendly"], "invalid_personalities_format"),
    ("personalities", MARK, "invalid_personalities_format"),
    ("personalities", {}, "empty_personalities"),
    ("personalities", names(51), "too_many_personalities"),
    ("personalities", {MARK: []}, "invalid_personality_name"),
    ("personalities", {"": []}, "invalid_personality_name"),
    ("personalities", {"a" * 21: []}, "invalid_personality_name"),
    ("personalities", {"friendly": [], "Friendly": []}, "duplicate_personality"),
    ("personalities", {"kind": ["friendly"], "friendly": []}, "duplicate_personality"),
    ("personalities", {"friendly": MARK}, "invalid_personality_synonyms"),
    ("history", MARK, "invalid_history"),
    ("heard_chars", MARK, "invalid_heard_chars"),
    ("heard_chars", -1, "invalid_heard_chars"),
    ("heard_chars", True, "invalid_heard_chars"),
    ("heard_text", 5, "invalid_heard_text"),
    ("history", [MARK], "invalid_history"),
    ("history", [{"role": MARK, "content": "hi"}], "invalid_history"),
    ("history", [{"role": "user", "content": 5}], "invalid_history"),
    ("history", [{"role": "user", "content": "hi"}] * 1001, "invalid_history"),
    ("personalities", {"friendly": None}, "invalid_personality_synonyms"),
    ("personalities", {"friendly": {}}, "invalid_personality_synonyms"),
    ("personalities", {"friendly": MANY_SYNONYMS}, "too_many_synonyms"),
    ("personalities", {"friendly": [5]}, "invalid_personality_synonym"),
    ("personalities", {"friendly": [" \u0000"]}, "invalid_personality_synonym"),
    ("personalities", {"friendly": [[MARK]]}, "invalid_personality_synonym"),
    ("personalities", {"friendly": [MARK * 20]}, "invalid_personality_synonym"),
    ("personalities", {"friendly": [MARK, MARK.upper()]}, "duplicate_personality_synonym"),
    ("personalities", {"friendly": ["Friendly"]}, "duplicate_personality_synonym"),
    ("personalities", {"a": ["b"], "friendly": ["B"]}, "duplicate_personality_synonym"),
    ("history_text", 5, "invalid_history_text"),
    ("history_text", [MARK], "invalid_history_text"),
    ("user_utterance", 5, "invalid_user_utterance"),
    ("user_utterance", [MARK], "invalid_user_utterance"),
    ("user_utterance", {}, "invalid_user_utterance"),
    *[(name, value, f"invalid_{name}") for name in SAMPLING_FIELDS for value in NO_NUMBERS],
    *[("dry_sequence_breakers", v, "invalid_dry_sequence_breakers") for v in NO_BREAKERS],
    *[
        (name, value, f"{name}_out_of_range")
        for name, low, high in [
            ("temperature", -0.01, 1.21),
            ("top_p", 0.59, 1.01),
            ("top_k", -1, 61),
            ("min_p", -0.01, "0.21"),
            ("repetition_penalty", "0.99", 1.31),
            ("presence_penalty", -0.01, 0.51),
            ("frequency_penalty", -1, 1e300),
            ("dry_multiplier", -0.1, 5.1),
            ("dry_base", 0.99, "4.01"),
            ("dry_allowed_length", 0, 21),
            ("dry_range", -1, 1_048_577),
            ("xtc_probability", -0.1, 1.1),
            ("xtc_threshold", 0.04, 1.1),
        ]
        for value in (low, high)
    ],
]


@pytest.mark.parametrize(("name", "value", "code"), REFUSED)
def test_a_wrong_field_is_refused_with_its_code(name: str, value: Any, code: str) -> None:
    error = refusal({name: value})
    assert error.code == code
    # The message is a sentence that shows neither what was sent nor how Python puts it.
    assert error.message.endswith(".")
    assert MARK not in error.message.lower()
    assert "Error" not in error.message


@pytest.mark.parametrize("name", [*SAMPLING_FIELDS, "sanitize_output", "logit_bias"])
def test_a_wrong_sampling_value_is_refused_inside_the_object_too(name: str) -> None:
    assert refusal({"sampling": {name: [MARK]}}).code == f"invalid_{name}"


def test_a_number_with_underscores_is_no_number() -> None:
    assert refusal({"temperature": "1_0"}).code is ErrorCode.INVALID_TEMPERATURE
    assert refusal({"top_k": "1_0"}).code is ErrorCode.INVALID_TOP_K


def test_every_code_of_a_start_is_given_for_something() -> None:
    fields = [*ErrorCode][[*ErrorCode].index(ErrorCode.MISSING_SESSION_ID) :]
    elsewhere = {
        ErrorCode.CHAT_PROMPT_TOO_LONG,
        ErrorCode.SESSION_TAKEN_OVER,
        ErrorCode.SAMPLERS_NOT_DEPLOYED,
    }
    assert {code for _, _, code in REFUSED} == set(fields) - elsewhere


# One wrong value for each check, in the order in which they are made.
IN_ORDER: list[tuple[dict[str, Any], str]] = [
    ({"session_id": None}, "missing_session_id"),
    ({"gender": 1}, "invalid_gender"),
    ({"personality": 1}, "invalid_personality"),
    ({"chat_prompt": 1}, "invalid_chat_prompt"),
    ({"temperature": -9}, "temperature_out_of_range"),
    ({"top_p": -9}, "top_p_out_of_range"),
    ({"top_k": -9}, "top_k_out_of_range"),
    ({"min_p": -9}, "min_p_out_of_range"),
    ({"repetition_penalty": -9}, "repetition_penalty_out_of_range"),
    ({"presence_penalty": -9}, "presence_penalty_out_of_range"),
    ({"frequency_penalty": -9}, "frequency_penalty_out_of_range"),
    ({"dry_multiplier": -9}, "dry_multiplier_out_of_range"),
    ({"dry_base": -9}, "dry_base_out_of_range"),
    ({"dry_allowed_length": -9}, "dry_allowed_length_out_of_range"),
    ({"dry_range": -9}, "dry_range_out_of_range"),
    ({"dry_sequence_breakers": 9}, "invalid_dry_sequence_breakers"),
    ({"xtc_probability": -9}, "xtc_probability_out_of_range"),
    ({"xtc_threshold": -9}, "xtc_threshold_out_of_range"),
    ({"sanitize_output": 9}, "invalid_sanitize_output"),
    ({"logit_bias": 9}, "invalid_logit_bias"),
    ({"banned_strings": 9}, "invalid_banned_strings"),
    ({"check_screen_prefix": 1}, "invalid_check_screen_prefix"),
    ({"screen_checked_prefix": 1}, "invalid_screen_checked_prefix"),
    ({"personalities": 1}, "invalid_personalities_format"),
]


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_of_several_faults_the_first_in_order_is_reported(first: int) -> None:
    fields: dict[str, Any] = {}
    for wrong, _ in IN_ORDER[first:]:
        fields |= wrong
    assert refusal(fields).code == IN_ORDER[first][1]


def test_membership_is_checked_after_everything_else() -> None:
    fields = {"personality": "stranger", "history_text": 5}
    assert refusal(fields).code is ErrorCode.INVALID_HISTORY_TEXT


def test_limits_are_the_operators() -> None:
    rules = StartRules(
        prompt_max_chars=5,
        personality_max_len=8,
        max_personalities=1,
        max_synonyms=1,
        prefix_max_chars=2,
        sampling_ranges={"temperature": (0.4, 0.5)},
    )
    good = {"personalities": {"friendly": ["a"]}, "chat_prompt": "12345", "temperature": 0.4}
    assert read(good, rules).chat_prompt == "12345"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"chat_prompt": "123456"}, "invalid_chat_prompt"),
        ({"personality": "ninechars"}, "invalid_personality"),
        ({"personalities": {"a": [], "b": []}}, "too_many_personalities"),
        ({"personalities": {"a": ["b", "c"]}}, "too_many_synonyms"),
        ({"check_screen_prefix": "abc"}, "invalid_check_screen_prefix"),
        ({"temperature": 0.6}, "temperature_out_of_range"),
    ]
    for fields, code in refused:
        assert refusal(good | fields, rules).code == code


@pytest.mark.parametrize("name", ["dry_multiplier", "xtc_probability"])
def test_samplers_that_the_engine_has_not_are_refused(name: str) -> None:
    rules = dataclasses.replace(RULES, samplers=False)
    assert refusal({name: 0.5}, rules).code is ErrorCode.SAMPLERS_NOT_DEPLOYED
    assert refusal({"sampling": {name: "0.5"}}, rules).code is ErrorCode.SAMPLERS_NOT_DEPLOYED
    # What is off, or turns nothing on, may stand there.
    assert getattr(read({name: 0}, rules).sampling, name) == 0
    assert read({"dry_base": 2, "xtc_threshold": 0.2}, rules).sampling.dry_base == 2
    assert getattr(read({name: 0.5}).sampling, name) == 0.5


def test_the_range_of_dry_has_another_name_too() -> None:
    assert read({"dry_penalty_last_n": "64"}).sampling.dry_range == 64
    assert read({"sampling": {"dry_penalty_last_n": 64}}).sampling.dry_range == 64
    both = {"dry_penalty_last_n": 64, "dry_range": 128}
    assert read(both).sampling.dry_range == 128
    assert read({"sampling": both}).sampling.dry_range == 128
    assert refusal({"dry_penalty_last_n": MARK}).code is ErrorCode.INVALID_DRY_RANGE


def test_sequence_breakers_are_taken_as_they_are() -> None:
    breakers = ["\n", " ", "…", "</s>"]
    assert read({"dry_sequence_breakers": breakers}).sampling.dry_sequence_breakers == (*breakers,)
    assert read({"dry_sequence_breakers": []}).sampling.dry_sequence_breakers == ()
    assert read({"dry_sequence_breakers": None}).sampling.dry_sequence_breakers is None


def test_the_range_is_told_in_the_message() -> None:
    assert refusal({"temperature": 9}).message == "temperature must be from 0 to 1.2."


def test_a_start_is_not_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        read({}).gender = "male"  # type: ignore[misc]


def test_a_problem_without_a_code_of_its_own_is_an_invalid_message() -> None:
    with pytest.raises(ValidationError) as raised:
        Start.model_validate(MARK)
    problem = first_problem(raised.value)
    assert problem.code is ErrorCode.INVALID_MESSAGE
    assert MARK not in problem.message


FIELDS = [
    *Start.model_fields,
    *SamplingOptions.model_fields,
    "sampling_params",
    "persona_text",
]


def attempt(fields: dict[str, Any], rules: StartRules = RULES) -> Start | ProtocolError:
    """The start, or its refusal; anything else raised fails the test."""
    try:
        return read(fields, rules)
    except ProtocolError as error:
        return error


@given(st.sampled_from(FIELDS), JSON, st.sampled_from([RULES, TOOL, CHAT]))
def test_any_value_in_any_field_gives_a_start_or_a_coded_refusal(
    name: str, value: Any, rules: StartRules
) -> None:
    found = attempt({name: value}, rules)
    assert isinstance(found, Start) or found.message.endswith(".")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6), st.sampled_from([RULES, TOOL]))
def test_any_values_in_several_fields_give_a_start_or_a_coded_refusal(
    fields: dict[str, Any], rules: StartRules
) -> None:
    found = attempt(fields, rules)
    assert isinstance(found, Start) or found.message.endswith(".")


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_any_personalities_are_read_or_refused(value: dict[str, Any]) -> None:
    found = attempt({"personality": "a", "personalities": {"a": []} | value})
    if isinstance(found, Start) and found.personalities is not None:
        words = [word for name, others in found.personalities.items() for word in (name, *others)]
        assert len(words) == len(set(words))
        assert all(word == word.lower() for word in words)
