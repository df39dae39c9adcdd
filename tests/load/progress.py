"""A progress bar on standard error that costs microseconds: drawing must not delay reading."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from tests.load.driver import Served

_PERIOD_S = 0.25
_WIDTH = 30


@asynccontextmanager
async def progress(label: str, served: Served, turns: int, show: bool) -> AsyncIterator[None]:
    """Draw a line again and again while the block runs, where standard error is a terminal."""
    if not show or not sys.stderr.isatty():
        yield
        return
    task = asyncio.create_task(_draw(label, served, turns))
    try:
        yield
    finally:
        task.cancel()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


async def _draw(label: str, served: Served, turns: int) -> None:
    begun = perf_counter()
    while True:
        sys.stderr.write(f"\r{line(label, served, turns, perf_counter() - begun)}\x1b[K")
        sys.stderr.flush()
        await asyncio.sleep(_PERIOD_S)


def line(label: str, served: Served, turns: int, seconds: float) -> str:
    """What the bar says."""
    made = len(served.results)
    full = min(_WIDTH, _WIDTH * made // max(1, turns))
    bar = "#" * full + "." * (_WIDTH - full)
    return f"{label} [{bar}] {made}/{turns} turns, {served.failed} failed, {seconds:.0f} s"
