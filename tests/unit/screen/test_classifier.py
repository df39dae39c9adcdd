"""The classifier reads what was said last, one text at a time, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from tests.unit.screen.conftest import POSITIONS, WORDS, MakeModel
from yap.errors import ServerError, StartupError
from yap.screen import classifier as module
from yap.screen.classifier import QueueFullError, ScreenClassifier, join_lines, positive_label

Started = Callable[..., Awaitable[ScreenClassifier]]


@pytest.fixture(scope="session")
def screen_model(make_screen_model: MakeModel) -> str:
    return make_screen_model()


@pytest.fixture
async def started(make_settings: MakeSettings, screen_model: str) -> AsyncIterator[Started]:
    """Starts classifiers with the settings that are given, and closes them."""
    opened: list[ScreenClassifier] = []

    async def start(**fields: Any) -> ScreenClassifier:
        settings = make_settings(**({"tool_model": screen_model, "tool_device": "cpu"} | fields))
        opened.append(ScreenClassifier(settings))
        await opened[-1].start()
        return opened[-1]

    yield start
    for one in opened:
        await one.close()


# Labels


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        (["other", "take_screenshot"], 1),
        (["take_screenshot", "other"], 0),
        (["LABEL_0", "LABEL_1"], 1),
        (["no", "yes"], 1),
        ([" Yes ", "No"], 0),
        (["negative", "POSITIVE"], 1),
        (["false", "true"], 1),
        (["none", "screenshot"], 1),
    ],
)
def test_the_label_that_means_yes_is_found(labels: list[str], index: int) -> None:
    assert positive_label(dict(enumerate(labels))) == index


@pytest.mark.parametrize(
    "labels", [[], ["yes"], ["no", "maybe", "yes"], ["left", "right"], ["yes", "true"]]
)
def test_labels_that_do_not_tell_are_refused_in_words(labels: list[str]) -> None:
    with pytest.raises(StartupError, match="id2label"):
        positive_label(dict(enumerate(labels)))


async def test_the_probability_is_of_the_positive_label(
    started: Started, make_screen_model: MakeModel
) -> None:
    second = await started()
    first = await started(tool_model=make_screen_model(["take_screenshot", "other"]))
    yes, no = [await one.probability("w1 w2", []) for one in (second, first)]
    assert yes + no == pytest.approx(1)
    assert yes != pytest.approx(0.5, abs=1e-3)


# What is read


@pytest.mark.parametrize(
    ("earlier", "budget", "joined"),
    [
        ([], 10, "now"),
        (["a b", "c d"], 4, "a b\nc d\nnow"),
        (["a b", "c d"], 3, "c d\nnow"),
        (["a", "b b b", "c"], 3, "c\nnow"),
        (["a b"], 0, "now"),
        (["", "a"], 1, "\na\nnow"),
        (["a", "b" * 1000], 60, "now"),
    ],
)
def test_the_newest_earlier_lines_that_fit_are_read_too(
    earlier: list[str], budget: int, joined: str
) -> None:
    assert join_lines("now", earlier, budget, lambda line: len(line.split())) == joined


def test_a_line_that_cannot_fit_is_not_even_counted() -> None:
    def count(line: str) -> int:
        raise AssertionError(f"counted {len(line)} characters")

    assert join_lines("now", ["x" * 1_000_000], 1536, count) == "now"


async def test_earlier_lines_count(started: Started) -> None:
    one = await started()
    assert await one.probability("w1", []) != await one.probability("w1", ["w2"])
    assert await one.probability("w1", ["w2"]) == await one.probability("w2 w1", [])


async def test_history_is_kept_within_its_budget(started: Started) -> None:
    one = await started(tool_history_tokens=3)
    lines = ["w9 w9", "w2 w3", "w4"]
    assert await one.probability("w1", lines) == await one.probability("w2 w3 w4 w1", [])


async def test_of_a_text_too_long_the_newest_part_is_read(started: Started) -> None:
    one = await started(tool_max_length=16)
    newest = " ".join(WORDS[-14:])  # and <s> and </s>
    assert await one.probability(" ".join(WORDS), []) == await one.probability(newest, [])
    assert await one.probability(newest, [WORDS[0]]) == await one.probability(newest, [])
    shorter = " ".join(WORDS[-13:])
    assert await one.probability(newest, []) != await one.probability(shorter, [])


@pytest.mark.parametrize("max_length", [POSITIONS, None])
async def test_a_text_longer_than_the_model_can_read_is_cut_to_what_it_can(
    started: Started, make_screen_model: MakeModel, max_length: int | None
) -> None:
    """Not every tokenizer says how much its model can read; the model's config does."""
    one = await started(tool_model=make_screen_model(max_length=max_length))
    newest = " ".join(WORDS[-(POSITIONS - 2) :])
    assert await one.probability(" ".join(WORDS), []) == await one.probability(newest, [])


