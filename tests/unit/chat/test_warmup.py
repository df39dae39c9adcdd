"""What the warm-up asks of an engine, and that it ends; that it helps is measured end to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat import warmup
from yap.chat.sampling import sampling_params
from yap.chat.warmup import DRAWS, Limits, Plan, Round, limits_of, powers_of_two, warm_up
from yap.protocol import SamplingOptions
from yap.settings import Settings

pytestmark = pytest.mark.usefixtures("no_task_left")

NEMO = Limits(requests=32, context=5406, cache=400_000, vocabulary=131_072)
SMALL = (
    Limits(requests=1, context=128, cache=128, vocabulary=64),
    Limits(requests=1000, context=512, cache=600, vocabulary=1000),
    Limits(requests=7, context=131_072, cache=4096, vocabulary=32_000),
)


def every_round(limits: Limits) -> list[Round]:
    plan = Plan(limits)
    return [*plan.on_cpu(), *plan.on_accelerator(), plan.burst(), plan.burst()]


@pytest.mark.parametrize("limits", [NEMO, *SMALL])
def test_no_request_and_no_round_is_more_than_the_engine_holds(limits: Limits) -> None:
    for one in every_round(limits):
        sizes = [len(request.token_ids) + request.max_tokens for request in one.requests]
        assert 1 <= len(sizes) <= limits.requests, one.name
        assert min(sizes) >= 2
        assert max(sizes) <= limits.context, one.name
        shared = min(len(request.token_ids) for request in one.requests)
        for request in one.requests[1:]:
            begins = zip(one.requests[0].token_ids, request.token_ids, strict=False)
            same = next((i for i, (a, b) in enumerate(begins) if a != b), shared)
            shared = min(shared, same)
        held = sum(size - shared for size in sizes) + shared
        assert len(sizes) == 1 or held <= limits.cache, one.name
        assert all(0 < token < limits.vocabulary for r in one.requests for token in r.token_ids)


def test_on_an_accelerator_every_size_and_every_option_is_met() -> None:
    rounds = list(Plan(NEMO).on_accelerator())
    at_once = {len(one.requests) for one in rounds}
    assert at_once == {1, 2, 4, 8, 16, 32}
    alone = {len(one.requests[0].token_ids) for one in rounds if len(one.requests) == 1}
    assert {16, 32, 64, 128, 256, 512, 1024, 2048, 4096} < alone
    for draw in DRAWS.values():
        of_it = [len(r.requests) for r in rounds if {q.draw == draw for q in r.requests} == {True}]
        assert {1, 32} <= set(of_it)
    assert {id(request.draw) for request in rounds[-1].requests} == set(map(id, DRAWS.values()))


def test_a_burst_is_everybody_behind_one_prefix_with_an_utterance_of_their_own() -> None:
    plan = Plan(NEMO)
    first, second = plan.burst(), plan.burst()
    texts = [tuple(request.token_ids) for one in (first, second) for request in one.requests]
    assert len(first.requests) == 32
    assert len({text[:1536] for text in texts}) == 1
    assert len({text[1536:] for text in texts}) == 64  # nothing of the first is in the cache
    assert {len(text) for text in texts} == {1536 + 300}


def test_on_a_cpu_there_is_no_long_prompt() -> None:
    rounds = list(Plan(NEMO).on_cpu())
    assert {len(one.requests) for one in rounds} == {1, 2, 4, 8, 16, 32}
    assert sum(len(request.token_ids) for one in rounds for request in one.requests) < 3000
    assert not any("seed" in request.draw.more for one in rounds for request in one.requests)


def test_every_switch_that_clients_have_is_among_the_draws() -> None:
    details = ("dry_base", "dry_allowed_length", "dry_range", "dry_sequence_breakers")
    about_words = ("logit_bias", "banned_strings")  # both are biases by the time of sampling
    assert any("logit_bias" in draw.more for draw in DRAWS.values())
    elsewhere = {*details, *about_words, "xtc_threshold", "sanitize_output"}
    for name in set(SamplingOptions.model_fields) - elsewhere:
        assert any(getattr(draw.options, name) is not None for draw in DRAWS.values()), name
    assert any(draw.options == SamplingOptions() and not draw.more for draw in DRAWS.values())


@pytest.mark.parametrize(
    ("first", "last", "sizes"),
    [(1, 1, [1]), (1, 2, [1, 2]), (1, 24, [1, 2, 4, 8, 16, 24]), (16, 64, [16, 32, 64])],
)
def test_sizes_double_and_end_with_the_last(first: int, last: int, sizes: list[int]) -> None:
    assert powers_of_two(first, last) == sizes


# With a scripted engine


class Engine:
    """Answers request by request after so many seconds; dies or refuses where it is told to."""

    def __init__(self, *seconds: float, error: Exception | None = None) -> None:
        self.vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(max_num_seqs=2),
            model_config=SimpleNamespace(max_model_len=128, get_vocab_size=lambda: 1000),
            cache_config=SimpleNamespace(num_gpu_blocks=64, block_size=32),
        )
        self.asked: list[tuple[list[int], Any]] = []
        self.running = 0
        self._seconds = list(seconds)
        self._error = error

    async def generate(self, prompt: Any, params: Any, _request_id: str) -> AsyncGenerator[None]:
        self.asked.append((prompt["prompt_token_ids"], params))
        self.running += 1
        try:
            if self._error is not None:
                raise self._error
            await asyncio.sleep(self._seconds.pop(0) if self._seconds else 0)
            yield None
        finally:
            self.running -= 1


async def warmed_up(engine: Any, settings: Settings) -> None:
    await warm_up(engine, settings, lambda options, most: sampling_params(options, settings, most))


async def repeat_until_settled(engine: Any, settings: Settings) -> int:
    """How many bursts it took."""
    plan = Plan(Limits(requests=1, context=128, cache=2048, vocabulary=1000))
    requester = warmup._Requester(engine, lambda o, most: sampling_params(o, settings, most))
    await requester.repeat_until_settled(plan.burst)
    return len(engine.asked)


def test_the_limits_are_the_engines_and_the_doors(make_settings: MakeSettings) -> None:
    engine: Any = Engine()
    assert limits_of(engine, make_settings()) == Limits(2, 128, 2048, 1000)
    assert limits_of(engine, make_settings(max_concurrent_connections=1)).requests == 1


async def test_requests_are_drawn_as_turns_are_and_to_their_length(settings: Settings) -> None:
    engine = Engine()
    await warmed_up(engine, settings)
    assert engine.running == 0
    params = [params for _, params in engine.asked]
    assert all(one.ignore_eos and one.max_tokens <= 8 for one in params)
    assert settings.chat_top_k in {one.top_k for one in params}


async def test_without_a_warm_up_nothing_is_asked(make_settings: MakeSettings) -> None:
    engine = Engine()
    await warmed_up(engine, make_settings(chat_warm_up=False))
    assert engine.asked == []


async def test_a_warm_up_that_takes_too_long_is_ended_and_leaves_nothing_running(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(60)
    await warmed_up(engine, settings.model_copy(update={"chat_warm_up_timeout_s": 0.02}))
    assert engine.running == 0
    assert "CHAT_WARM_UP_TIMEOUT_S=0.02" in caplog.text


async def test_what_the_engine_refuses_is_left_out(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(error=ValueError("no such option"))
    await warmed_up(engine, settings)
    assert len(engine.asked) > 2
    assert "refused by the engine: no such option" in caplog.text


async def test_an_engine_that_dies_ends_it(settings: Settings) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    with pytest.raises(ExceptionGroup):
        await warmed_up(Engine(error=EngineDeadError()), settings)


@pytest.mark.parametrize(("seconds", "bursts"), [((0.3, 0.1, 0.1), 3), ((0.1, 0.1), 2)])
async def test_bursts_go_on_until_they_are_no_faster(
    settings: Settings, seconds: tuple[float, ...], bursts: int
) -> None:
    assert await repeat_until_settled(Engine(*seconds), settings) == bursts


async def test_bursts_that_never_settle_end(settings: Settings) -> None:
    faster = [0.6 / 1.5**number for number in range(20)]
    assert await repeat_until_settled(Engine(*faster), settings) == warmup._MOST_BURSTS
