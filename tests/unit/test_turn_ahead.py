"""A reply begun before the decision is sent after it, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.stage import MakeStage, order
from tests.unit.stand_ins import REPLY, Gate
from yap.errors import EngineFailed

pytestmark = pytest.mark.usefixtures("no_task_left")


async def test_the_reply_begins_while_the_classifier_decides(stage: MakeStage) -> None:
    decides, replies = Gate(), Gate()
    at = stage((replies, *REPLY), steps=[decides])
    at.start()
    await decides.reached()
    await replies.reached()
    replies.open()
    await asyncio.sleep(0.01)
    assert not at.outbox._frames  # and nothing of it is sent before the decision
    decides.open()
    assert order(await at.end()) == ["ToolCall", "Token", "Token", "Token", "Final", "Done"]
    assert at.said == "Hello there."
    assert (at.chat.streaming, at.chat.closed_streams) == (0, 1)
    assert at.resources.metrics.early_replies.labels("yes")._value.get() == 1


async def test_a_reply_that_should_have_seen_the_screen_is_dropped(stage: MakeStage) -> None:
    at = stage(("never said", Gate()), REPLY, answer=1.0, steps=[0.02])
    await at.play("what is this")
    assert at.said == "Hello there."
    assert [prompt.count("MUST CHECK SCREEN:") for prompt in at.chat.prompts] == [0, 1]
    assert at.history == [("user", "what is this"), ("assistant", "Hello there.")]
    assert (at.chat.streaming, at.chat.closed_streams) == (0, 2)
    assert at.resources.metrics.early_replies.labels("no")._value.get() == 1


@pytest.mark.parametrize("fault", [EngineFailed("It was lost."), ValueError("a bug")])
async def test_an_early_reply_that_fails_and_is_not_wanted_is_no_failure(
    stage: MakeStage, fault: Exception
) -> None:
    at = stage((fault,), REPLY, answer=1.0, steps=[0.02])
    assert order(await at.play())[0] == "ToolCall"
    assert at.done.finish_reason == "stop"


async def test_an_early_reply_that_fails_and_is_wanted_fails_after_the_decision(
    stage: MakeStage,
) -> None:
    at = stage((EngineFailed("It was lost."),), steps=[0.02])
    assert order(await at.play()) == ["ToolCall", "Error", "Done"]


async def test_a_turn_cancelled_while_it_decides_leaves_no_early_reply(stage: MakeStage) -> None:
    replies = Gate()
    at = stage((replies,), steps=[Gate()])
    turn = at.start()
    await replies.reached()
    turn.cancel()
    assert order(await at.end()) == ["Done"]
    assert at.chat.streaming == 0
    assert at.history == [("user", "hi")]


async def test_the_overlap_can_be_turned_off(stage: MakeStage) -> None:
    decides = Gate()
    at = stage(REPLY, steps=[decides], tool_overlap=False)
    at.start()
    await decides.reached()
    await asyncio.sleep(0.02)
    assert not at.chat.prompts
    decides.open()
    await at.end()
    assert at.said == "Hello there."
