"""Idle timeout, capacity, rate limits and the session's TTL, at their defaults, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from tests.unit.places import START, Place
from tests.unit.stand_ins import Client, Gate, Last, ScriptedChat, ScriptedClassifier, server_with
from tests.unit.virtual_time import run

PING = {"type": "ping"}
WRONG_TYPE = {"type": "dance"}
PERSONA = {"type": "chat_prompt", "gender": "male", "chat_prompt": "Be Leo."}

Scenario = Callable[[Callable[..., Place]], Awaitable[None]]
Play = Callable[[Scenario], None]


class WithoutThreads(ScriptedChat):
    """Virtual time does not wait for threads."""

    async def _in_pool(self, work: Callable[[], Any]) -> Any:
        return work()


@pytest.fixture
def play(make_settings: MakeSettings, tokenizer: Any) -> Play:
    """Plays a scenario in virtual time; it is given a maker of servers."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Callable[..., Place]]:
        places: list[Place] = []

        def make(*replies: Any, **fields: Any) -> Place:
            settings = make_settings(**fields)
            chat = WithoutThreads(settings, tokenizer, *replies)
            classifier = ScriptedClassifier(settings)
            clock = asyncio.get_running_loop().time
            places.append(Place(server_with(settings, chat, classifier, clock), chat))
            return places[-1]

        yield make
        for place in places:
            await place.leave()

    def play(scenario: Scenario) -> None:
        async def work() -> None:
            async with opened() as make:
                await scenario(make)

        run(work())

    return play


async def _answer(client: Client, frame: Any) -> dict[str, Any]:
    client.send(frame)
    return await client.receive()


# Messages and cancels: 25 in 60 s


def test_the_26th_message_in_a_minute_is_refused_and_the_first_makes_room(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        client = make().connect()
        codes = []
        for _ in range(26):
            codes.append((await _answer(client, WRONG_TYPE))["error_code"])
            await asyncio.sleep(1)
        assert codes == ["unknown_message_type"] * 25 + ["message_rate_limited"]
        # 26 s have passed; the first is 60 s old in 34 more.
        refused = await _answer(client, WRONG_TYPE)
        assert refused["retry_in"] == 34
        await asyncio.sleep(33.5)
        assert (await _answer(client, WRONG_TYPE))["retry_in"] == 1
        await asyncio.sleep(0.5)
        assert (await _answer(client, WRONG_TYPE))["error_code"] == "unknown_message_type"
        # What was refused was not counted, so one place a second comes free.
        assert (await _answer(client, WRONG_TYPE))["retry_in"] == 1

    play(scenario)


def test_cancels_have_a_window_of_their_own_and_the_turn_runs_on(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        gate = Gate()
        client = make((gate, Last("Hello"))).connect()
        for _ in range(25):
            assert (await _answer(client, {"type": "cancel"}))["type"] == "done"
        client.send(START)
        await client.until("toolcall")
        refused = await _answer(client, {"type": "cancel"})
        assert (refused["error_code"], refused["retry_in"]) == ("cancel_rate_limited", 60)
        gate.open()
        assert (await client.until("done"))[-1]["finish_reason"] == "stop"
        await asyncio.sleep(60)
        assert (await _answer(client, {"type": "cancel"}))["type"] == "done"

    play(scenario)


def test_a_session_may_change_its_persona_four_times_a_minute(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        client = make().connect()
        client.send(START)
        await client.until("done")
        codes = []
        for number in range(6):
            name = "abcdef"[number]
            answer = await _answer(client, PERSONA | {"personality": name})
            codes.append(answer["code"])
        assert codes == [200, 200, 200, 200, 429, 429]
        await asyncio.sleep(59)
        limited = await _answer(client, PERSONA | {"personality": "g"})
        assert (limited["code"], limited["retry_in"]) == (429, 1)
        await asyncio.sleep(1)
        assert (await _answer(client, PERSONA | {"personality": "g"}))["code"] == 200

    play(scenario)


def test_a_limit_of_zero_is_none(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        client = make(ws_max_messages_per_window=0).connect()
        for _ in range(100):
            assert (await _answer(client, WRONG_TYPE))["error_code"] == "unknown_message_type"

    play(scenario)


# Silence: 150 s, looked at every 5 s


def test_a_silent_client_is_closed_after_150_seconds(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        client = make().connect()
        await asyncio.sleep(149)
        assert not client.serving.done()
        await asyncio.sleep(6)
        assert client.close == (4000, "idle_timeout")
        assert await client.ended() == [{"type": "closed"}]  # no frame comes before the close

    play(scenario)


@pytest.mark.parametrize("frame", [PING, {"type": "pong"}, WRONG_TYPE, {"type": "cancel"}])
def test_any_message_keeps_a_connection(play: Play, frame: Any) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        client = make().connect()
        for _ in range(6):
            await asyncio.sleep(100)
            client.send(frame)
        assert client.close is None

    play(scenario)


@pytest.mark.parametrize("frame", ["", "not JSON", "[]", b"bytes", '{"type": 0}'])
def test_what_is_no_message_keeps_nothing(play: Play, frame: Any) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        client = make().connect()
        for _ in range(3):
            await asyncio.sleep(52)
            client.send(frame)
        assert client.close == (4000, "idle_timeout")

    play(scenario)


def test_what_the_server_sends_is_no_sign_of_life(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        reply = [step for _ in range(400) for step in ("word ", 1.0)]
        at = make(reply, gen_timeout_s=600, first_token_timeout_s=60)
        client = at.connect()
        client.send(START)
        frames = await client.until("closed")
        assert client.close == (4000, "idle_timeout")
        assert frames[-2]["finish_reason"] == "cancelled"
        assert 145 <= sum(frame["type"] == "token" for frame in frames) <= 156
        assert at.chat.streaming == 0

    play(scenario)


# Capacity: half a second is waited for a place


def test_a_client_waits_half_a_second_for_a_place(play: Play) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        at = make(max_concurrent_connections=1)
        first = at.connect()
        await _answer(first, PING)
        late = at.connect()
        await asyncio.sleep(0.49)
        assert not late.accepted
        await asyncio.sleep(0.02)
        refused, _ = await late.ended()
        assert refused["error_code"] == "server_at_capacity"
        assert refused["capacity"] == {"active": 1, "max": 1, "available": 0, "at_capacity": True}
        assert late.close == (1013, "")
        lucky = at.connect()
        await asyncio.sleep(0.4)
        first.disconnect()
        assert await _answer(lucky, PING) == {"type": "pong"}

    play(scenario)


# Sessions: half an hour


@pytest.mark.parametrize(("pause", "remembers"), [(1799, True), (1801, False)])
def test_a_session_waits_half_an_hour_for_its_client(
    play: Play, pause: float, *, remembers: bool
) -> None:
    async def scenario(make: Callable[..., Place]) -> None:
        at = make()
        first = at.connect()
        first.send(START | {"user_utterance": "I like tea"})
        await first.until("done")
        first.disconnect()
        await asyncio.sleep(pause)
        at.server.sessions.evict()
        again = at.connect()
        again.send(START)
        await again.until("done")
        assert ("I like tea" in at.chat.prompts[-1]) is remembers

    play(scenario)
