"""What the unit tests share: settings, a small real tokenizer, and loops that end clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.places import MakePlace, Place
from tests.unit.stage import MakeStage, Stage
from tests.unit.stand_ins import (
    CHAT_TEMPLATE,
    KEY,
    ScriptedChat,
    ScriptedClassifier,
    Step,
    make_tokenizer,
    server_with,
)
from yap.chat.engine import ChatEngine
from yap.metrics import Metrics
from yap.outbox import Outbox
from yap.screen.router import ScreenRouter
from yap.settings import Settings
from yap.turn import Resources

# A failed assertion of theirs shows its values, as one in a test does.
pytest.register_assert_rewrite("tests.unit.interleavings")

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings() -> MakeSettings:
    """Settings with a key, and what is given by field name."""

    def make(**fields: Any) -> Settings:
        return Settings(**({"text_api_key": KEY} | fields))

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE tokenizer with a ChatML template, as many chat models have."""
    return make_tokenizer(CHAT_TEMPLATE)


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fails where a test leaves a task running that it did not find."""
    before = asyncio.all_tasks()
    yield
    for _ in range(3):  # a task that is done leaves the set when its loop has turned
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left


@pytest.fixture(params=["asgi", "direct"])
async def place(
    make_settings: MakeSettings,
    tokenizer: Any,
    no_task_left: None,
    request: pytest.FixtureRequest,
) -> AsyncIterator[MakePlace]:
    """Opens a server: what its engine replies, what its classifier does, and settings.

    Its clients' frames go through ASGI, or take the short way out wherever they can.
    """
    direct = request.param == "direct"
    opened: list[Place] = []

    def make(
        *replies: Sequence[Step],
        steps: Sequence[Step] = (),
        idle: float = 150,  # shorter than the settings permit, for short tests
        **fields: Any,
    ) -> Place:
        settings = make_settings(**fields).model_copy(update={"ws_idle_timeout_s": idle})
        chat = ScriptedChat(settings, tokenizer, *replies)
        classifier = ScriptedClassifier(settings, 0.0, steps)
        opened.append(Place(server_with(settings, chat, classifier), chat, direct=direct))
        return opened[-1]

    yield make
    for one in opened:
        await one.leave()


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
