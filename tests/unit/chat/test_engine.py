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
from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat import engine as module
from yap.chat import guard, health
from yap.chat.engine import ChatEngine, EngineState
from yap.chat.prompt import Budgets, Prompt
from yap.errors import EngineFailed, EngineUnavailable, StartupError
from yap.protocol import SamplingOptions
from yap.settings import Settings

pytestmark = pytest.mark.usefixtures("no_task_left")


def config(**fields: Any) -> Any:
    """A model's config, as transformers gives it."""
    from transformers import LlamaConfig

    return LlamaConfig(**fields)


# How much context


def test_the_context_is_what_the_budgets_need(settings: Settings) -> None:
    wanted = 1650 + 3000 + 350 + 150 + 256
    assert settings.chat_max_len_wanted == wanted
    assert module._context_length(settings, config(max_position_embeddings=8192)) == wanted
    assert module._context_length(settings, config(max_position_embeddings=wanted)) == wanted


def test_a_model_that_reads_less_sets_the_context(settings: Settings) -> None:
    assert module._context_length(settings, config(max_position_embeddings=2048)) == 2048


def test_a_model_that_does_not_say_is_asked_for_what_the_budgets_need(settings: Settings) -> None:
    silent = SimpleNamespace(get_text_config=SimpleNamespace)
    assert module._context_length(settings, silent) == settings.chat_max_len_wanted


def test_a_context_that_the_operator_wants_and_the_model_has_not_is_refused(
    make_settings: MakeSettings,
) -> None:
    with pytest.raises(StartupError, match="CHAT_MAX_LEN=8192 is more than the 2048"):
        module._context_length(
            make_settings(chat_max_len=8192), config(max_position_embeddings=2048)
        )


def test_in_a_whole_context_budgets_are_the_settings(settings: Settings) -> None:
    budgets = module._budgets(settings, settings.chat_max_len_wanted)
    assert budgets == Budgets(context=5406, prompt=1650, history=3000, utterance=350, output=150)
    assert module._budgets(settings, 10_000).history == 3000


@pytest.mark.parametrize("context", [256, 512, 1024, 2048, 4096])
def test_in_a_smaller_context_persona_utterance_and_reply_fit_together(
    settings: Settings, context: int
) -> None:
    budgets = module._budgets(settings, context)
    assert budgets.context == context
    assert min(budgets.prompt, budgets.history, budgets.utterance) > 0
    assert budgets.prompt + budgets.utterance + budgets.output <= context


def test_the_size_of_a_model_is_estimated_from_its_config() -> None:
    small = config(vocab_size=1000, hidden_size=64, num_hidden_layers=2, intermediate_size=128)
    assert module._parameter_estimate(small) == 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert module._parameter_estimate(SimpleNamespace(get_text_config=SimpleNamespace)) is None


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


def test_an_argument_that_vllm_does_not_know_is_named() -> None:
    with pytest.raises(StartupError, match=r"CHAT_ENGINE_ARGS.*: no_such_argument"):
        module._make_llm({"model": "org/chat", "seed": 1, "no_such_argument": 2})
