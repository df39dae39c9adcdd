"""Whatever happens to a turn, it ends with one `done`, and history holds what the client got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.conftest import MakeSettings
from tests.unit.stand_ins import Gate, Last, ScriptedChat, ScriptedClassifier, Step
from yap.chat.engine import ChatEngine
from yap.errors import EngineFailed, EngineUnavailable
from yap.history import History, Message
from yap.metrics import Metrics
from yap.outbox import Outbox
from yap.protocol import (
    Done,
    Error,
    ErrorCode,
    Final,
    SamplingOptions,
    ServerFrame,
    Token,
    ToolCall,
    Usage,
)
from yap.screen.router import ScreenRouter
from yap.session import Session
from yap.turn import Resources, Turn

pytestmark = pytest.mark.usefixtures("no_task_left")

REPLY: Sequence[Step] = ("Hello", " there", Last("."))


class Stage:
    """A session, an outbox, and the models that its turns work with."""

    def __init__(
        self,
        resources: Resources,
        chat: ScriptedChat | None,
        classifier: ScriptedClassifier | None,
        outbox: Outbox,
    ) -> None:
        self.resources = resources
        self.outbox = outbox
        self.session = Session("s")
        self.session.chat_prompt = "You are Mira."
        self.session.sampling = SamplingOptions(sanitize_output=False)
        self.frames: list[ServerFrame] = []
        self.task: asyncio.Task[None]
        self._chat = chat
        self._classifier = classifier

    @property
    def chat(self) -> ScriptedChat:
        assert self._chat is not None
        return self._chat

    @property
    def classifier(self) -> ScriptedClassifier:
        assert self._classifier is not None
        return self._classifier

    def start(self, utterance: str = "hi") -> Turn:
        """A turn that runs."""
        turn = Turn(self.resources, self.session, utterance, self.outbox)
        self.frames = []
        self.task = turn.start()
        return turn

    async def read(self, until: type[ServerFrame]) -> None:
        """Take frames as the sender does, up to the first of this type."""
        while not (self.frames and isinstance(self.frames[-1], until)):
            async with asyncio.timeout(5):
                self.frames.append(await self.outbox.get())

    async def end(self) -> list[ServerFrame]:
        """Take all frames of the turn; nothing may follow its one `done`."""
        reader = asyncio.create_task(self.read(until=Done))
        async with asyncio.timeout(5):
            await asyncio.wait([self.task, reader], return_when=asyncio.FIRST_COMPLETED)
            await self.task
            await reader
        await asyncio.sleep(0)
        assert not self.outbox._frames
        assert [type(frame) for frame in self.frames].count(Done) == 1
        return self.frames

    async def play(self, utterance: str = "hi") -> list[ServerFrame]:
        """A whole turn."""
        self.start(utterance)
        return await self.end()

    @property
    def done(self) -> Done:
        assert isinstance(self.frames[-1], Done)
        return self.frames[-1]

    @property
    def error(self) -> Error:
        (error,) = [frame for frame in self.frames if isinstance(frame, Error)]
        return error

    @property
    def said(self) -> str:
        return "".join(frame.text for frame in self.frames if isinstance(frame, Token))

    @property
    def history(self) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in self.session.history.messages]


MakeStage = Callable[..., Stage]


@pytest.fixture
async def stage(
    make_settings: MakeSettings, metrics: Metrics, tokenizer: Any
) -> AsyncIterator[MakeStage]:
    """Sets a stage: what the engine replies, what the classifier answers, and settings."""
    engines: list[ChatEngine] = []

    def make(
        *replies: Sequence[Step],
        answer: float = 0.0,
        steps: Sequence[Step] = (),
        queue: int = 100,
        **fields: Any,
    ) -> Stage:
        settings = make_settings(**fields)
        chat = classifier = router = None
        if settings.chat_enabled:
            chat = ScriptedChat(settings, tokenizer, *replies)
            engines.append(chat)
        if settings.tool_enabled:
            classifier = ScriptedClassifier(settings, answer, steps)
            router = ScreenRouter(classifier, settings, metrics)
        return Stage(Resources(settings, metrics, chat, router), chat, classifier, Outbox(queue))

    yield make
    for engine in engines:
        await engine.close()


def order(frames: Sequence[ServerFrame]) -> list[str]:
    return [type(frame).__name__ for frame in frames]


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


# Cancelling


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


# Failing


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


# Begun before the decision


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
