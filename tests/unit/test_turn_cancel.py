"""Whenever a turn is cancelled, it ends with one `done`, and history holds what was sent."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.stage import MakeStage, order
from tests.unit.stand_ins import REPLY, Gate, Last
from yap.errors import EngineFailed
from yap.protocol import Token, Usage
from yap.turn import Turn

pytestmark = pytest.mark.usefixtures("no_task_left")


async def test_a_turn_cancelled_before_it_ran_is_a_cancelled_turn(stage: MakeStage) -> None:
    at = stage(REPLY)
    turn = at.start("hello")
    assert turn.cancel("r")
    assert order(await at.end()) == ["Done"]
    assert at.done.cancelled
    assert at.done.request_id == "r"
    assert at.done.finish_reason == "cancelled"
    assert at.done.usage == Usage()
    assert at.history == [("user", "hello")]
    assert at.chat.prompts == []


async def test_a_turn_that_was_not_started_cannot_be_cancelled(stage: MakeStage) -> None:
    at = stage(REPLY)
    assert not Turn(at.resources, at.session, "hi", at.outbox).cancel()


async def test_a_turn_cancelled_while_it_decides_sends_no_decision(stage: MakeStage) -> None:
    gate = Gate()
    at = stage(REPLY, steps=[gate])
    turn = at.start()
    await gate.reached()
    assert turn.cancel()
    assert order(await at.end()) == ["Done"]
    assert at.done.cancelled
    assert at.history == [("user", "hi")]


async def test_a_turn_cancelled_in_mid_stream_keeps_what_was_sent(stage: MakeStage) -> None:
    gate = Gate()
    at = stage(("Hello", " there", gate, "!"))
    turn = at.start()
    reading = asyncio.create_task(at.end())
    await gate.reached()
    await asyncio.sleep(0.01)
    assert turn.cancel("r-1")
    await reading
    assert order(at.frames) == ["ToolCall", "Token", "Token", "Done"]
    assert (at.done.cancelled, at.done.request_id) == (True, "r-1")
    assert at.done.usage is not None
    assert at.done.usage.completion_tokens == 2
    assert at.history == [("user", "hi"), ("assistant", "Hello there")]
    assert (at.chat.streaming, at.chat.closed_streams) == (0, 1)


async def test_what_was_not_taken_yet_is_taken_back_and_not_remembered(stage: MakeStage) -> None:
    gate = Gate()
    at = stage(("Hello", " there", " friend", gate))
    turn = at.start()
    await at.read(until=Token)
    await gate.reached()
    turn.cancel()
    await at.end()
    assert order(at.frames) == ["ToolCall", "Token", "Done"]
    assert at.history == [("user", "hi"), ("assistant", "Hello")]


@pytest.mark.parametrize("queue", [1, 3])
@pytest.mark.parametrize("taken", [0, 2])
async def test_what_never_found_room_in_the_queue_is_not_remembered(
    stage: MakeStage, queue: int, taken: int
) -> None:
    """A slow client: the turn waits for room with a piece in hand, and is cancelled there."""
    at = stage(tuple("abcdefgh"), queue=queue, deploy_models="chat")
    turn = at.start()
    for _ in range(taken):
        at.frames.append(await at.outbox.get())
    await asyncio.sleep(0.05)
    assert not at.task.done()
    turn.cancel()
    await at.end()
    assert at.said == "abcdefgh"[:taken]
    assert at.history[1:] == ([("assistant", at.said)] if taken else [])


async def test_a_turn_cancelled_while_its_final_waits_for_room_is_cancelled(
    stage: MakeStage,
) -> None:
    at = stage(("a", Last("b")), queue=2, deploy_models="chat")
    turn = at.start()
    await asyncio.sleep(0.05)
    assert at.chat.closed_streams == 1  # the reply is whole; its final finds no room
    turn.cancel()
    await at.end()
    assert order(at.frames) == ["Done"]
    assert at.history == [("user", "hi")]


async def test_a_turn_that_is_ending_cannot_be_cancelled_any_more(stage: MakeStage) -> None:
    at = stage(("a", Last("b")), queue=3, deploy_models="chat")
    turn = at.start()
    await asyncio.sleep(0.05)  # only its done has found no room
    assert not at.task.done()
    assert not turn.cancel("late")
    await at.end()
    assert order(at.frames) == ["Token", "Token", "Final", "Done"]
    assert at.done.finish_reason == "stop"
    assert at.done.request_id is None


async def test_a_turn_is_cancelled_only_once(stage: MakeStage) -> None:
    gate = Gate()
    at = stage((gate,))
    turn = at.start()
    await gate.reached()
    assert turn.cancel("first")
    assert not turn.cancel("second")
    await at.end()
    assert at.done.request_id == "first"
    assert not turn.cancel("third")


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_wherever_a_cancel_hits_there_is_one_done_and_history_is_what_was_sent(
    stage: MakeStage, steps: int
) -> None:
    """Cancels after so many turns of the event loop, in the middle of whatever that is."""
    at = stage((0, "a", 0, "b", 0, "c", 0, Last("d")), steps=[0], queue=3)
    turn = at.start()
    reading = asyncio.create_task(at.end())
    for _ in range(steps):
        await asyncio.sleep(0)
    turn.cancel()
    await reading
    assert at.history == [("user", "hi")] + [("assistant", at.said)] * bool(at.said)
    assert at.done.finish_reason in ("stop", "cancelled")
    assert bool(at.done.cancelled) == (at.done.finish_reason == "cancelled")
    assert ("Final" in order(at.frames)) == (at.done.finish_reason == "stop")
    assert at.chat.streaming == 0


async def test_an_engine_that_fails_while_it_is_cancelled_is_a_cancelled_turn(
    stage: MakeStage,
) -> None:
    """The client asked for the end and gets it; how the engine took it is not its business."""

    class Stubborn(Gate):
        async def hold(self) -> None:
            try:
                await super().hold()
            except asyncio.CancelledError:
                raise EngineFailed("The abort failed.") from None

    gate = Stubborn()
    at = stage(("Hello", gate))
    turn = at.start()
    await at.read(until=Token)
    await gate.reached()
    turn.cancel("r")
    await at.end()
    assert order(at.frames) == ["ToolCall", "Token", "Done"]
    assert at.done.cancelled
    assert at.done.finish_reason == "cancelled"


async def test_a_task_that_somebody_else_cancels_is_not_kept_alive(stage: MakeStage) -> None:
    """A loop that shuts down cancels every task; a turn obeys."""
    gate = Gate()
    at = stage((gate,))
    at.start()
    await gate.reached()
    at.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await at.task
    assert at.chat.streaming == 0
