"""The engine's first requests are its own, so that no kernel is made while a user waits for it.

On an accelerator kernels are compiled, or loaded, when they are first used: by the number of
sequences in a step, by the tokens of a prompt, by the sampling options. Before the service is ready
it therefore meets all of them once, and then what serving brings at worst, everybody speaking at
once, until that is no faster the next time. On a CPU hardly anything is made on first use, and only
the sizes of a batch are gone through.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from yap.protocol import SamplingOptions
from yap.settings import Settings

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)
MakeParams = Callable[[SamplingOptions, int], "SamplingParams"]

# In tokens. A reply long enough for some steps in which the whole batch decodes, and a short one.
_REPLY: Final = 8
_SHORT_REPLY: Final = 2
# What a turn reads anew, and what it finds in the prefix cache: persona and history.
_UTTERANCE: Final = 24
_LONG_UTTERANCE: Final = 300
_PREFIX: Final = 1536
_SHORTEST_PROMPT: Final = 16
_LONGEST_ON_CPU: Final = 512
# It has settled when the time before was no more than so many times this one.
_SETTLED: Final = 1.25
_MOST_BURSTS: Final = 8


@dataclass(frozen=True, slots=True)
class Draw:
    """How a reply is drawn: as for a turn that asks for nothing, but for these options."""

    options: SamplingOptions = field(default_factory=SamplingOptions)
    more: Mapping[str, Any] = field(default_factory=dict)  # by the names of vLLM's SamplingParams


# Each is a path of its own through the sampler.
DRAWS: Final[Mapping[str, Draw]] = {
    "defaults": Draw(),
    "greedy": Draw(SamplingOptions(temperature=0)),
    "random": Draw(SamplingOptions(temperature=1, top_k=0, top_p=1)),
    "temperature": Draw(SamplingOptions(temperature=0.7, top_k=0, top_p=1)),
    "top_k": Draw(SamplingOptions(temperature=0.7, top_k=20, top_p=1)),
    "top_p": Draw(SamplingOptions(temperature=0.7, top_k=0, top_p=0.9)),
    "top_k, top_p": Draw(SamplingOptions(temperature=0.7, top_k=20, top_p=0.9)),
    "min_p": Draw(SamplingOptions(temperature=0.7, min_p=0.05)),
    "penalties": Draw(
        SamplingOptions(repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.1)
    ),
    "DRY": Draw(SamplingOptions(dry_multiplier=0.8)),
    "XTC": Draw(SamplingOptions(xtc_probability=0.5)),
    "logit_bias": Draw(more={"logit_bias": {1: -100.0}}),
    "seed": Draw(more={"seed": 1}),
}
_ALL: Final = tuple(DRAWS.values())
# vLLM's CPU runner dies of a seeded request whose prompt is computed in more than one step.
_ALL_ON_CPU: Final = tuple(draw for name, draw in DRAWS.items() if name != "seed")
_DEFAULTS: Final = (DRAWS["defaults"],)


@dataclass(frozen=True, slots=True)
class Limits:
    """What serving can bring, and what the engine holds.

    `requests` at once; tokens of one request (`context`) and of all together (`cache`), and the
    size of the vocabulary.
    """

    requests: int
    context: int
    cache: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt of the warm-up, and what is made of it."""

    token_ids: list[int]
    draw: Draw
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Round:
    """Requests that are made at once."""

    name: str
    requests: Sequence[Request]


