"""The engine's seam: what it asks of a model, and how it says no. Replies are tested end to end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat import engine as module
from yap.chat import guard, health
from yap.chat.engine import ChatEngine, EngineState
from yap.chat.prompt import Prompt
from yap.errors import EngineFailed, EngineUnavailable, StartupError
from yap.protocol import SamplingOptions
from yap.settings import Settings

pytestmark = pytest.mark.usefixtures("no_task_left")


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Without a warm-up: the cores here cannot answer."""
    return make_settings(chat_warm_up=False)


# How a reply ended


@pytest.mark.parametrize("reason", [None, "stop", "length"])
def test_a_reply_ends_as_the_engine_says(reason: str | None) -> None:
    assert module._finish_reason(reason) == reason


@pytest.mark.parametrize("reason", ["abort", "error", "repetition", "anything"])
def test_a_reply_that_the_engine_gave_up_has_failed(reason: str) -> None:
    with pytest.raises(EngineFailed):
        module._finish_reason(reason)


# Life


async def test_before_it_is_started_it_serves_nothing(settings: Settings) -> None:
    engine = ChatEngine(settings)
    assert engine.state is EngineState.NEW
    assert not engine.ready
    for call in (
        engine.admit("persona", "hi"),
        engine.prepare(None, [], "hi"),
        anext(engine.stream(Prompt([1], 1, 0), SamplingOptions(), "id")),
        engine.in_flight(),
    ):
        with pytest.raises(EngineUnavailable):
            await call
    await engine.close()


async def test_it_can_be_closed_in_any_state_and_twice(settings: Settings) -> None:
    engine = ChatEngine(settings)
    for _ in range(2):
        await engine.close()
        assert engine.state is EngineState.CLOSED


async def test_without_its_guard_it_does_not_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "is_installed", lambda: False)
    engine = ChatEngine(settings)
    with pytest.raises(StartupError, match="pip install"):
        await engine.start()
    await engine.close()


async def test_a_model_that_does_not_load_in_time_is_a_failed_start(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings().model_copy(update={"chat_start_timeout_s": 0.05})
    engine = ChatEngine(settings)
    monkeypatch.setattr(engine, "_build", lambda: time.sleep(0.2))
    with pytest.raises(StartupError, match=r"CHAT_START_TIMEOUT_S=0\.05"):
        await engine.start()
    assert engine.state is EngineState.DEAD
    await engine.close()
    await asyncio.sleep(0.2)  # the thread cannot be interrupted


async def test_a_start_that_is_cancelled_leaves_the_engine_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ChatEngine(settings)
    monkeypatch.setattr(engine, "_build", lambda: time.sleep(0.2))
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0.05)
    assert engine.state.value == "loading"
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await engine.close()
    assert engine.state is EngineState.CLOSED
    await asyncio.sleep(0.2)


class Core:
    """Stands for vLLM's engine: dies and falls silent on command, and may be a real process."""

    def __init__(self, process: subprocess.Popen[bytes] | None = None) -> None:
        self.errored = False
        self.silent = False
        self.shut_down = 0
        manager = SimpleNamespace(processes=[process] if process else [])
        self.engine_core = SimpleNamespace(resources=SimpleNamespace(engine_manager=manager))

    async def is_paused(self) -> bool:
        if self.silent:
            await asyncio.Event().wait()
        return False

    def shutdown(self, _timeout: float) -> None:
        self.shut_down += 1


Break = Callable[[Core], None]


def die(core: Core) -> None:
    core.errored = True


def fall_silent(core: Core) -> None:
    core.silent = True


def be_stopped(core: Core) -> None:
    (process,) = core.engine_core.resources.engine_manager.processes
    process.send_signal(signal.SIGSTOP)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("breaks", [die, fall_silent, be_stopped])
