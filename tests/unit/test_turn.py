"""A turn says what was decided, then its reply, and ends with one `done`."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.stage import MakeStage, order
from tests.unit.stand_ins import REPLY, Last
from yap.errors import EngineFailed
from yap.history import History, Message
from yap.protocol import Done, Final, SamplingOptions, Token, ToolCall, Usage
from yap.turn import Turn

pytestmark = pytest.mark.usefixtures("no_task_left")


# A turn that goes well


async def test_the_decision_comes_first_then_the_reply_then_the_end(stage: MakeStage) -> None:
    frames = await stage(REPLY).play()
    assert order(frames) == ["ToolCall", "Token", "Token", "Token", "Final", "Done"]
    turn_ids = {frame.turn_id for frame in frames}  # type: ignore[attr-defined]
    assert len(turn_ids) == 1


async def test_the_final_is_exactly_the_tokens(stage: MakeStage) -> None:
    at = stage((" a", "", "b\n", Last(" ")))
    frames = await at.play()
    assert order(frames) == ["ToolCall", "Token", "Token", "Token", "Final", "Done"]
    assert isinstance(frames[-2], Final)
    assert frames[-2].normalized_text == at.said == " ab\n "


async def test_a_successful_done_tells_how_it_ended_and_what_it_took(stage: MakeStage) -> None:
    at = stage(("a", "b", Last("c", "length")))
    await at.play()
    done = at.done
    assert done.finish_reason == "length"
    assert (done.cancelled, done.request_id) == (None, None)
    assert done.usage is not None
    assert done.usage.prompt_tokens > 20
    assert (done.usage.cached_tokens, done.usage.completion_tokens) == (2, 3)
    times = done.timings
    assert times is not None
    assert times.toolcall_ms is not None
    assert times.ttft_ms is not None
    assert 0 <= times.toolcall_ms <= times.ttft_ms <= times.total_ms


async def test_a_reply_without_text_is_a_reply(stage: MakeStage) -> None:
    at = stage((Last(""),))
    frames = await at.play()
    assert order(frames) == ["ToolCall", "Final", "Done"]
    assert at.done.finish_reason == "stop"
    assert at.done.timings is not None
    assert at.done.timings.ttft_ms is None
    assert at.history == [("user", "hi")]


async def test_in_chat_mode_there_is_no_decision(stage: MakeStage) -> None:
    at = stage(REPLY, deploy_models="chat")
    assert order(await at.play()) == ["Token", "Token", "Token", "Final", "Done"]
    assert at.done.timings is not None
    assert at.done.timings.toolcall_ms is None


async def test_in_tool_mode_there_is_nothing_but_the_decision(stage: MakeStage) -> None:
    at = stage(answer=1.0, deploy_models="tool")
    frames = await at.play("look")
    assert order(frames) == ["ToolCall", "Final", "Done"]
    assert isinstance(frames[1], Final)
    assert frames[1].normalized_text == ""
    assert at.done.usage == Usage()
    assert at.done.finish_reason == "stop"
    assert at.history == [("user", "look")]


async def test_in_tool_mode_history_stays_bounded(stage: MakeStage) -> None:
    at = stage(deploy_models="tool", tool_history_tokens=10)
    for _ in range(30):
        await at.play("x" * 20)
    assert sum(len(text) for _, text in at.history) <= 80
    assert at.history


@pytest.mark.parametrize(
    ("answer", "own_prefix", "user"),
    [
        (0.0, None, "look at this"),
        (0.0, "PEEK:", "look at this"),
        (1.0, None, "MUST CHECK SCREEN: look at this"),
        (1.0, "PEEK:", "PEEK: look at this"),
    ],
)
async def test_on_yes_the_model_is_told_to_check_the_screen(
    stage: MakeStage, answer: float, own_prefix: str | None, user: str
) -> None:
    at = stage(REPLY, answer=answer)
    at.session.check_screen_prefix = own_prefix
    frames = await at.play("look at this")
    assert isinstance(frames[0], ToolCall)
    assert frames[0].status == ("yes" if answer else "no")
    assert [function.name for function in frames[0].raw] == ["take_screenshot"] * bool(answer)
    assert f"<|im_start|>user\n{user}<|im_end|>" in at.chat.prompts[0]
    assert at.history == [("user", "look at this"), ("assistant", "Hello there.")]


async def test_the_classifier_is_asked_with_what_the_user_said_before(stage: MakeStage) -> None:
    at = stage(REPLY)
    await at.play("one")
    await at.play("two")
    await at.play("")
    await at.play("three")
    assert at.classifier.asked == [
        ("one", ()),
        ("two", ("one",)),
        ("three", ("one", "two")),
    ]


async def test_the_next_prompt_holds_what_was_said(stage: MakeStage) -> None:
    at = stage(REPLY)
    await at.play("one")
    await at.play("two")
    assert at.chat.prompts[1].startswith(at.chat.prompts[0] + "Hello there.<|im_end|>\n")


async def test_what_did_not_fit_into_the_prompt_is_forgotten(stage: MakeStage) -> None:
    at = stage(REPLY, history_max_tokens=30)
    at.session.history = History(
        [Message("user", "Q" * 20), Message("assistant", "Q" * 20), Message("user", "kept")]
    )
    await at.play("hi")
    assert at.history == [("user", "kept"), ("user", "hi"), ("assistant", "Hello there.")]


async def test_the_sessions_sampling_is_used(stage: MakeStage) -> None:
    at = stage(REPLY)
    at.session.sampling = at.session.sampling.model_copy(update={"temperature": 0.125})
    await at.play()
    assert at.chat.options[0].temperature == 0.125


async def test_every_turn_has_an_id_of_its_own(stage: MakeStage) -> None:
    at = stage(REPLY)
    turns = [Turn(at.resources, at.session, "hi", at.outbox) for _ in range(10)]
    assert len({turn.id for turn in turns}) == 10


# Gathering text


async def test_text_within_the_flush_window_is_sent_together(stage: MakeStage) -> None:
    at = stage(("a", "b", 0.15, "c", "d", Last("e")), deploy_models="chat", stream_flush_ms=100)
    await at.play()
    texts = [frame.text for frame in at.frames if isinstance(frame, Token)]
    assert texts == ["abc", "de"]


async def test_without_a_window_each_piece_is_sent_at_once(stage: MakeStage) -> None:
    at = stage(("a", "b", "c", Last("d")), deploy_models="chat")
    await at.play()
    assert [frame.text for frame in at.frames if isinstance(frame, Token)] == ["a", "b", "c", "d"]


# What is measured


async def test_a_turn_is_counted_by_how_it_ended(
    stage: MakeStage, registry: CollectorRegistry
) -> None:
    at = stage(REPLY, (EngineFailed("It failed."),), ("a", Last("b", "length")))
    for _ in range(3):
        await at.play()
    turn = at.start()
    turn.cancel()
    await at.end()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for reason in ("stop", "error", "length", "cancelled"):
        assert value("yap_turns_total", finish_reason=reason) == 1
    assert value("yap_turn_seconds_count") == 4
    assert value("yap_toolcall_seconds_count") == 3
    assert value("yap_time_to_first_token_seconds_count") == 2
    assert value("yap_completion_tokens_total") == 5
    assert value("yap_prompt_tokens_total", cached="yes") == 4
    uncached = value("yap_prompt_tokens_total", cached="no")
    assert uncached is not None
    assert uncached > 0


async def test_a_reply_is_cleaned_unless_the_client_wants_it_raw(stage: MakeStage) -> None:
    at = stage(("hey :", ") you <b", ">friend", Last("</b> ")))
    assert isinstance((await at.play())[-1], Done)
    assert at.said == "hey :) you <b>friend</b> "
    at.session.sampling = SamplingOptions()
    await at.play()
    assert at.said == "Hey you friend"
    assert at.history[-1] == ("assistant", "Hey you friend")
