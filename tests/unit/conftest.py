"""What the unit tests share: settings, a small real tokenizer, and loops that end clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.places import MakePlace, Place
from tests.unit.stand_ins import (
    CHAT_TEMPLATE,
    KEY,
    ScriptedChat,
    ScriptedClassifier,
    Step,
    make_tokenizer,
    server_with,
)
from yap.metrics import Metrics
from yap.settings import Settings

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


@pytest.fixture
async def place(
    make_settings: MakeSettings, tokenizer: Any, no_task_left: None
) -> AsyncIterator[MakePlace]:
    """Opens a server: what its engine replies, what its classifier does, and settings."""
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
        opened.append(Place(server_with(settings, chat, classifier), chat))
        return opened[-1]

    yield make
    for one in opened:
        await one.leave()
