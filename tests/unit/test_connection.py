"""A connection reads a client at once, and answers it in order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.places import START, WHOLE_TURN, MakePlace
from tests.unit.stand_ins import KEY, REPLY, Gate, Last, kinds
from yap.errors import EngineFailed

pytestmark = pytest.mark.usefixtures("no_task_left")


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


@pytest.mark.parametrize("session_id", ["s", 42, 4.5])
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
    for session_id in (1, "1", 4.5):
        client.send(START | {"session_id": session_id, "user_utterance": f"from {session_id!r}"})
        await client.until("done")
    assert "from 1" not in at.chat.prompts[1]
    assert "from" not in at.chat.prompts[2].replace("from 4.5", "")


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
