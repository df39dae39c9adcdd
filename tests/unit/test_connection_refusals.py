"""What a client must not send is refused in words, and most clients stay."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.places import START, WHOLE_TURN, MakePlace
from tests.unit.stand_ins import REPLY, Gate, Last, kinds

pytestmark = pytest.mark.usefixtures("no_task_left")


# What is wrong with a frame


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "invalid_message"),
        ("hello", "invalid_message"),
        ("[]", "invalid_message"),
        ("{}", "invalid_message"),
        (b"\x00\x01", "invalid_message"),
        (json.dumps(START).encode(), "invalid_message"),
        ({"type": "hello"}, "unknown_message_type"),
        ({"type": 5}, "unknown_message_type"),
        ({"type": ["start"]}, "unknown_message_type"),
        ({"type": "start"}, "missing_session_id"),
        (START | {"session_id": ""}, "missing_session_id"),
        (START | {"session_id": [1]}, "invalid_session_id"),
    ],
)
async def test_what_is_not_understood_is_told_and_the_client_stays(
    place: MakePlace, frame: Any, code: str
) -> None:
    at = place(REPLY)
    client = at.connect()
    client.send(frame)
    error = await client.receive()
    assert list(error) == ["type", "error_code", "message"]
    assert error["error_code"] == code
    assert at.refusals(code) == 1
    client.send(START)
    assert kinds(await client.until("done")) == WHOLE_TURN


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"gender": "woman"}, "invalid_gender"),
        ({"gender": 5}, "invalid_gender"),
        ({"temperature": 9}, "temperature_out_of_range"),
        ({"user_utterance": 5}, "invalid_user_utterance"),
        ({"chat_prompt": "Q" * 2000}, "chat_prompt_too_long"),
        ({"personality": "other"}, "personality_not_in_list"),
    ],
)
async def test_a_start_that_is_wrong_is_told_and_closed(
    place: MakePlace, fields: dict[str, Any], code: str
) -> None:
    at = place()
    client = at.connect()
    client.send(START | fields)
    error, _closed = await client.ended()
    assert error["error_code"] == code
    assert client.close == (1008, "")
    assert at.refusals(code) == 1


async def test_a_start_that_is_wrong_ends_the_running_turn_too(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Hello", gate))
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.send(START | {"gender": "woman"})
    assert kinds(await client.ended()) == ["error", "done", "closed"]
    assert client.close == (1008, "")
    assert at.chat.streaming == 0


async def test_an_utterance_too_long_is_cut_not_refused(place: MakePlace) -> None:
    at = place(REPLY)
    client = at.connect()
    client.send(START | {"user_utterance": "Q" * 400})
    assert kinds(await client.until("done")) == WHOLE_TURN
    assert "Q" * 350 in at.chat.prompts[0]
    assert "Q" * 351 not in at.chat.prompts[0]


# Rate limits


async def test_too_many_starts_are_refused_and_the_client_stays(place: MakePlace) -> None:
    client = place(REPLY, ws_max_messages_per_window=2).connect()
    for _ in range(2):
        client.send(START)
        await client.until("done")
    client.send(START)
    error = await client.receive()
    assert list(error) == ["type", "error_code", "message", "retry_in"]
    assert error["error_code"] == "message_rate_limited"
    assert error["retry_in"] == 60
    client.send({"type": "ping"})
    assert await client.receive() == {"type": "pong"}


async def test_a_refused_start_leaves_the_running_turn_alone(place: MakePlace) -> None:
    gate = Gate()
    client = place((gate, Last(".")), ws_max_messages_per_window=1).connect()
    client.send(START)
    await client.until("toolcall")
    client.send(START)
    assert (await client.receive())["error_code"] == "message_rate_limited"
    gate.open()
    assert (await client.until("done"))[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("rubbish", ["", "hello", b"\x00", {"type": "hello"}, "{}"])
async def test_rubbish_is_limited_like_messages(place: MakePlace, rubbish: Any) -> None:
    client = place(ws_max_messages_per_window=3).connect()
    for _ in range(10):
        client.send(rubbish)
    codes = [(await client.receive())["error_code"] for _ in range(10)]
    assert "message_rate_limited" not in codes[:3]
    assert set(codes[3:]) == {"message_rate_limited"}


async def test_pings_and_pongs_are_not_limited(place: MakePlace) -> None:
    client = place(ws_max_messages_per_window=1, ws_max_cancels_per_window=1).connect()
    for _ in range(50):
        client.send({"type": "ping"})
        client.send({"type": "pong"})
    for _ in range(50):
        assert await client.receive() == {"type": "pong"}


async def test_cancels_have_a_limit_of_their_own(place: MakePlace) -> None:
    gate = Gate()
    client = place((gate, Last(".")), ws_max_cancels_per_window=1).connect()
    client.send({"type": "cancel"})
    await client.receive()
    client.send(START)
    await client.until("toolcall")
    client.send({"type": "cancel"})
    error = await client.receive()
    assert error["error_code"] == "cancel_rate_limited"
    assert error["retry_in"] >= 1
    gate.open()  # the turn was left alone
    assert (await client.until("done"))[-1]["finish_reason"] == "stop"
