"""A connection lets the right ones in, reads them at once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.places import START, MakePlace
from tests.unit.stand_ins import (
    KEY,
    Gate,
    Last,
    Step,
    kinds,
)
from yap.errors import EngineFailed

pytestmark = pytest.mark.usefixtures("no_task_left")

REPLY: Sequence[Step] = ("Hello", " there", Last("."))
WHOLE_TURN = ["ack", "toolcall", "token", "token", "token", "final", "done"]


# The handshake


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (f"api_key={KEY}", {}),
        ("", {"X-API-Key": KEY}),
        ("api_key=", {"X-API-Key": KEY}),
        ("", {"Authorization": f"Bearer {KEY}"}),
        (f"api_key={KEY}", {"X-API-Key": "wrong-key"}),
    ],
)
async def test_who_has_the_key_is_let_in(
    place: MakePlace, query: str, headers: dict[str, str]
) -> None:
    client = place().connect(query=query, headers=headers)
    client.send({"type": "ping"})
    assert await client.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("api_key=wrong-key", {}),
        ("api_key=wrong-key", {"X-API-Key": KEY}),
        ("", {"X-API-Key": "wrong-key"}),
        ("", {"Authorization": f"Basic {KEY}"}),
    ],
)
async def test_who_has_not_is_told_and_closed(
    place: MakePlace, query: str, headers: dict[str, str]
) -> None:
    at = place()
    client = at.connect(query=query, headers=headers)
    frame, closed = await client.ended()
    assert client.accepted
    assert list(frame) == ["type", "error_code", "message"]
    assert frame["error_code"] == "authentication_failed"
    assert "api_key" in frame["message"]
    assert "X-API-Key" in frame["message"]
    assert closed == {"type": "closed"}
    assert client.close == (1008, "")
    assert at.refusals("authentication_failed") == 1


async def test_one_more_than_there_is_room_for_is_told_how_full_it_is(place: MakePlace) -> None:
    at = place(max_concurrent_connections=2, ws_handshake_acquire_timeout_s=0.05)
    for _ in range(2):
        client = at.connect()
        client.send({"type": "ping"})
        await client.receive()
    third = at.connect()
    frame, _closed = await third.ended()
    assert list(frame) == ["type", "error_code", "message", "capacity"]
    assert frame["error_code"] == "server_at_capacity"
    assert frame["capacity"] == {"active": 2, "max": 2, "available": 0, "at_capacity": True}
    assert third.close == (1013, "")


async def test_a_wrong_key_is_told_before_anything_about_capacity(place: MakePlace) -> None:
    at = place(max_concurrent_connections=1, ws_handshake_acquire_timeout_s=5)
    at.connect().send({"type": "ping"})
    await at.clients[0].receive()
    frame, _closed = await at.connect(query="").ended(1)
    assert frame["error_code"] == "authentication_failed"


async def test_a_place_that_comes_free_in_time_is_given(place: MakePlace) -> None:
    at = place(max_concurrent_connections=1, ws_handshake_acquire_timeout_s=5)
    first = at.connect()
    first.send({"type": "ping"})
    await first.receive()
    second = at.connect()
    second.send({"type": "ping"})
    await asyncio.sleep(0.01)
    assert not second.accepted
    first.disconnect()
    assert await second.receive() == {"type": "pong"}


async def test_close_codes_are_the_operators(place: MakePlace) -> None:
    at = place(
        max_concurrent_connections=1,
        ws_handshake_acquire_timeout_s=0,
        ws_close_unauthorized_code=4401,
        ws_close_busy_code=4503,
        ws_close_client_request_code=4200,
    )
    wrong, first = at.connect(query=""), at.connect()
    await wrong.ended()
    busy = at.connect()
    await busy.ended()
    first.send({"type": "end"})
    await first.ended()
    assert [wrong.close, busy.close, first.close] == [(4401, ""), (4503, ""), (4200, "")]


@pytest.mark.parametrize("query", [None, ""])
async def test_a_client_that_vanishes_in_the_handshake_costs_no_place(
    place: MakePlace, query: str | None
) -> None:
    at = place(max_concurrent_connections=1, ws_send_timeout_s=0.1)
    for _ in range(3):
        client = at.connect(query=query)
        client.disconnect()
        await client.ended()
    assert at.server.admission.active == 0


async def test_while_the_server_drains_nobody_gets_in(place: MakePlace) -> None:
    at = place()
    at.server.admission.draining = True
    client = at.connect()
    frame, _closed = await client.ended()
    assert frame["error_code"] == "server_draining"
    assert client.close == (1013, "")


async def test_while_the_server_drains_a_running_turn_goes_on_and_no_new_one_starts(
    place: MakePlace,
) -> None:
    gate = Gate()
    at = place(("Hello", gate, Last(".")), drain_timeout_s=5)
    client = at.connect()
    client.send(START)
    await gate.reached()
    draining = asyncio.create_task(at.server.drain())
    await asyncio.sleep(0.01)
    client.send(START)
    assert (await client.until("error"))[-1]["error_code"] == "server_draining"
    assert not draining.done()
    gate.open()
    assert (await client.until("done"))[-1]["finish_reason"] == "stop"
    await draining


# A turn


async def test_a_turn_on_the_wire(place: MakePlace) -> None:
    client = place(REPLY).connect()
    client.send(START)
    ack, toolcall, *tokens, final, done = await client.until("done")
    assert list(ack)[:8] == [
        "type",
        "for",
        "ok",
        "session_id",
        "now",
        "gender",
        "personality",
        "chat_prompt",
    ]
    assert ack["for"] == "start"
    assert ack["ok"] is True
    assert ack["session_id"] == "s-1"
    assert ack["chat_prompt"] is True
    assert (toolcall["status"], toolcall["raw"]) == ("no", [])
    assert [token["text"] for token in tokens] == ["Hello", " there", "."]
    assert final["normalized_text"] == "Hello there."
    assert done["usage"]["completion_tokens"] == 3
    turn_ids = {frame["turn_id"] for frame in (ack, toolcall, *tokens, final, done)}
    assert len(turn_ids) == 1


@pytest.mark.parametrize("session_id", ["s", 42, 4.5, True])
async def test_a_session_id_comes_back_in_its_own_type(place: MakePlace, session_id: Any) -> None:
    client = place().connect()
    client.send(START | {"session_id": session_id})
    ack = await client.receive()
    assert ack["session_id"] == session_id
    assert type(ack["session_id"]) is type(session_id)
    await client.until("done")


async def test_a_type_is_read_in_any_case(place: MakePlace) -> None:
    client = place().connect()
    client.send(START | {"type": " START "})
    assert kinds(await client.until("done")) == WHOLE_TURN


async def test_a_conversation_remembers(place: MakePlace) -> None:
    at = place(REPLY)
    client = at.connect()
    for utterance in ("one", "two"):
        client.send(START | {"user_utterance": utterance})
        await client.until("done")
    assert "one" in at.chat.prompts[1]
    assert "Hello there." in at.chat.prompts[1]


async def test_sessions_of_one_connection_do_not_mix(place: MakePlace) -> None:
    at = place(REPLY)
    client = at.connect()
    for session_id in (1, "1", True):
        client.send(START | {"session_id": session_id, "user_utterance": f"from {session_id!r}"})
        await client.until("done")
    assert "from 1" not in at.chat.prompts[1]
    assert "from" not in at.chat.prompts[2].replace("from True", "")


async def test_the_same_id_under_another_key_is_another_session(place: MakePlace) -> None:
    gate = Gate()
    other = "another-key-for-tests"
    at = place(("secret", gate, Last(".")), REPLY, text_api_key=f"{KEY},{other}")
    first, second = at.connect(), at.connect(query=f"api_key={other}")
    first.send(START)
    await gate.reached()
    second.send(START)
    assert kinds(await second.until("done")) == WHOLE_TURN
    second.send({"type": "cancel"})
    await second.receive()
    second.send({"type": "end"})
    await second.ended()
    gate.open()
    assert (await first.until("done"))[-1]["finish_reason"] == "stop"
    assert "secret" not in at.chat.prompts[1]


async def test_the_time_of_an_ack_is_when_the_session_began(place: MakePlace) -> None:
    client = place().connect()
    times = []
    for _ in range(2):
        client.send(START)
        times.append((await client.until("done"))[0]["now"])
    assert times[0] == times[1]


async def test_a_failure_of_the_engine_ends_the_turn_and_not_the_connection(
    place: MakePlace,
) -> None:
    client = place((EngineFailed("It failed."),), REPLY).connect()
    client.send(START)
    *_, error, done = await client.until("done")
    assert (error["error_code"], done["finish_reason"]) == ("engine_error", "error")
    assert error["turn_id"] == done["turn_id"]
    client.send(START)
    assert kinds(await client.until("done")) == WHOLE_TURN


async def test_while_the_engine_is_not_ready_a_start_is_refused_and_the_client_stays(
    place: MakePlace,
) -> None:
    at = place(REPLY)
    at.chat.alive = False
    client = at.connect()
    client.send(START)
    assert (await client.receive())["error_code"] == "engine_unavailable"
    at.chat.alive = True
    client.send(START)
    assert kinds(await client.until("done")) == WHOLE_TURN


# Barge-in


async def test_a_new_start_ends_the_old_turn_before_its_own_ack(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Once", " upon", gate), REPLY)
    client = at.connect()
    client.send(START | {"user_utterance": "tell me a story"})
    before = [await client.receive() for _ in range(4)]
    assert kinds(before) == ["ack", "toolcall", "token", "token"]
    client.send(START | {"user_utterance": "stop it"})
    done, *frames = await client.until("final")
    assert (done["type"], done["finish_reason"]) == ("done", "cancelled")
    assert done["cancelled"] is True
    assert "request_id" not in done
    assert done["turn_id"] == before[0]["turn_id"]
    frames += await client.until("done")
    assert kinds(frames) == WHOLE_TURN
    assert {frame["turn_id"] for frame in frames} == {frames[0]["turn_id"]}
    assert frames[0]["turn_id"] != done["turn_id"]
    # The next prompt holds what the client got of the first reply.
    assert "tell me a story<|im_end|>" in at.chat.prompts[1]
    assert "Once upon<|im_end|>" in at.chat.prompts[1]


async def test_of_a_burst_of_starts_each_ends_and_the_last_is_served(place: MakePlace) -> None:
    client = place(REPLY).connect()
    for _ in range(4):
        client.send(START)
    frames = []
    for _ in range(4):
        frames += await client.until("done")
    assert kinds(frames).count("ack") == 4
    acked = [frame["turn_id"] for frame in frames if frame["type"] == "ack"]
    ended = [frame["turn_id"] for frame in frames if frame["type"] == "done"]
    assert acked == ended
    reasons = [frame["finish_reason"] for frame in frames if frame["type"] == "done"]
    assert reasons[-1] == "stop"
    assert "cancelled" in reasons


async def test_history_text_with_a_new_start_replaces_also_what_was_interrupted(
    place: MakePlace,
) -> None:
    gate = Gate()
    at = place(("Once", gate), REPLY)
    client = at.connect()
    client.send(START | {"user_utterance": "interrupted"})
    await gate.reached()
    client.send(START | {"history_text": "User: before\nAssistant: yes"})
    await client.until("final")
    assert "interrupted" not in at.chat.prompts[1]
    assert "before" in at.chat.prompts[1]


# Cancel, ping, end


@pytest.mark.parametrize(
    "frame", [{"type": "cancel"}, {"cancel": True}, " __CANCEL__ ", {"type": " CANCEL "}]
)
async def test_a_cancel_is_answered_also_where_nothing_runs(place: MakePlace, frame: Any) -> None:
    client = place().connect()
    client.send(frame)
    assert await client.receive() == {"type": "done", "cancelled": True}
    client.send(START)
    await client.until("done")
    client.send(frame)
    assert await client.receive() == {"type": "done", "cancelled": True}


async def test_a_cancel_stops_the_turn_at_once(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Hello", gate))
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.send({"type": "cancel", "request_id": 5})
    done = await client.receive()
    assert list(done)[:3] == ["type", "cancelled", "request_id"]
    assert (done["cancelled"], done["request_id"]) == (True, "5")
    assert done["finish_reason"] == "cancelled"
    assert at.chat.streaming == 0


async def test_a_cancel_is_heard_while_the_router_decides(place: MakePlace) -> None:
    gate = Gate()
    client = place(REPLY, steps=[gate]).connect()
    client.send(START)
    await gate.reached()
    client.send({"type": "cancel"})
    assert kinds(await client.until("done")) == ["ack", "done"]


async def test_every_cancel_gets_a_done_with_its_own_id_in_order(place: MakePlace) -> None:
    gate = Gate()
    client = place(("Hello", gate)).connect()
    client.send(START)
    await gate.reached()
    for request_id in ("a", "b", "c"):
        client.send({"type": "cancel", "request_id": request_id})
    await client.until("token")
    dones = [await client.receive() for _ in range(3)]
    assert [done["request_id"] for done in dones] == ["a", "b", "c"]
    assert ["turn_id" in done for done in dones] == [True, False, False]


async def test_ping_is_answered_while_a_turn_runs_and_pong_is_not(place: MakePlace) -> None:
    gate = Gate()
    client = place((gate, Last("."))).connect()
    client.send(START)
    await client.until("toolcall")
    client.send({"type": "pong"})
    client.send({"type": "ping"})
    assert await client.receive() == {"type": "pong"}
    gate.open()
    assert kinds(await client.until("done")) == ["token", "final", "done"]


@pytest.mark.parametrize("frame", [{"type": "end"}, {"end": 1}, "__END__"])
async def test_end_is_said_and_done(place: MakePlace, frame: Any) -> None:
    client = place().connect()
    client.send(frame)
    said, _closed = await client.ended()
    assert said == {"type": "connection_closed", "reason": "client_request"}
    assert client.close == (1000, "")


async def test_end_in_the_middle_of_a_turn_ends_that_first(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Hello", gate))
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.send({"type": "end"})
    assert kinds(await client.ended()) == ["done", "connection_closed", "closed"]
    assert client.close == (1000, "")
    assert at.chat.streaming == 0


async def test_after_end_nothing_is_read(place: MakePlace) -> None:
    client = place().connect()
    client.send({"type": "end"})
    client.send({"type": "ping"})
    assert kinds(await client.ended()) == ["connection_closed", "closed"]


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


# Silence


async def test_a_silent_client_is_closed(place: MakePlace) -> None:
    client = place(idle=0.25, ws_watchdog_tick_s=0.05).connect()
    assert kinds(await client.ended()) == ["closed"]
    assert client.close == (4000, "idle_timeout")


async def test_a_ping_keeps_the_connection_and_rubbish_does_not(place: MakePlace) -> None:
    at = place(idle=0.25, ws_watchdog_tick_s=0.05)
    lively, silly = at.connect(), at.connect()
    for _ in range(8):
        await asyncio.sleep(0.05)
        lively.send({"type": "ping"})
        silly.send("rubbish")
    assert lively.close is None
    assert silly.close == (4000, "idle_timeout")


async def test_a_running_turn_ends_with_the_idle_connection(place: MakePlace) -> None:
    at = place(("Hello", Gate()), idle=0.25, ws_watchdog_tick_s=0.05)
    client = at.connect()
    client.send(START)
    frames = await client.ended()
    assert kinds(frames)[-2:] == ["done", "closed"]
    assert frames[-2]["finish_reason"] == "cancelled"
    assert at.chat.streaming == 0


# Clients that do not read


async def test_a_client_that_does_not_read_is_closed_with_a_code_of_its_own(
    place: MakePlace,
) -> None:
    at = place(("a",) * 1000, ws_send_timeout_s=0.2, ws_send_queue_max=8)
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.reading.clear()
    await asyncio.sleep(0.3)
    client.reading.set()  # in time for the close
    await client.ended()
    assert client.close == (4001, "slow_client")
    assert at.chat.streaming == 0


async def test_a_client_that_never_reads_again_costs_no_place(place: MakePlace) -> None:
    at = place(("a",) * 1000, ws_send_timeout_s=0.1, ws_send_queue_max=8)
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.reading.clear()
    await client.ended(2)
    assert at.server.admission.active == 0
    assert at.chat.streaming == 0


@pytest.mark.parametrize("pings", [8, 9])
@pytest.mark.parametrize("last", ["bad start", "end", "silence", "disconnect"])
async def test_a_client_with_a_full_queue_costs_no_place_however_it_ends(
    place: MakePlace, pings: int, last: str
) -> None:
    """Answers to pings fill the queue, so that not even the turn's `done` finds room."""
    gate = Gate()
    at = place(
        (gate,),
        ws_send_queue_max=8,
        ws_send_timeout_s=0.3,
        idle=0.15 if last == "silence" else 150,
        ws_watchdog_tick_s=0.05,
    )
    client = at.connect()
    client.send(START)
    await client.until("toolcall")
    await gate.reached()
    client.reading.clear()
    for _ in range(pings):
        client.send({"type": "ping"})
    if last == "bad start":
        client.send(START | {"gender": 5})
    elif last == "end":
        client.send({"type": "end"})
    elif last == "disconnect":
        client.disconnect()
    await client.ended(3)
    assert at.server.admission.active == 0
    assert at.chat.streaming == 0