async def test_a_core_that_breaks_is_noticed_soon_and_another_is_built(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    process: subprocess.Popen[bytes],
    breaks: Break,
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(health, "CALL_EVERY_S", 0.1)
    monkeypatch.setattr(health, "ANSWERS_WITHIN_S", 0.2)
    monkeypatch.setattr(health, "NOTICES_WITHIN_S", 0.1)
    broken, fresh = Core(process), Core()
    cores = [broken, fresh]
    again = asyncio.Event()

    async def on_rebuilt() -> None:
        again.set()

    engine = ChatEngine(settings, on_rebuilt)
    monkeypatch.setattr(engine, "_build", lambda: (cores.pop(0), None))
    try:
        await engine.start()
        await asyncio.sleep(0.5)
        assert bool(engine.ready)
        breaks(broken)
        async with asyncio.timeout(2):
            await again.wait()
        assert engine.state is EngineState.READY
        assert (broken.shut_down, fresh.shut_down) == (1, 0)
        assert process.wait(1) == -signal.SIGKILL  # nothing of the old core is left
        assert not engine.dead
    finally:
        await engine.close()
    assert fresh.shut_down == 1


async def test_a_core_that_breaks_while_a_rebuilding_is_told_is_noticed_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(health, "NOTICES_WITHIN_S", 0.1)
    cores = [Core(), Core(), Core()]
    made = list(cores)
    told: list[asyncio.Event] = []

    async def on_rebuilt() -> None:
        told.append(asyncio.Event())
        if len(told) == 1:
            await told[0].wait()  # for ever: the core that would answer has broken

    engine = ChatEngine(settings, on_rebuilt)
    monkeypatch.setattr(engine, "_build", lambda: (cores.pop(0), None))
    await engine.start()
    async with asyncio.timeout(10):
        for core in made[:2]:
            before = len(told)
            core.errored = True
            while len(told) == before:  # noqa: ASYNC110 - it has no event for this
                await asyncio.sleep(0.01)
    assert engine.ready
    await engine.close()
    assert [core.shut_down for core in made] == [1, 1, 1]


async def test_from_the_moment_its_death_is_known_it_is_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, core = ChatEngine(settings), Core()
    monkeypatch.setattr(engine, "_build", lambda: (core, None))
    await engine.start()
    core.errored = True
    assert not engine.ready
    await engine.close()


async def test_a_core_that_cannot_be_built_anew_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    engine, core = ChatEngine(settings), Core()
    tries: list[int] = []

    def build() -> tuple[Core, None]:
        if tries:
            tries.append(1)
            raise StartupError("There is no memory left.")
        tries.append(0)
        return core, None

    monkeypatch.setattr(engine, "_build", build)
    await engine.start()
    core.errored = True
    async with asyncio.timeout(5):
        while not engine.dead:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.01)
    assert len(tries) == 1 + module._MOST_REBUILDS
    await engine.close()


async def test_closed_while_it_is_built_anew_it_leaves_no_core(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    cores = [Core(), Core()]
    made = list(cores)
    engine = ChatEngine(settings)

    begun, go = threading.Event(), threading.Event()

    def build() -> tuple[Core, None]:
        if len(cores) == 1:
            begun.set()
            go.wait(5)
        return cores.pop(0), None

    monkeypatch.setattr(engine, "_build", build)
    await engine.start()
    made[0].errored = True
    assert await asyncio.to_thread(begun.wait, 5)
    assert engine.state is EngineState.REBUILDING
    await engine.close()
    go.set()
    await asyncio.sleep(0.3)
    assert [core.shut_down for core in made] == [1, 1]


async def test_it_is_ready_after_its_warm_up_and_closed_during_it_it_leaves_no_core(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def warm_up(*_: object) -> None:
        begun.set()
        await go.wait()

    monkeypatch.setattr(module, "warm_up", warm_up)
    for ready in (True, False):
        engine, core = ChatEngine(settings), Core()
        monkeypatch.setattr(engine, "_build", lambda core=core: (core, None))
        starting = asyncio.create_task(engine.start())
        await begun.wait()
        assert not engine.ready
        if ready:
            go.set()
            await starting
            assert engine.ready
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await engine.close()
        assert core.shut_down == 1
        begun.clear()
        go.clear()


async def test_a_core_that_dies_in_its_warm_up_is_let_go_and_built_anew_unless_it_is_the_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    cores = [Core() for _ in range(4)]
    made = list(cores)
    dies = [True, False, True, False]

    async def warm_up(*_: object) -> None:
        if dies.pop(0):
            raise ExceptionGroup("warm-up", [RuntimeError("dead")])

    monkeypatch.setattr(module, "warm_up", warm_up)
    first = ChatEngine(settings)
    monkeypatch.setattr(first, "_build", lambda: (cores.pop(0), None))
    with pytest.raises(StartupError, match="died while it was warmed up"):
        await first.start()
    assert made[0].shut_down == 1
    await first.close()

    again = asyncio.Event()

    async def on_rebuilt() -> None:
        again.set()

    engine = ChatEngine(settings, on_rebuilt)
    monkeypatch.setattr(engine, "_build", lambda: (cores.pop(0), None))
    await engine.start()
    made[1].errored = True
    async with asyncio.timeout(5):
        await again.wait()
    assert engine.ready
    await engine.close()
    assert [core.shut_down for core in made] == [1, 1, 1, 1]


async def test_a_core_that_comes_up_after_the_deadline_is_not_left_running(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that loads cannot be interrupted; what it made must still be let go."""
    settings = make_settings().model_copy(update={"chat_start_timeout_s": 0.05})
    engine, core = ChatEngine(settings), Core()

    def build() -> tuple[Core, None]:
        time.sleep(0.2)
        return core, None

    monkeypatch.setattr(engine, "_build", build)
    with pytest.raises(StartupError):
        await engine.start()
    await engine.close()
    await asyncio.sleep(0.4)
    assert core.shut_down == 1


async def test_a_folder_that_is_no_model_is_named(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    engine = ChatEngine(make_settings(chat_model=str(tmp_path)))
    with pytest.raises(StartupError, match="CHAT_MODEL="):
        await engine.start()
    await engine.close()


def test_an_argument_that_vllm_does_not_know_is_named(settings: Settings) -> None:
    with pytest.raises(StartupError, match=r"CHAT_ENGINE_ARGS.*: no_such_argument"):
        module._make_llm({"model": "org/chat", "seed": 1, "no_such_argument": 2}, settings)
