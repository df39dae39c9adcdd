"""The server is ready when its models are, drains when it is told to, and lets go of all."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from tests.unit.conftest import MakeSettings
from tests.unit.stand_ins import Gate, ScriptedChat, ScriptedClassifier, server_with
from yap.chat.sampling import sampling_ranges
from yap.errors import StartupError, YapError
from yap.metrics import Metrics
from yap.protocol import ErrorCode
from yap.server import Server

pytestmark = pytest.mark.usefixtures("no_task_left")


@pytest.mark.parametrize(
    ("mode", "chat", "tool"), [("both", True, True), ("chat", True, False), ("tool", False, True)]
)
async def test_only_the_models_deployed_are_there(
    make_settings: MakeSettings, metrics: Metrics, mode: str, chat: bool, tool: bool
) -> None:
    server = Server(make_settings(deploy_models=mode), metrics)
    assert (server.resources.chat is not None) == server.start_rules.chat == chat
    assert (server.resources.router is not None) == server.start_rules.tool == tool
    assert not server.ready
    assert server.alive
    await server.stop()


async def test_the_rules_of_a_start_are_the_settings(
    make_settings: MakeSettings, metrics: Metrics
) -> None:
    settings = make_settings(
        personality_max_len=5,
        max_personalities=6,
        max_synonyms_per_personality=7,
        screen_prefix_max_chars=18,
        prompt_sanitize_max_chars=9,
    )
    server = Server(settings, metrics)
    rules = server.start_rules
    assert (rules.personality_max_len, rules.max_personalities, rules.max_synonyms) == (5, 6, 7)
    assert (rules.prefix_max_chars, rules.prompt_max_chars) == (18, 9)
    assert rules.sampling_ranges == sampling_ranges(settings)
    await server.stop()


async def test_the_server_is_ready_when_both_models_are(
    make_settings: MakeSettings, tokenizer: Any
) -> None:
    settings = make_settings()
    chat = ScriptedChat(settings, tokenizer)
    server = server_with(settings, chat, ScriptedClassifier(settings))
    assert bool(server.ready)
    server.check_accepting()
    chat.alive = False
    assert not server.ready
    with pytest.raises(YapError) as raised:
        server.check_accepting()
    assert raised.value.code is ErrorCode.ENGINE_UNAVAILABLE
    assert raised.value.http_status == 503
    await server.stop()


async def test_a_server_that_drains_is_not_ready_and_takes_nothing(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(deploy_models="tool")
    server = server_with(settings, None, ScriptedClassifier(settings))
    await server.drain()
    assert not server.ready
    assert server.alive
    with pytest.raises(YapError) as raised:
        server.check_accepting()
    assert raised.value.code is ErrorCode.SERVER_DRAINING
    assert raised.value.http_status == 503
    await server.stop()


async def test_draining_waits_for_the_turns_that_run(make_settings: MakeSettings) -> None:
    settings = make_settings(deploy_models="tool", drain_timeout_s=5)
    server = server_with(settings, None, ScriptedClassifier(settings))
    gate = Gate()
    turn = server.own(asyncio.create_task(gate.hold()))
    draining = asyncio.create_task(server.drain())
    await gate.reached()
    await asyncio.sleep(0.01)
    assert not draining.done()
    gate.open()
    await asyncio.wait_for(draining, 1)
    assert turn.done()
    assert not server._turns


async def test_draining_waits_for_a_turn_that_was_let_in_before_and_begins_meanwhile(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(deploy_models="tool", drain_timeout_s=5)
    server = server_with(settings, None, ScriptedClassifier(settings))
    first, second = Gate(), Gate()
    server.own(asyncio.create_task(first.hold()))
    draining = asyncio.create_task(server.drain())
    await first.reached()
    server.own(asyncio.create_task(second.hold()))
    await second.reached()
    first.open()
    await asyncio.sleep(0.01)
    assert not draining.done()
    second.open()
    await asyncio.wait_for(draining, 1)


async def test_draining_ends_in_time_though_a_turn_does_not(make_settings: MakeSettings) -> None:
    settings = make_settings(deploy_models="tool", drain_timeout_s=0.05)
    server = server_with(settings, None, ScriptedClassifier(settings))
    turn = server.own(asyncio.create_task(Gate().hold()))
    await asyncio.wait_for(server.drain(), 1)
    assert not turn.done()
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (StartupError("TOOL_MODEL is not there."), "TOOL_MODEL is not there."),
        (ZeroDivisionError("secret"), "The models could not be loaded; the log says why."),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_a_failed_start(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    message: str,
) -> None:
    settings = make_settings(deploy_models="tool")
    classifier = ScriptedClassifier(settings)
    server = server_with(settings, None, classifier)

    async def fail() -> None:
        raise fault

    monkeypatch.setattr(classifier, "start", fail)
    with pytest.raises(StartupError) as raised:
        await server.start()
    assert str(raised.value) == str(server.failure) == message
    assert not server.alive
    await server.stop()


async def test_the_classifier_is_loaded_before_the_chat_model(
    make_settings: MakeSettings, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    chat, classifier = ScriptedChat(settings, tokenizer), ScriptedClassifier(settings)
    server = server_with(settings, chat, classifier)
    order: list[str] = []

    def loads(name: str) -> Any:
        async def load() -> None:
            order.append(name)

        return load

    monkeypatch.setattr(classifier, "start", loads("classifier"))
    monkeypatch.setattr(chat, "start", loads("chat"))
    await server.start()
    assert order == ["classifier", "chat"]
    await server.stop()


@pytest.mark.parametrize("has_samplers", [True, False])
async def test_clients_may_ask_for_the_samplers_that_the_engine_has(
    make_settings: MakeSettings,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    has_samplers: bool,
) -> None:
    chat = ScriptedChat(make_settings(), tokenizer)
    server = server_with(make_settings(), chat, None)
    assert server.start_rules.samplers

    async def load() -> None:
        chat._sampler_tokens = cast(Any, object()) if has_samplers else None

    monkeypatch.setattr(chat, "start", load)
    await server.start()
    assert server.start_rules.samplers is has_samplers
    await server.stop()


async def test_without_samplers_clients_are_told_so_from_the_start(
    make_settings: MakeSettings, metrics: Metrics
) -> None:
    server = Server(make_settings(chat_samplers=False), metrics)
    assert not server.start_rules.samplers
    await server.stop()


async def test_the_server_is_ready_after_its_personas_are_warm(
    make_settings: MakeSettings, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(deploy_models="chat")
    chat = ScriptedChat(settings, tokenizer)
    server = server_with(settings, chat, None)
    warm, warmed = Gate(), []

    async def start() -> None:
        chat.alive = True

    async def read(persona: str, *_: object) -> None:
        await warm.hold()
        warmed.append(persona)

    monkeypatch.setattr(chat, "start", start)
    monkeypatch.setattr(chat, "warm", read)
    loading = server.start()
    await warm.reached()
    assert chat.ready
    assert not bool(server.ready)
    warm.open()
    await loading
    assert server.ready
    assert warmed == [persona.prompt for persona in server.personas]
    await server.stop()


async def test_stopping_while_models_load_stops_the_loading(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = make_settings(deploy_models="tool")
    classifier = ScriptedClassifier(settings)
    server = server_with(settings, None, classifier)
    gate = Gate()
    monkeypatch.setattr(classifier, "start", gate.hold)
    loading = server.start()
    await gate.reached()
    await server.stop()
    assert loading.cancelled()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_server_that_was_never_started_can_be_stopped(
    make_settings: MakeSettings, metrics: Metrics
) -> None:
    await Server(make_settings(), metrics).stop()


async def test_in_tool_mode_an_utterance_is_cut_by_characters(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(deploy_models="tool", user_utt_max_tokens=2)
    server = server_with(settings, None, ScriptedClassifier(settings))
    assert await server.admit(None, "x" * 17) == "x" * 16
    assert await server.admit(None, "x" * 16) == "x" * 16
    await server.stop()
