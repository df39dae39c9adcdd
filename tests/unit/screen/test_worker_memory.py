"""Long conversations of ever other lengths do not make the classifier's process grow."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import psutil
import pytest

from tests.unit.stand_ins import KEY
from yap.screen.classifier import ScreenClassifier
from yap.settings import Settings

MODEL = Path(__file__).resolve().parents[3] / "models" / "yap-screen-demo"
USERS = 24
SECONDS = 75
SETTLED = 15  # seconds until every shape has been seen
WORDS = "look at my screen walk dog please error today river".split()
# Without giving memory back it was 1.4 after this time, and it went on growing; with it, 1.1.
MOST_GROWTH = 1.25


async def user(classifier: ScreenClassifier, seed: int) -> None:
    """Says lines of 3 to 200 words for ever, with a conversation of twelve behind each."""
    rng = random.Random(seed)
    earlier: list[str] = []
    while True:
        line = " ".join(rng.choices(WORDS, k=rng.choice((3, 10, 40, 200))))
        await classifier.probability(line, earlier)
        earlier = [] if rng.random() < 0.08 else [*earlier, line][-12:]


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 120)
async def test_memory_is_given_back() -> None:
    settings = Settings(text_api_key=KEY, tool_model=str(MODEL), tool_device="cpu")
    classifier = ScreenClassifier(settings)
    await classifier.start()
    users = [asyncio.create_task(user(classifier, seed)) for seed in range(USERS)]
    try:
        assert classifier._process is not None
        worker = psutil.Process(classifier._process.pid)
        await asyncio.sleep(SETTLED)
        settled, highest = worker.memory_info().rss, 0
        for _ in range(SECONDS - SETTLED):
            await asyncio.sleep(1)
            highest = max(highest, worker.memory_info().rss)
        assert not any(task.done() for task in users)
        assert highest < MOST_GROWTH * settled
    finally:
        for task in users:
            task.cancel()
        await asyncio.gather(*users, return_exceptions=True)
        await classifier.close()
