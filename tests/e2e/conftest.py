"""One running server per deploy mode, shared by the tests that do not harm it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import ServerProcess


@contextmanager
def running(home: Path, **settings: str) -> Iterator[ServerProcess]:
    """A server that is ready; gone with all its processes afterwards."""
    server = ServerProcess(home, **settings)
    try:
        yield server.wait_ready()
        server.stop()
        server.wait_until_gone(10)
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Both models."""
    with running(tmp_path_factory.mktemp("both")) as process:
        yield process


@pytest.fixture(scope="session")
def chat_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The chat model alone."""
    with running(tmp_path_factory.mktemp("chat"), DEPLOY_MODELS="chat") as process:
        yield process


@pytest.fixture(scope="session")
def tool_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The screen classifier alone."""
    with running(tmp_path_factory.mktemp("tool"), DEPLOY_MODELS="tool") as process:
        yield process
