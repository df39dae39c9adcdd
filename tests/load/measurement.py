"""A measurement from its first connection to its summary: warm-up, the load, the meter."""

from __future__ import annotations

import dataclasses
import gc
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.load.arrivals import arrivals
from tests.load.driver import Driver, Served
from tests.load.overhead import Meter
from tests.load.pool import Dial, Pool
from tests.load.progress import progress
from tests.load.results import TurnResult
from tests.load.summary import Load, Summary, summarise
from tests.load.workload import Mix, Workload

_CALIBRATIONS = 8
_WARM_UP_ARRIVALS = 4


class CalibrationError(Exception):
    """The prompts cannot be made as long as they are to be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        turns: of each load, warm-up not counted.
        warm_up: turns before them that are left out; None is one for each client, or 4.
        duration: no turn begins after so many seconds; 0 is no limit.
        timeout: the longest that a turn may take, in seconds.
        prompt_tokens, output_tokens: the length of a first turn's prompt and of a reply.
        turns_each: on one connection, before a new one is made; 0 is no limit.
        watched: processes whose CPU is told.
    """

    loads: Sequence[Load]
    turns: int
    warm_up: int | None = None
    duration: float = 0.0
    timeout: float = 120.0
    burstiness: float = 1.0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    max_connections: int = 256
    turns_each: int = 0
    objectives: Mapping[str, float] = field(default_factory=dict)
    watched: Sequence[int] = ()
    seed: int = 0
    progress: bool = True


Measured = list[tuple[Summary, list[TurnResult]]]


async def measure(plan: Plan, mix: Mix, dial: Dial) -> Measured:
    """Measure each load, one after the other.

    Raises:
        CalibrationError: see `words_for`.
    """
    rng = random.Random(plan.seed)
    if plan.prompt_tokens is not None:
        mix = await fitting(plan, mix, dial)
    workload = Workload(mix, rng)
    found: Measured = []
    for load in plan.loads:
        limit = load.clients if load.clients is not None else plan.max_connections
        pool = Pool(dial, limit, plan.turns_each)
        try:
            served, summary = await _measure_one(plan, load, workload, pool, rng)
        finally:
            await pool.close()
        found.append((summary, served.results))
        if served.interrupted:
            break
    return found


async def _measure_one(
    plan: Plan, load: Load, workload: Workload, pool: Pool, rng: random.Random
) -> tuple[Served, Summary]:
    warm_up = plan.warm_up
    if warm_up is None:
        warm_up = load.clients or _WARM_UP_ARRIVALS
    if warm_up:
        served = await _phase(plan, load, workload, pool, rng, warm_up, f"{load}, warm-up")
        if served.interrupted:
            return served, summarise([], served.seconds, load, interrupted=True)
    meter = Meter(plan.watched)
    with _garbage_kept():
        meter.start()
        try:
            served = await _phase(plan, load, workload, pool, rng, plan.turns, str(load))
        finally:
            overhead = meter.stop()
    tokens = sum(result.output_tokens for result in served.results)
    summary = summarise(
        served.results,
        served.seconds,
        load,
        objectives=plan.objectives,
        overhead=overhead.per_token(tokens),
        interrupted=served.interrupted,
    )
    _check_lengths(plan, summary, served.results)
    return served, summary


async def _phase(
    plan: Plan,
    load: Load,
    workload: Workload,
    pool: Pool,
    rng: random.Random,
    turns: int,
    label: str,
) -> Served:
    driver = Driver(pool, plan.timeout, plan.duration)
    sessions = workload.sessions(turns)
    async with progress(label, driver.served, turns, plan.progress):
        if load.rate is not None:
            times = arrivals(load.rate, plan.burstiness, rng)
            return await driver.open_loop(sessions, times)
        return await driver.closed_loop(sessions, load.clients or 1)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """No garbage collection meanwhile: it stops every stream for milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _check_lengths(plan: Plan, summary: Summary, results: Sequence[TurnResult]) -> None:
    if plan.output_tokens is None:
        return
    completed = [r for r in results if r.outcome == "completed"]
    other = sum(r.output_tokens != plan.output_tokens for r in completed)
    if other:
        summary.warnings.append(
            f"{other} of {len(completed)} replies were not of {plan.output_tokens} tokens. A Yap "
            f"server needs CHAT_MAX_OUT={plan.output_tokens}; --ban-token with the id of the end "
            "token (or --ignore-eos with vLLM's server) keeps replies from ending early."
        )


async def fitting(plan: Plan, mix: Mix, dial: Dial) -> Mix:
    """The mix with personas that make a first turn's prompt as long as the plan says.

    Raises:
        CalibrationError: the server fails, or does not tell how long prompts are.
    """

    async def prompt_tokens(words: int) -> int:
        workload = Workload(dataclasses.replace(mix, persona_words=words), random.Random(0))
        pool = Pool(dial, 1)
        served = await Driver(pool, plan.timeout).closed_loop(workload.sessions(1), 1)
        await pool.close()
        if not served.results or (result := served.results[0]).prompt_tokens is None:
            why = f"{result.failure}: {result.detail}" if served.results else "nothing came"
            raise CalibrationError(f"The server does not say how long a prompt is ({why}).")
        return result.prompt_tokens

    words = await words_for(plan.prompt_tokens or 0, prompt_tokens)
    return dataclasses.replace(mix, persona_words=words)


async def words_for(target: int, prompt_tokens: Callable[[int], Awaitable[int]]) -> int:
    """How many words a persona needs for a prompt of `target` tokens, found by asking.

    Raises:
        CalibrationError: a prompt without persona is longer than that.
    """
    shortest = await prompt_tokens(0)
    if shortest > target:
        raise CalibrationError(
            f"A prompt has {shortest} tokens without any persona; --prompt-tokens must be more."
        )
    tried = {0: shortest}
    low, words = 0, target - shortest
    for _ in range(_CALIBRATIONS):
        if words in tried:
            break
        tried[words] = await prompt_tokens(words)
        # A line through the shortest one and the last: words have nearly the same length.
        per_word = max(0.1, (tried[words] - tried[low]) / max(1, words - low))
        words = max(0, words + round((target - tried[words]) / per_word))
    return min(tried, key=lambda tried_words: abs(tried[tried_words] - target))
