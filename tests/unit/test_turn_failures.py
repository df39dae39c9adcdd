"""Whatever fails in a turn, it ends in words and with one `done`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.stage import MakeStage, order
from tests.unit.stand_ins import REPLY, Gate, Last
from yap.errors import EngineFailed, EngineUnavailable
from yap.protocol import ErrorCode, ToolCall
from yap.screen.router import ScreenRouter

pytestmark = pytest.mark.usefixtures("no_task_left")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (EngineFailed("It failed."), ErrorCode.ENGINE_ERROR),
        (EngineUnavailable("It died."), ErrorCode.ENGINE_UNAVAILABLE),
        (TimeoutError(), ErrorCode.TURN_TIMEOUT),
        (ZeroDivisionError("secret"), ErrorCode.INTERNAL_ERROR),
        (MemoryError("secret"), ErrorCode.INTERNAL_ERROR),
        (StopAsyncIteration(), ErrorCode.INTERNAL_ERROR),
    ],
)
@pytest.mark.parametrize("before", [(), ("Hello", " there")])
async def test_an_engine_that_fails_gives_an_error_and_then_done(
    stage: MakeStage, before: tuple[str, ...], fault: BaseException, code: ErrorCode
) -> None:
    at = stage((*before, fault))
    frames = await at.play()
    assert order(frames) == ["ToolCall"] + ["Token"] * len(before) + ["Error", "Done"]
    assert at.error.error_code is code
    assert "secret" not in at.error.message
    assert at.error.turn_id == at.done.turn_id
    assert at.done.finish_reason == "error"
    assert at.done.cancelled is None
    assert at.history == [("user", "hi")] + [("assistant", "Hello there")] * bool(before)
    assert at.chat.streaming == 0


async def test_after_a_failure_the_next_turn_is_served(stage: MakeStage) -> None:
    at = stage((EngineFailed("It failed."),), REPLY)
    await at.play("one")
    await at.play("two")
    assert at.done.finish_reason == "stop"
    assert at.said == "Hello there."


async def test_an_engine_that_is_not_there_any_more_is_told(stage: MakeStage) -> None:
    at = stage(REPLY)
    at.chat.alive = False
    assert order(await at.play()) == ["ToolCall", "Error", "Done"]
    assert at.error.error_code is ErrorCode.ENGINE_UNAVAILABLE


@pytest.mark.parametrize("before", [(), ("Hello",)])
async def test_a_reply_that_does_not_end_in_time_is_ended(
    stage: MakeStage, before: tuple[str, ...]
) -> None:
    at = stage((*before, Gate()), gen_timeout_s=0.15)
    await at.play()
    assert at.error.error_code is ErrorCode.TURN_TIMEOUT
    assert at.done.finish_reason == "error"
    assert (at.chat.streaming, at.chat.closed_streams) == (0, 1)


async def test_a_first_token_that_does_not_come_in_time_ends_the_turn(stage: MakeStage) -> None:
    at = stage((Gate(),), first_token_timeout_s=0.1, gen_timeout_s=60)
    await at.play()
    assert at.error.error_code is ErrorCode.TURN_TIMEOUT


async def test_after_the_first_token_only_the_whole_deadline_counts(stage: MakeStage) -> None:
    at = stage(("a", 0.25, Last("b")), first_token_timeout_s=0.1, gen_timeout_s=60)
    await at.play()
    assert at.done.finish_reason == "stop"


async def test_the_deadline_is_for_the_reply_as_a_whole(stage: MakeStage) -> None:
    at = stage(tuple([0.06, "a"] * 20), gen_timeout_s=0.2)
    await at.play()
    assert at.error.error_code is ErrorCode.TURN_TIMEOUT
    assert 1 <= len(at.said) <= 4


async def test_a_router_that_is_late_means_no_and_the_reply_comes(stage: MakeStage) -> None:
    at = stage(REPLY, answer=1.0, steps=[Gate()], tool_timeout_s=0.05)
    frames = await at.play()
    assert isinstance(frames[0], ToolCall)
    assert frames[0].status == "no"
    assert at.done.finish_reason == "stop"


async def test_a_router_that_fails_itself_fails_the_turn_in_words(
    stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = stage(REPLY)

    async def fail(*_args: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ScreenRouter, "ask_classifier", fail)
    assert order(await at.play()) == ["Error", "Done"]
    assert at.error.error_code is ErrorCode.INTERNAL_ERROR
    assert "secret" not in at.error.message


async def test_a_prompt_without_room_is_refused_in_words(stage: MakeStage) -> None:
    at = stage(REPLY)
    at.session.chat_prompt = "Q" * 10_000
    assert order(await at.play()) == ["ToolCall", "Error", "Done"]
    assert at.error.error_code is ErrorCode.PROMPT_TOO_LONG


@pytest.mark.parametrize("cached", [-1, 10**6])
async def test_odd_counts_of_the_engine_cost_no_done(stage: MakeStage, cached: int) -> None:
    at = stage(REPLY)
    at.chat.cached_tokens = cached
    await at.play()
    assert at.done.finish_reason == "stop"