@pytest.mark.parametrize("text", ["", " ", "\n", "not a known word", "\x00", "😀" * 50])
async def test_any_text_gets_a_probability(started: Started, text: str) -> None:
    assert 0 <= await (await started()).probability(text, [text]) <= 1


# Waiting


class Held:
    """Holds the real forward pass until it is let go, and counts what is computed."""

    def __init__(self, real: Callable[..., float]) -> None:
        self._real = real
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.computed: list[str] = []

    def __call__(self, loaded: Any, utterance: str, earlier: tuple[str, ...]) -> float:
        self.entered.release()
        assert self.go.wait(10)
        self.computed.append(utterance)
        return self._real(loaded, utterance, earlier)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Held]]:
    """From the call on, forward passes are held."""
    held = Held(module._classify)

    def start() -> Held:
        monkeypatch.setattr(module, "_classify", held)
        return held

    yield start
    held.go.set()


async def ask(one: ScreenClassifier, *texts: str) -> list[asyncio.Task[float]]:
    tasks = [asyncio.create_task(one.probability(text, [])) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def test_over_the_bound_of_the_queue_nobody_waits(
    started: Started, hold: Callable[[], Held]
) -> None:
    one = await started(tool_queue_max=3)
    held = hold()
    tasks = await ask(one, "w1", "w2", "w3")
    with pytest.raises(QueueFullError):
        await one.probability("w4", [])
    held.go.set()
    await asyncio.gather(*tasks)
    assert held.computed == ["w1", "w2", "w3"]
    await one.probability("w4", [])  # there is room again


async def test_who_has_gone_is_not_computed(started: Started, hold: Callable[[], Held]) -> None:
    one = await started(tool_queue_max=3)
    held = hold()
    first, second, third = await ask(one, "w1", "w2", "w3")
    await asyncio.to_thread(held.entered.acquire)
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    replacement = (await ask(one, "w4"))[0]
    held.go.set()
    await asyncio.gather(third, replacement)
    assert held.computed == ["w1", "w3", "w4"]  # the first had begun already


async def test_texts_are_computed_one_at_a_time(started: Started, hold: Callable[[], Held]) -> None:
    one = await started()
    held = hold()
    tasks = await ask(one, *WORDS[:5])
    await asyncio.to_thread(held.entered.acquire)
    assert not held.entered.acquire(timeout=0.05)
    held.go.set()
    await asyncio.gather(*tasks)
    assert held.computed == WORDS[:5]


# Life


async def test_it_is_ready_between_start_and_close(
    make_settings: MakeSettings, screen_model: str
) -> None:
    one = ScreenClassifier(make_settings(tool_model=screen_model, tool_device="cpu"))
    assert not bool(one.ready)
    with pytest.raises(ServerError):
        await one.probability("w1", [])
    await one.start()
    assert bool(one.ready)
    await one.close()
    assert not one.ready
    with pytest.raises(ServerError):
        await one.probability("w1", [])


async def test_a_model_with_three_labels_is_refused(
    started: Started, make_screen_model: MakeModel
) -> None:
    with pytest.raises(StartupError, match="two labels"):
        await started(tool_model=make_screen_model(["no", "maybe", "yes"]))


async def test_a_folder_without_a_model_is_refused(started: Started, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "longformer"}))
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        await started(tool_model=str(tmp_path))


async def test_cuda_where_there_is_none_is_refused(started: Started) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(StartupError, match="TOOL_DEVICE=cuda"):
        await started(tool_device="cuda")
    assert (await started(tool_device="auto")).ready


async def test_a_model_that_was_never_made_a_classifier_is_refused(
    started: Started, make_screen_model: MakeModel, tmp_path: Path
) -> None:
    """Its head would be random numbers, and its labels are the library's default ones."""
    from transformers import AutoModel, AutoTokenizer

    made = make_screen_model(["LABEL_0", "LABEL_1"])
    AutoModel.from_pretrained(made).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(made).save_pretrained(tmp_path)
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        await started(tool_model=str(tmp_path))
