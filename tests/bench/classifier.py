"""What asking the service's classifier costs over calling the model.

Three ways to judge the same texts, in one run: the checkpoint in this process (`in process`), the
stock Hugging Face model in this process, as its model card has it (`stock`), and
`ScreenClassifier` (`service`): its own process, a pipe, and the batcher between.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.bench.figures import Ratio, Times, ratio_of_medians
from tests.bench.texts import Text, beginnings, lines
from tests.e2e.harness import ROOT
from yap.screen.checkpoint import Checkpoint
from yap.screen.classifier import ScreenClassifier, worker_options
from yap.screen.inputs import join_lines
from yap.settings import Settings

IN_FLIGHT = 32
MODEL = str(ROOT / "models" / "yap-screen-demo")
_WARM_UP = 20

Judge = Callable[[Text], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Lone:
    """One request at a time; times are of a request."""

    block: int
    in_process: Times
    stock: Times
    service: Times
    over_in_process: Ratio
    over_stock: Ratio


@dataclass(frozen=True, slots=True)
class Crowd:
    """`IN_FLIGHT` requests at a time against one; rates are answers a second, of each round."""

    texts: str
    one: list[float]
    many: list[float]
    gain: float
    waited: Times


@dataclass(frozen=True, slots=True)
class ClassifierFigures:
    """What was measured with so many threads."""

    threads: int
    texts: int
    tokens: tuple[int, int, int]
    most_apart: float
    lone: list[Lone]
    crowds: list[Crowd]


async def measure(threads: int, rounds: int, seed: int = 0) -> ClassifierFigures:
    """Measure with so many CPU threads, in the worker and here.

    Args:
        rounds: how often all the texts are judged, in each way.
    """
    settings = Settings(tool_model=MODEL, tool_device="cpu", tool_cpu_threads=threads)
    kinds = {"lines": lines(), "beginnings": beginnings()}
    texts = kinds["both"] = [text for kind in kinds.values() for text in kind]
    checkpoint = Checkpoint(worker_options(settings))
    lengths = [len(checkpoint.token_ids(text.utterance, text.earlier)) for text in texts]
    service = ScreenClassifier(settings)
    judges = {
        "in_process": _in_process(checkpoint),
        "stock": _stock(settings, checkpoint),
        "service": _service(service),
    }
    await service.start()
    try:
        for judge in judges.values():
            for text in texts[:_WARM_UP]:
                await judge(text)
        apart = await _most_apart(judges, texts)
        rng = random.Random(seed)
        lone = [await _lone(judges, texts, rounds, block, rng) for block in _blocks(threads)]
        crowds = [
            await _crowd(judges["service"], name, of_kind, rounds)
            for name, of_kind in kinds.items()
        ]
    finally:
        await service.close()
    low, middle, high = np.percentile(lengths, (0, 50, 100))
    tokens = (int(low), int(middle), int(high))
    return ClassifierFigures(threads, len(texts), tokens, apart, lone, crowds)


def _blocks(threads: int) -> tuple[int, ...]:
    """How many calls a way makes before it is the next one's turn.

    Several threads of a way that has just been called spin for a while, waiting for more, and
    keep the next one from its cores; with calls that alternate nothing else is measured.
    """
    return (1, 25) if threads == 1 else (25,)


# --- three ways -----------------------------------------------------------------------------


def _in_process(checkpoint: Checkpoint) -> Judge:
    async def judge(text: Text) -> float:
        return checkpoint.probabilities([checkpoint.token_ids(text.utterance, text.earlier)])[0]

    return judge


def _stock(settings: Settings, checkpoint: Checkpoint) -> Judge:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(MODEL, truncation_side="left")
    model: Any = AutoModelForSequenceClassification.from_pretrained(MODEL).eval()
    budget, longest = settings.tool_history_tokens, checkpoint.max_length
    (positive,) = (i for i, label in model.config.id2label.items() if label == "screenshot")

    def count(line: str) -> int:
        return len(tokenizer.encode(line, add_special_tokens=False))

    async def judge(text: Text) -> float:
        joined = join_lines(text.utterance, text.earlier, budget, count)
        inputs = tokenizer(joined, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits
        return float(torch.softmax(logits, dim=-1)[0, positive])

    return judge


def _service(classifier: ScreenClassifier) -> Judge:
    async def judge(text: Text) -> float:
        return await classifier.probability(text.utterance, text.earlier)

    return judge


# --- measuring ------------------------------------------------------------------------------


async def _most_apart(judges: dict[str, Judge], texts: Sequence[Text]) -> float:
    """The largest difference between the probabilities that the three ways give a text."""
    apart = 0.0
    for text in texts:
        found = [await judge(text) for judge in judges.values()]
        apart = max(apart, max(found) - min(found))
    return apart


async def _lone(
    judges: dict[str, Judge], texts: Sequence[Text], rounds: int, block: int, rng: random.Random
) -> Lone:
    """Judge all texts in each way, the ways taking turns in random order.

    Args:
        block: texts that a way judges before it is the next one's turn. With 1, each call may
            find the caches full of another way's weights.
    """
    times: dict[str, list[list[float]]] = {name: [[] for _ in texts] for name in judges}
    for _ in range(rounds):
        for first in range(0, len(texts), block):
            for name in rng.sample(sorted(judges), len(judges)):
                for i in range(first, min(first + block, len(texts))):
                    begun = time.perf_counter()
                    await judges[name](texts[i])
                    times[name][i].append((time.perf_counter() - begun) * 1000)
    all_times = {name: Times.of([t for item in of for t in item]) for name, of in times.items()}
    return Lone(
        block=block,
        over_in_process=ratio_of_medians(times["service"], times["in_process"]),
        over_stock=ratio_of_medians(times["service"], times["stock"]),
        **all_times,
    )


async def _crowd(judge: Judge, name: str, texts: Sequence[Text], rounds: int) -> Crowd:
    one: list[float] = []
    many: list[float] = []
    waited: list[float] = []
    for _ in range(rounds):
        one.append(await _rate(judge, texts, 1, []))
        # More texts, so that starting and ending, when fewer are in flight, weigh little.
        many.append(await _rate(judge, [*texts, *texts, *texts], IN_FLIGHT, waited))
    gain = float(np.median(many) / np.median(one))
    return Crowd(name, _rounded(one), _rounded(many), round(gain, 3), Times.of(waited))


async def _rate(judge: Judge, texts: Sequence[Text], in_flight: int, waited: list[float]) -> float:
    """Answers a second with so many requests in flight; what each took is added to `waited`."""
    # Long ones and short ones mixed, as they come from different users.
    mixed = iter(random.Random(0).sample(texts, len(texts)))

    async def ask() -> None:
        for text in mixed:
            asked = time.perf_counter()
            await judge(text)
            waited.append((time.perf_counter() - asked) * 1000)

    begun = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(in_flight)))
    return len(texts) / (time.perf_counter() - begun)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 1) for value in values]