async def test_a_client_that_reads_slowly_slows_its_own_turn_only(place: MakePlace) -> None:
    at = place(("a",) * 100 + (Last("."),), ws_send_queue_max=8)
    slow, quick = at.connect(), at.connect()
    slow.send(START)
    await slow.until("token")
    slow.reading.clear()
    quick.send(START | {"session_id": "s-2"})
    assert len(await quick.until("done")) == 105
    slow.reading.set()
    assert (await slow.until("done"))[-1]["usage"]["completion_tokens"] == 101


# The end


@pytest.mark.parametrize("when", ["ack", "toolcall", "token"])
async def test_a_client_that_goes_in_mid_turn_leaves_nothing_running(
    place: MakePlace, when: str
) -> None:
    gate = Gate()
    at = place(("Hello", gate), steps=[0.01])
    client = at.connect()
    client.send(START)
    await client.until(when)
    client.disconnect()
    await client.ended()
    assert client.close is None
    assert at.chat.streaming == 0
    assert not at.server._turns
    assert at.server.metrics.connections._value.get() == 0


async def test_a_server_that_drops_the_connection_leaves_nothing_running(
    place: MakePlace,
) -> None:
    """At shutdown the web server cancels what serves a connection."""
    gate = Gate()
    at = place(("Hello", gate))
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.serving
    await asyncio.sleep(0)
    assert at.chat.streaming == 0
    assert not at.server._turns


async def test_a_fault_of_our_own_closes_with_1011_and_says_nothing_of_it(
    place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = place()
    client = at.connect()
    client.send({"type": "ping"})
    await client.receive()

    def fail(*_args: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(at.server, "check_accepting", fail)
    client.send(START)
    frames = await client.ended()
    assert "secret" not in json.dumps(frames)
    assert client.close == (1011, "")


async def test_connections_are_counted(place: MakePlace) -> None:
    at = place()
    for _ in range(3):
        at.connect().send({"type": "ping"})
    for client in at.clients:
        await client.receive()
    assert at.server.metrics.connections._value.get() == 3
    for client in at.clients:
        client.send({"type": "end"})
        await client.ended()
    assert at.server.metrics.connections._value.get() == 0
