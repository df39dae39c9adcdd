"""How `logit_bias` and `banned_strings` of a client are read."""

from __future__ import annotations

from typing import Any

import pytest

from yap.protocol import Envelope, ErrorCode, ProtocolError, Start, StartRules, read_start
from yap.protocol.steering import (
    MAX_BANNED_STRINGS,
    MAX_LOGIT_BIASES,
    MAX_PHRASE_CHARS,
    is_token_id,
)

LONGEST = "x" * MAX_PHRASE_CHARS


def start(**fields: Any) -> Start:
    given = {
        "session_id": "s",
        "gender": "male",
        "personality": "calm",
        "personalities": {"calm": []},
        "chat_prompt": "You are Marc.",
    }
    return read_start(Envelope("start", given | fields), StartRules())


@pytest.mark.parametrize(
    "value",
    [
        {"5": -100, "07": 100, "honey": 2.5, " sugar": -1, "as an AI": -100, "٣": 1},
        {str(i): 0 for i in range(MAX_LOGIT_BIASES)},
        {LONGEST: 1},
        {},
    ],
)
def test_a_bias_is_taken_as_it_is(value: dict[str, float]) -> None:
    assert start(sampling={"logit_bias": value}).sampling.logit_bias == value
    assert start(logit_bias=value).sampling.logit_bias == value


@pytest.mark.parametrize(
    "value",
    [
        5,
        "x",
        [],
        True,
        {"": 1},
        {" ": 1},
        {"\u200e": 1},
        {"\u200b": 1},
        {"\ud800": 1},
        {LONGEST + "x": 1},
        {"ﷺ" * MAX_PHRASE_CHARS: 1},
        {"1" * 10: 1},
        {"a": None},
        {"a": "1"},
        {"a": True},
        {"a": 100.5},
        {"a": -101},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**400},
        {str(i): 0 for i in range(MAX_LOGIT_BIASES + 1)},
    ],
)
def test_a_bias_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        start(sampling={"logit_bias": value})
    assert refused.value.code is ErrorCode.INVALID_LOGIT_BIAS


@pytest.mark.parametrize("value", [["so, ", " hm"], ["42"], [LONGEST] * MAX_BANNED_STRINGS, []])
def test_banned_strings_are_taken_as_they_are(value: list[str]) -> None:
    assert start(sampling={"banned_strings": value}).sampling.banned_strings == tuple(value)
    assert start(banned_strings=value).sampling.banned_strings == tuple(value)


@pytest.mark.parametrize(
    "value",
    [5, "x", {}, True, [""], ["  "], [5], [None], [["x"]], ["\ud800"], ["\u200b"],
     ["\u00ad\u2060"], [LONGEST + "x"], ["x"] * (MAX_BANNED_STRINGS + 1)],
)  # fmt: skip
def test_banned_strings_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        start(sampling={"banned_strings": value})
    assert refused.value.code is ErrorCode.INVALID_BANNED_STRINGS


@pytest.mark.parametrize("field", ["logit_bias", "banned_strings"])
def test_null_is_how_clients_say_not_there(field: str) -> None:
    assert getattr(start(sampling={field: None}).sampling, field) is None


def test_only_ascii_digits_name_a_token() -> None:
    assert is_token_id("123")
    assert not any(map(is_token_id, ("", "-1", "1.0", "٣", " 1", "x1")))