class Plan:
    """The rounds of a warm-up, none of them more than the limits allow."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._dice = random.Random(0)  # noqa: S311 - any text does
        self._prefix = self._text(min(_PREFIX, limits.context // 2, limits.cache // 2))
        self._sizes = powers_of_two(1, limits.requests)

    def on_cpu(self) -> Iterator[Round]:
        """Every size of a batch, and of a prompt as far as that costs little."""
        yield from self._prompts(min(_LONGEST_ON_CPU, self._longest_prompt))
        for count in self._sizes:
            yield self._turns(f"{count} at once", count, _ALL_ON_CPU, reply=_SHORT_REPLY, prefix=())

    def on_accelerator(self) -> Iterator[Round]:
        """Every size of a prompt, every size of a batch, every option; `burst` comes after it."""
        yield from self._prompts(self._longest_prompt)
        yield Round("prefix", [Request(self._prefix, _DEFAULTS[0], _SHORT_REPLY)])
        for count in self._sizes:
            yield self._turns(f"{count} at once", count, _DEFAULTS)
        for name, draw in DRAWS.items():
            for count in sorted({self._sizes[0], self._sizes[-1]}):
                yield self._turns(f"{name}, {count} at once", count, [draw], reply=_SHORT_REPLY)
        yield self._turns("all options", self._limits.requests, _ALL, _LONG_UTTERANCE)

    def burst(self) -> Round:
        """Everybody at once."""
        return self._turns("burst", self._limits.requests, _DEFAULTS, _LONG_UTTERANCE)

    @property
    def _longest_prompt(self) -> int:
        return min(self._limits.context, self._limits.cache) - _REPLY

    def _prompts(self, longest: int) -> Iterator[Round]:
        """A prompt alone, of each size."""
        for tokens in powers_of_two(min(_SHORTEST_PROMPT, longest), longest):
            text = self._text(tokens)
            yield Round(f"{tokens} new tokens", [Request(text, _DEFAULTS[0], _SHORT_REPLY)])

    def _turns(
        self,
        name: str,
        count: int,
        draws: Sequence[Draw],
        utterance: int = _UTTERANCE,
        reply: int = _REPLY,
        prefix: Sequence[int] | None = None,
    ) -> Round:
        """So many turns behind one prefix, as far as the cache holds them together."""
        begins = self._prefix if prefix is None else prefix
        new = min(utterance, self._limits.context // 4)
        fit = max(1, min(count, (self._limits.cache - len(begins)) // (new + reply)))
        requests = [
            Request([*begins, *self._text(new)], draws[number % len(draws)], reply)
            for number in range(fit)
        ]
        return Round(name, requests)

    def _text(self, tokens: int) -> list[int]:
        # The middle of a vocabulary: control tokens stand at its ends.
        first = self._limits.vocabulary // 4
        return self._dice.choices(range(first, 2 * first), k=tokens)


def powers_of_two(first: int, last: int) -> list[int]:
    """`first`, twice that, and so on; `last` is always the last one."""
    sizes = []
    size = first
    while size < last:
        sizes.append(size)
        size *= 2
    return [*sizes, last]


def limits_of(llm: AsyncLLM, settings: Settings) -> Limits:
    """What this engine was built for, and as many requests as clients are let in."""
    config = llm.vllm_config
    cache = config.cache_config
    return Limits(
        requests=min(config.scheduler_config.max_num_seqs, settings.max_concurrent_connections),
        context=config.model_config.max_model_len,
        cache=cache.num_gpu_blocks * cache.block_size,
        vocabulary=config.model_config.get_vocab_size(),
    )


async def warm_up(llm: AsyncLLM, settings: Settings, params: MakeParams) -> None:
    """Make the requests, within CHAT_WARM_UP_TIMEOUT_S; what the engine refuses is left out.

    Args:
        params: what a turn with such options and so many tokens gives to the engine.

    Raises:
        ExceptionGroup: the engine died.
    """
    if not settings.chat_warm_up:
        return
    from vllm.platforms import current_platform

    plan, requester = Plan(limits_of(llm, settings)), _Requester(llm, params)
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(settings.chat_warm_up_timeout_s):
            if current_platform.is_cpu():
                await requester.make_all(plan.on_cpu())
            else:
                await requester.make_all(plan.on_accelerator())
                await requester.repeat_until_settled(plan.burst)
    except TimeoutError:
        log.warning(
            "The warm-up was ended after CHAT_WARM_UP_TIMEOUT_S=%g seconds; the first turns may "
            "be slow",
            settings.chat_warm_up_timeout_s,
        )
    else:
        log.info("The chat engine was warmed up in %.1f s", time.perf_counter() - begun)


class _Requester:
    """Makes the requests of a plan."""

    def __init__(self, llm: AsyncLLM, params: MakeParams) -> None:
        self._llm = llm
        self._params = params

    async def make_all(self, rounds: Iterator[Round]) -> None:
        for one in rounds:
            await self._make(one)

    async def repeat_until_settled(self, burst: Callable[[], Round]) -> None:
        before = await self._make(burst())
        for _ in range(_MOST_BURSTS - 1):
            seconds = await self._make(burst())
            if before <= _SETTLED * seconds:
                return
            before = seconds

    async def _make(self, one: Round) -> float:
        """Make all requests of a round; the seconds until the last was answered."""
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._answer(request, f"warm-up-{number}"))
                for number, request in enumerate(one.requests)
            ]
        seconds = time.perf_counter() - begun
        level = logging.INFO if seconds >= 1 else logging.DEBUG
        log.log(level, "Warm-up: %s, %.3f s", one.name, seconds)
        if refused := [error for task in tasks if (error := task.result())]:
            log.warning("Warm-up: %s, refused by the engine: %s", one.name, refused[0])
        return seconds

    async def _answer(self, request: Request, request_id: str) -> Exception | None:
        """Make a request; the error, where the engine does not serve the like."""
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            params = self._params(request.draw.options, request.max_tokens)
            params.ignore_eos = True
            for name, value in request.draw.more.items():
                setattr(params, name, value)
            prompt = tokens_input(request.token_ids)
            async for _ in self._llm.generate(prompt, params, request_id):
                pass
        except EngineDeadError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, turns may do without
            return error
        return None
