"""The server that gets bad input, and what an honest turn takes there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.e2e.bad_input.watching import NO_LIMITS, connected
from tests.e2e.conftest import running
from tests.e2e.harness import ServerProcess


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Both models without rate limits."""
    with running(tmp_path_factory.mktemp("bad-input"), **NO_LIMITS) as process:
        yield process


@pytest.fixture(scope="package")
def full_turn_s(served: ServerProcess) -> float:
    """Seconds that an honest turn takes whose history fills its budget."""
    history = [{"role": ("user", "assistant")[i % 2], "content": "we"} for i in range(1000)]

    async def turn() -> float:
        async with connected(served) as client:
            begun = time.perf_counter()
            await client.turn("Hi!", session_id="full", history=history)
            return time.perf_counter() - begun

    return asyncio.run(turn())
