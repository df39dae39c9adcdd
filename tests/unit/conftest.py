"""What the unit tests share: settings, a small real tokenizer, and loops that end clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.stand_ins import CHAT_TEMPLATE, KEY, make_tokenizer
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
