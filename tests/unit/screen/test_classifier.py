"""The classifier's process: asked by many, it hangs, dies and comes back, and nobody is lost."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from tests.unit.screen.conftest import WORDS, MakeModel
from tests.unit.stand_ins import KEY
from yap.errors import ServerError, StartupError
from yap.screen import classifier as module
from yap.screen.checkpoint import Checkpoint
from yap.screen.classifier import (
    ClassifierFailedError,
    QueueFullError,
    ScreenClassifier,
    worker_options,
)
from yap.settings import Settings

# A process takes seconds to import its libraries, so one serves all tests that leave it whole.
pytestmark = pytest.mark.asyncio(loop_scope="module")
Started = Callable[..., Awaitable[ScreenClassifier]]


@pytest.fixture(scope="module")
def screen_model(make_screen_model: MakeModel) -> str:
    return make_screen_model()


def settings_of(model: str, **fields: Any) -> Settings:
    return Settings(text_api_key=KEY, tool_model=model, tool_device="cpu", **fields)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def one(screen_model: str) -> AsyncIterator[ScreenClassifier]:
    """A classifier that runs, with a queue of three."""
    classifier = ScreenClassifier(settings_of(screen_model, tool_queue_max=3))
    await classifier.start()
    yield classifier
    await classifier.close()


@pytest_asyncio.fixture(loop_scope="module")
async def started(screen_model: str) -> AsyncIterator[Started]:
    """Starts classifiers with the settings that are given, and closes them."""
    opened: list[ScreenClassifier] = []

    async def start(model: str = screen_model, **fields: Any) -> ScreenClassifier:
        opened.append(ScreenClassifier(settings_of(model, **fields)))
        await opened[-1].start()
        return opened[-1]

    yield start
    for classifier in opened:
        await classifier.close()


def process_of(one: ScreenClassifier) -> int:
    assert one._process is not None
    return one._process.pid


class Halted:
    """The classifier's process, stopped as a debugger stops it."""

    def __init__(self, one: ScreenClassifier) -> None:
        self.pid = process_of(one)
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


async def ask(one: ScreenClassifier, *texts: str) -> list[asyncio.Task[float]]:
    tasks = [asyncio.create_task(one.probability(text, [])) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def comes_back(one: ScreenClassifier) -> float:
    """Ask until there is an answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await one.probability("w1", [])
            except ClassifierFailedError:
                await asyncio.sleep(0.1)


# Answers


async def test_it_says_what_the_checkpoint_says(one: ScreenClassifier, screen_model: str) -> None:
    checkpoint = Checkpoint(worker_options(settings_of(screen_model)))
    for utterance, earlier in [("w1 w2", []), ("w1", ["w2", "w3 w4"]), ("", ["w1"])]:
        expected = checkpoint.probabilities([checkpoint.token_ids(utterance, earlier)])
        assert await one.probability(utterance, earlier) == pytest.approx(expected[0], abs=1e-6)


async def test_everyone_gets_his_own_answer(one: ScreenClassifier) -> None:
    alone = [await one.probability(word, []) for word in WORDS[:30]]
    assert len({round(p, 6) for p in alone}) > 15
    for begin in range(0, 30, 3):
        words = WORDS[begin : begin + 3]
        together = await asyncio.gather(*(one.probability(word, []) for word in words))
        assert together == pytest.approx(alone[begin : begin + 3], abs=1e-6)


@pytest.mark.parametrize("text", ["", " ", "\n", "not a known word", "\x00", "😀" * 50])
async def test_any_text_gets_a_probability(one: ScreenClassifier, text: str) -> None:
    assert 0 <= await one.probability(text, [text]) <= 1


async def test_a_text_without_end_is_cut_before_it_is_sent(one: ScreenClassifier) -> None:
    long = "x" * 10_000_000
    assert len(one._question(1, long, [long, "hi", long])) < 20 * one._settings.tool_max_length
    assert 0 <= await one.probability(long, [long]) <= 1


# Waiting


async def test_over_the_bound_of_the_queue_nobody_waits(one: ScreenClassifier) -> None:
    halted = Halted(one)
    tasks = await ask(one, "w1", "w2", "w3")
    with pytest.raises(QueueFullError):
        await one.probability("w4", [])
    halted.go_on()
    await asyncio.gather(*tasks)
    await one.probability("w4", [])  # there is room again


async def test_who_has_gone_makes_room_and_the_others_are_answered(one: ScreenClassifier) -> None:
    halted = Halted(one)
    first, second, third = await ask(one, "w1", "w2", "w3")
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    (replacement,) = await ask(one, "w4")
    halted.go_on()
    assert 0 <= await third <= 1
    assert 0 <= await replacement <= 1
    assert not one._asked


async def test_a_process_that_has_nothing_to_do_does_not_hang(
    one: ScreenClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANGS_AFTER_S", 0.1)
    pid = process_of(one)
    await asyncio.sleep(1.5)
    assert process_of(one) == pid
    await one.probability("w1", [])


# Faults


async def test_a_process_that_dies_or_hangs_fails_who_waits_and_is_started_again(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(module, "HANGS_AFTER_S", 2.0)
    one = await started()
    before = await one.probability("w1", [])
    for kill in (True, False):
        halted = Halted(one)
        tasks = await ask(one, "w1", "w2")
        if kill:
            os.kill(halted.pid, signal.SIGKILL)
        async with asyncio.timeout(8):
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ClassifierFailedError] * 2
        assert one.ready  # turns go on, with no
        assert await comes_back(one) == pytest.approx(before, abs=1e-6)
        assert process_of(one) != halted.pid
        assert not psutil.pid_exists(halted.pid)


async def test_a_model_that_raises_fails_the_question_and_not_the_process(
    started: Started, screen_model: str, tmp_path: Path
) -> None:
    """There is a token that the model has no embedding for."""
    broken = tmp_path / "broken"
    shutil.copytree(screen_model, broken)
    tokenizer = json.loads((broken / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["beyond"] = 100_000
    (broken / "tokenizer.json").write_text(json.dumps(tokenizer))
    one = await started(str(broken))
    pid = process_of(one)
    with pytest.raises(ClassifierFailedError):
        await one.probability("beyond", [])
    assert 0 <= await one.probability("w1", []) <= 1
    assert process_of(one) == pid


# Life


async def test_it_is_ready_between_start_and_close_and_leaves_no_process(screen_model: str) -> None:
    one = ScreenClassifier(settings_of(screen_model))
    assert not bool(one.ready)
    with pytest.raises(ServerError):
        await one.probability("w1", [])
    await one.start()
    assert bool(one.ready)
    pid = Halted(one).pid
    (waiting,) = await ask(one, "w1")
    await one.close()
    with pytest.raises(ClassifierFailedError):
        await waiting
    assert not one.ready
    assert not psutil.pid_exists(pid)
    with pytest.raises(ServerError):
        await one.probability("w1", [])


async def test_its_process_ends_when_the_service_does(started: Started) -> None:
    """The way in closes, whatever ended the service; nothing else tells the process."""
    process = (await started())._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(5):
        await process.wait()


async def test_a_model_that_cannot_be_served_is_refused_in_words(
    started: Started, tmp_path: Path
) -> None:
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        await started(str(tmp_path))
