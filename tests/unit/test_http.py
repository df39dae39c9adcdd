"""A turn over HTTP has the frames and the codes of the WebSocket, and ends with its reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from tests.unit.stand_ins import (
    REPLY,
    Gate,
    Last,
    ScriptedChat,
    ScriptedClassifier,
    ScriptedModels,
    Step,
    kinds,
    server_with,
)
from yap.errors import EngineFailed, YapError
from yap.http import ChatMessage, classify, stream_turn
from yap.protocol import ErrorCode
from yap.server import Server

pytestmark = pytest.mark.usefixtures("no_task_left")

Asked = Sequence[tuple[str, str]]


class Api(ScriptedModels):
    """The endpoints of one server."""

    def __init__(
        self, server: Server, chat: ScriptedChat | None, classifier: ScriptedClassifier | None
    ) -> None:
        super().__init__(chat, classifier)
        self.server = server
        self.statuses: list[int] = []

    def events(self, asked: Asked, sampling: dict[str, Any] | None = None) -> Any:
        messages = [ChatMessage(role=role, content=text) for role, text in asked]
        return stream_turn(self.server, messages, sampling, self.statuses.append)

    async def frames(
        self, asked: Asked, sampling: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        async with asyncio.timeout(5):
            return [read(event) async for event in self.events(asked, sampling)]

    async def refusal(
        self, asked: Asked, sampling: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        """The status and the code of a request that is refused with one event."""
        (frame,) = await self.frames(asked, sampling)
        assert frame["type"] == "error"
        assert frame["message"].endswith(".")
        (status,) = self.statuses
        return status, frame["error_code"]


def read(event: str) -> dict[str, Any]:
    assert event.startswith("data: ")
    assert event.endswith("\n\n")
    assert event.count("\n") == 2
    frame: dict[str, Any] = json.loads(event.removeprefix("data: "))
    return frame


MakeApi = Callable[..., Api]


@pytest.fixture
async def api(
    make_settings: MakeSettings, tokenizer: Any, no_task_left: None
) -> AsyncIterator[MakeApi]:
    opened: list[Api] = []

    def make(
        *replies: Sequence[Step], answer: float = 0.0, steps: Sequence[Step] = (), **fields: Any
    ) -> Api:
        settings = make_settings(**fields)
        chat = ScriptedChat(settings, tokenizer, *replies) if settings.chat_enabled else None
        classifier = ScriptedClassifier(settings, answer, steps) if settings.tool_enabled else None
        opened.append(Api(server_with(settings, chat, classifier), chat, classifier))
        return opened[-1]

    yield make
    for one in opened:
        assert one.server.admission.active == 0
        assert not one.server._turns
        if one._chat is not None:
            await one._chat.close()


# A turn


async def test_a_turn_is_a_stream_of_frames(api: MakeApi) -> None:
    at = api(REPLY)
    frames = await at.frames([("user", "hi")])
    assert kinds(frames) == ["toolcall", "token", "token", "token", "final", "done"]
    assert frames[-2]["normalized_text"] == "Hello there."
    assert frames[-1]["finish_reason"] == "stop"
    assert at.statuses == []


async def test_the_conversation_is_what_was_sent(api: MakeApi) -> None:
    at = api(REPLY)
    await at.frames(
        [("system", " You are\x00 Mira. "), ("user", "one"), ("assistant", "two"), ("user", "ﬁx")],
        {"temperature": "0.5", "seed": 1},
    )
    assert at.chat.prompts == [
        "<|im_start|>system\nYou are Mira.<|im_end|>\n<|im_start|>user\none<|im_end|>\n"
        "<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nfix<|im_end|>\n"
        "<|im_start|>assistant\n"
    ]
    assert at.chat.options[0].temperature == 0.5
    assert at.classifier.asked == [("fix", ("one",))]


async def test_a_persona_is_optional(api: MakeApi) -> None:
    at = api(REPLY)
    for asked in ([("user", "hi")], [("system", " "), ("user", "hi")]):
        await at.frames(asked)
    assert all(prompt.startswith("<|im_start|>user\nhi") for prompt in at.chat.prompts)


async def test_requests_share_no_history(api: MakeApi) -> None:
    at = api(REPLY)
    for _ in range(2):
        await at.frames([("user", "hi")])
    assert at.chat.prompts[0] == at.chat.prompts[1]


async def test_in_tool_mode_there_is_only_the_decision_and_sampling_is_not_looked_at(
    api: MakeApi,
) -> None:
    at = api(answer=1.0, deploy_models="tool")
    frames = await at.frames([("user", "look")], {"temperature": "hot"})
    assert kinds(frames) == ["toolcall", "final", "done"]
    assert frames[0]["raw"] == [{"name": "take_screenshot"}]


async def test_a_failure_in_mid_turn_is_a_frame_and_then_done(api: MakeApi) -> None:
    at = api(("Hello", EngineFailed("It failed.")))
    frames = await at.frames([("user", "hi")])
    assert kinds(frames) == ["toolcall", "token", "error", "done"]
    assert frames[-2]["error_code"] == "engine_error"
    assert at.statuses == []


# Refusals


@pytest.mark.parametrize(
    ("asked", "sampling", "code"),
    [
        ([("assistant", "hi")], None, "invalid_message"),
        ([("system", "hi")], None, "invalid_message"),
        ([("user", "a"), ("assistant", "b")], None, "invalid_message"),
        ([("user", "a"), ("system", "b"), ("user", "c")], None, "invalid_message"),
        ([("system", "a"), ("system", "b"), ("user", "c")], None, "invalid_message"),
        ([("user", "a")], {"temperature": 9}, "temperature_out_of_range"),
        ([("user", "a")], {"top_k": "many"}, "invalid_top_k"),
        ([("user", "a")], {"sanitize_output": 1}, "invalid_sanitize_output"),
        ([("system", "Q" * 2000), ("user", "a")], None, "chat_prompt_too_long"),
    ],
)
async def test_a_bad_request_is_one_coded_error_with_status_400(
    api: MakeApi, asked: Asked, sampling: dict[str, Any] | None, code: str
) -> None:
    assert await api(REPLY).refusal(asked, sampling) == (400, code)


async def test_while_the_server_drains_or_loads_the_status_is_503(api: MakeApi) -> None:
    at = api(REPLY)
    at.chat.alive = False
    assert await at.refusal([("user", "hi")]) == (503, "engine_unavailable")
    at.statuses.clear()
    at.server.admission.draining = True
    assert await at.refusal([("user", "hi")]) == (503, "server_draining")


async def test_one_more_than_there_is_room_for_is_refused_with_503(api: MakeApi) -> None:
    gate = Gate()
    at = api((gate, Last(".")), max_concurrent_connections=1, ws_handshake_acquire_timeout_s=0.05)
    first = asyncio.create_task(at.frames([("user", "hi")]))
    await gate.reached()
    assert await at.refusal([("user", "hi")]) == (503, "server_at_capacity")
    gate.open()
    assert kinds(await first)[-1] == "done"


# Readers that go


@pytest.mark.parametrize("read_first", [1, 2])
async def test_who_stops_reading_stops_the_turn(api: MakeApi, read_first: int) -> None:
    gate = Gate()
    at = api(("Hello", gate))
    async with aclosing(at.events([("user", "hi")])) as events:
        for _ in range(read_first):
            await anext(events)
        await gate.reached()
        assert at.chat.streaming == 1
    assert at.chat.streaming == 0
    assert at.server.admission.active == 0


async def test_who_is_cut_off_stops_the_turn(api: MakeApi) -> None:
    gate = Gate()
    at = api(("Hello", gate))
    reader = asyncio.create_task(at.frames([("user", "hi")]))
    await gate.reached()
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert at.chat.streaming == 0


async def test_who_reads_slowly_slows_the_turn(api: MakeApi) -> None:
    at = api(("a",) * 100, ws_send_queue_max=8)
    async with aclosing(at.events([("user", "hi")])) as events:
        await anext(events)
        await asyncio.sleep(0.05)
        assert at.chat.streaming == 1


# The decision alone


async def test_a_decision_says_how_sure_it_is(api: MakeApi) -> None:
    at = api(answer=0.75)
    decision = await classify(at.server, " look\x00 ", [" before "])
    assert decision.model_dump(exclude_none=True) == {
        "status": "yes",
        "raw": [{"name": "take_screenshot"}],
        "probability": 0.75,
        "source": "classifier",
    }
    assert at.classifier.asked == [("look", ("before",))]


async def test_a_decision_that_could_not_be_made_is_no(api: MakeApi) -> None:
    decision = await classify(api(steps=[RuntimeError()]).server, "look", [])
    assert (decision.status, decision.probability, decision.source) == ("no", None, "failed")


async def test_without_a_classifier_there_is_no_decision(api: MakeApi) -> None:
    with pytest.raises(YapError, match="DEPLOY_MODELS") as raised:
        await classify(api(deploy_models="chat").server, "look", [])
    assert raised.value.code is ErrorCode.CLASSIFIER_NOT_DEPLOYED
    assert raised.value.http_status == 400


async def test_while_the_server_drains_there_is_no_decision(api: MakeApi) -> None:
    at = api()
    at.server.admission.draining = True
    with pytest.raises(YapError) as raised:
        await classify(at.server, "look", [])
    assert raised.value.code is ErrorCode.SERVER_DRAINING
