"""Turns over a real socket, from a real engine and a real classifier."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import Frame, kinds, start, talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


async def test_a_turn_has_its_frames_in_order_and_real_usage(server: ServerProcess) -> None:
    async with talk(server) as client:
        frames = await client.turn("Hi there! How are you?")
    assert kinds(frames) == ["ack", "toolcall", "token", "final", "done"]
    ack, toolcall, *tokens, final, done = frames
    assert list(ack)[:8] == [
        "type", "for", "ok", "session_id", "now", "gender", "personality", "chat_prompt",
    ]  # fmt: skip
    assert (ack["for"], ack["ok"], ack["session_id"], ack["chat_prompt"]) == (
        "start", True, "s1", True,
    )  # fmt: skip
    assert (toolcall["status"], toolcall["raw"]) == ("no", [])
    assert final["normalized_text"] == "".join(token["text"] for token in tokens)
    assert final["normalized_text"].strip()
    assert done["finish_reason"] == "stop"
    assert done["usage"]["prompt_tokens"] > 20
    assert done["usage"]["completion_tokens"] >= len(tokens)
    assert 0 < done["timings"]["toolcall_ms"] < done["timings"]["ttft_ms"]
    assert len({frame["turn_id"] for frame in frames}) == 1


async def test_asking_to_look_at_the_screen_asks_the_client_for_it(server: ServerProcess) -> None:
    async with talk(server) as client:
        frames = await client.turn("Can you take a screenshot and look at my screen right now?")
    toolcall = frames[1]
    assert toolcall["status"] == "yes"
    assert toolcall["raw"] == [{"name": "take_screenshot"}]
    assert kinds(frames) == ["ack", "toolcall", "token", "final", "done"]


@pytest.mark.parametrize(("name", "gender"), [("Anna", "female"), ("Zorvan", "male")])
async def test_the_reply_keeps_the_personas_name(
    server: ServerProcess, name: str, gender: str
) -> None:
    async with talk(server) as client:
        frames = await client.turn(
            "What's your name?",
            gender=gender,
            chat_prompt=f"You are {name}, a warm and friendly companion.",
            sampling={"temperature": 0},
        )
    assert name in frames[-2]["normalized_text"]


async def test_the_second_turn_remembers_the_first_and_finds_its_prefix_cached(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        first = await client.turn("My name is Tobias.", sampling={"temperature": 0})
        await client.send(start("What is my name?", sampling={"temperature": 0}))
        # No history_text this time: the server keeps the conversation itself.
        await client.until("done")
        message = start("Do you remember my name?", sampling={"temperature": 0})
        del message["history_text"]
        await client.send(message)
        third = await client.until("done")
    assert third[-1]["usage"]["prompt_tokens"] > first[-1]["usage"]["prompt_tokens"]
    assert third[-1]["usage"]["cached_tokens"] > 0


async def test_a_seedless_greedy_turn_is_the_same_twice(server: ServerProcess) -> None:
    async with talk(server) as client:
        first = await client.turn("Tell me a joke!", sampling={"temperature": 0})
        second = await client.turn("Tell me a joke!", sampling={"temperature": 0})
    assert first[-2]["normalized_text"] == second[-2]["normalized_text"]


async def test_cancel_ends_the_turn_with_one_done_and_the_connection_goes_on(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        await client.send(start("Tell me about your day, please."))
        await client.until("token")
        await client.send({"type": "cancel", "request_id": 5})
        frames = await client.until("done")
        done = frames[-1]
        assert (done["cancelled"], done["request_id"], done["finish_reason"]) == (
            True, "5", "cancelled",
        )  # fmt: skip
        assert done["usage"]["completion_tokens"] > 0
        await client.send({"type": "ping"})
        assert await client.receive() == {"type": "pong"}
        assert (await client.turn("And now?"))[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("frame", [{"type": "cancel"}, {"cancel": True}, " __CANCEL__ "])
async def test_cancel_is_answered_when_nothing_runs(server: ServerProcess, frame: Any) -> None:
    async with talk(server) as client:
        await client.send(frame)
        assert await client.receive() == {"type": "done", "cancelled": True}


async def test_a_new_start_ends_the_running_turn_before_its_own_first_frame(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        await client.send(start("Tell me about your day, please."))
        old = (await client.until("token"))[0]["turn_id"]
        frames = [*await client.turn("Wait, what about music?")]
        if frames[-1]["turn_id"] == old:
            frames += await client.until("done")
    new = frames[-1]["turn_id"]
    ids = [frame["turn_id"] for frame in frames]
    assert ids == sorted(ids, key=[old, new].index)
    ended = [frame for frame in frames if frame["type"] == "done"]
    assert [(done["turn_id"], done.get("cancelled")) for done in ended] == [
        (old, True), (new, None),
    ]  # fmt: skip


@pytest.mark.parametrize("frame", [{"type": "end"}, "__END__", {"end": 1}])
async def test_end_closes_politely(server: ServerProcess, frame: Any) -> None:
    async with talk(server) as client:
        await client.send(frame)
        assert await client.receive() == {
            "type": "connection_closed",
            "reason": "client_request",
        }
        assert (await client.closed())[0] == 1000


async def test_bad_frames_get_coded_errors_and_the_connection_lives_on(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        cases: list[tuple[Frame | str | bytes, str]] = [
            ("", "invalid_message"),
            ("{", "invalid_message"),
            ("[1]", "invalid_message"),
            (b"\x00\x01", "invalid_message"),
            ({"no": "type"}, "invalid_message"),
            ({"type": "dance"}, "unknown_message_type"),
            ({"type": "start"}, "missing_session_id"),
            ({"type": "start", "session_id": ["a"]}, "invalid_session_id"),
        ]
        for frame, code in cases:
            await client.send(frame)
            answer = await client.receive()
            assert (answer["type"], answer["error_code"]) == ("error", code)
        assert (await client.turn("Still there?"))[-1]["finish_reason"] == "stop"


async def test_a_start_with_bad_content_is_refused_by_code_and_closed(
    server: ServerProcess,
) -> None:
    cases: list[tuple[Frame, str]] = [
        ({"gender": "woman"}, "invalid_gender"),
        ({"personality": "evil"}, "personality_not_in_list"),
        ({"chat_prompt": None}, "missing_chat_prompt"),
        ({"chat_prompt": "so long " * 3000}, "chat_prompt_too_long"),
        ({"sampling": {"temperature": 9}}, "temperature_out_of_range"),
        ({"user_utterance": 5}, "invalid_user_utterance"),
    ]
    for fields, code in cases:
        async with talk(server) as client:
            await client.send(start("hi", **fields))
            answer = await client.receive()
            assert (answer["type"], answer["error_code"]) == ("error", code)
            assert (await client.closed())[0] == 1008


@pytest.mark.parametrize(
    ("query", "headers"),
    [("", {}), ("?api_key=wrong-key", {}), ("?api_key=wrong-key", {"X-API-Key": API_KEY})],
)
async def test_without_a_good_key_nobody_gets_in(
    server: ServerProcess, query: str, headers: dict[str, str]
) -> None:
    async with talk(server, query, **headers) as client:
        answer = await client.receive()
        assert answer["error_code"] == "authentication_failed"
        assert (await client.closed())[0] == 1008


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": API_KEY}, {"Authorization": f"Bearer {API_KEY}"}]
)
async def test_the_key_may_come_in_a_header(server: ServerProcess, headers: dict[str, str]) -> None:
    async with talk(server, "", **headers) as client:
        await client.send({"type": "ping"})
        assert await client.receive() == {"type": "pong"}


async def test_many_at_once_are_all_served_and_leave_nothing_behind(
    server: ServerProcess,
) -> None:
    async def one(number: int) -> str:
        async with talk(server) as client:
            frames = await client.turn(
                f"Hello, I am guest number {number}.", session_id=f"guest-{number}"
            )
            return str(frames[-1]["finish_reason"])

    reasons = await asyncio.gather(*(one(number) for number in range(16)))
    assert set(reasons) <= {"stop", "length"}
    await asyncio.sleep(1)
    assert server.metric("yap_connections") == 0
    assert server.metric("vllm:num_requests_running") == 0
    assert server.metric("vllm:kv_cache_usage_perc") == 0


async def test_chat_mode_has_no_toolcall(chat_server: ServerProcess) -> None:
    message = start("Take a screenshot!")
    del message["personalities"]
    async with talk(chat_server) as client:
        await client.send(message)
        frames = await client.until("done")
    assert kinds(frames) == ["ack", "token", "final", "done"]
    assert frames[-1]["usage"]["completion_tokens"] > 0


async def test_tool_mode_decides_and_says_nothing(tool_server: ServerProcess) -> None:
    async with talk(tool_server) as client:
        frames = await client.turn(
            "Look at my screen, please!", chat_prompt=5, sampling={"temperature": "hot"}
        )
        assert kinds(frames) == ["ack", "toolcall", "final", "done"]
        ack, toolcall, final, done = frames
        assert ack["chat_prompt"] is False
        assert toolcall["status"] == "yes"
        assert final["normalized_text"] == ""
        assert done["usage"] == {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        assert (await client.turn("I like tea."))[1]["status"] == "no"
    assert not tool_server.pids_of("VLLM"), "the chat engine runs although it is not deployed"


async def test_what_the_client_saw_on_the_screen_is_answered_without_a_decision(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        assert (await client.turn("Look at my screen!"))[1]["status"] == "yes"
        await client.send({"type": "followup", "analysis_text": "A game of chess is open."})
        frames = await client.until("done")
    assert kinds(frames) == ["token", "final", "done"]
    assert frames[-1]["finish_reason"] == "stop"


async def test_a_persona_can_be_named_and_is_in_the_prefix_cache_from_the_start(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        await client.send(
            {"type": "start", "session_id": 7, "persona": "otis", "user_utterance": "hi"}
        )
        frames = await client.until("done")
    usage = frames[-1]["usage"]
    assert (frames[0]["gender"], frames[0]["session_id"]) == ("male", 7)
    assert usage["cached_tokens"] > 0.8 * usage["prompt_tokens"]


async def test_the_persona_can_change_in_mid_conversation(server: ServerProcess) -> None:
    async with talk(server) as client:
        await client.turn("Hello!")
        change = {"type": "chat_prompt", "gender": "male", "personality": "playful"}
        await client.send(change | {"chat_prompt": "You are Bruno, a playful companion."})
        ack = await client.receive()
        assert (ack["for"], ack["ok"], ack["code"]) == ("chat_prompt", True, 200)
        message = start(
            "What's your name?",
            chat_prompt="You are Bruno, a playful companion.",
            sampling={"temperature": 0},
        )
        await client.send(message)
        assert "Bruno" in (await client.until("done"))[-2]["normalized_text"]


async def test_warm_ups_answer_and_make_the_next_turn_find_its_prefix(
    server: ServerProcess,
) -> None:
    persona = "You are Walda, a calm companion. " + "You listen well and you take your time. " * 20
    async with talk(server) as client:
        await client.send({"type": "warm_persona", "chat_prompt": persona})
        assert await client.receive() == {
            "type": "warmed",
            "segment": "persona_static",
            "bytes": len(persona.strip()),
        }
        frames = await client.turn("Hi!", chat_prompt=persona)
    usage = frames[-1]["usage"]
    assert usage["cached_tokens"] > 0.7 * usage["prompt_tokens"]
