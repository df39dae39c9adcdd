"""DRY and XTC in the real engine: they do what they are for, and to nobody who did not ask."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from tests.e2e.harness import ServerProcess
from tests.e2e.talk import kinds, talk
from yap.chat.engine import ChatEngine
from yap.chat.samplers.options import XtcOptions
from yap.history import Message
from yap.protocol import SamplingOptions
from yap.settings import Settings

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(420)]

PERSONA = "You are Anna, a warm and friendly companion who talks with people by voice."
REPLY_TOKENS = 200
OPENINGS = (
    "Tell me about your garden.",
    "What did you do today?",
    "I feel a little tired this evening.",
    "Do you like the sea?",
    "Tell me a story about a bear.",
    "What shall I cook tonight?",
    "It rains and rains here.",
    "Good morning!",
)
WITH_DRY = SamplingOptions(temperature=0, dry_multiplier=2, dry_allowed_length=2)
GREEDY = SamplingOptions(temperature=0)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reply's tokens; of each, the tokens that were likely, with their probabilities' logs."""

    token_ids: list[int]
    likely: list[dict[int, float]]


class Replies:
    """An engine of this process, and what it replies. Replies do not end by themselves."""

    def __init__(self, runner: asyncio.Runner, engine: ChatEngine) -> None:
        self._runner = runner
        self._engine = engine
        self._numbers = count()
        tokens = engine._sampler_tokens
        assert tokens is not None
        self.protected = tokens.protected
        self.ends = tokens.breakers(())

    def to(self, asked: Sequence[tuple[str, SamplingOptions]], **params: Any) -> list[Drawn]:
        """Replies that are made at once, in one batch."""

        async def together() -> list[Drawn]:
            return await asyncio.gather(*(self._one(*one, params) for one in asked))

        return self._runner.run(together())

    async def _one(self, user: str, options: SamplingOptions, more: dict[str, Any]) -> Drawn:
        from vllm.inputs import tokens_input

        engine = self._engine
        prompt = await engine.prepare(PERSONA, [Message("assistant", "Hello there.")], user)
        params = engine._sampling_params(options, REPLY_TOKENS)
        # A small model that may not end says the same again and again.
        params.ignore_eos = True
        params.logit_bias = dict.fromkeys(self.ends, -100.0)
        for name, value in more.items():
            setattr(params, name, value)
        token_ids: list[int] = []
        likely: list[dict[int, float]] = []
        request = tokens_input(prompt.token_ids)
        name = f"reply-{next(self._numbers)}"
        async for output in engine._require_llm().generate(request, params, name):
            (choice,) = output.outputs
            token_ids += choice.token_ids
            likely += [
                {token: entry.logprob for token, entry in step.items()}
                for step in choice.logprobs or ()
            ]
        return Drawn(token_ids, likely)


async def test_a_turn_may_ask_for_both_of_them(chat_server: ServerProcess) -> None:
    asked = {
        "dry_multiplier": 0.8,
        "dry_base": "1.75",
        "dry_allowed_length": 2,
        "dry_penalty_last_n": 1000,
        "dry_sequence_breakers": ["\n", "."],
        "xtc_probability": 0.5,
        "xtc_threshold": 0.1,
    }
    async with talk(chat_server) as client:
        frames = await client.turn("Hi there! How are you?", sampling=asked)
    assert kinds(frames) == ["ack", "token", "final", "done"]
    assert frames[-1]["finish_reason"] in ("stop", "length")
    assert frames[-2]["normalized_text"].strip()


@pytest.fixture(scope="module")
def replies() -> Iterator[Replies]:
    settings = Settings(
        history_max_tokens=400,
        chat_max_len=2048,
        chat_prompt_max_tokens=400,
        chat_warm_up=False,
        chat_samplers=True,  # on a GPU they are off by default
        chat_gpu_frac=0.3,  # there, beside the server of this module
    )
    engine = ChatEngine(settings)
    with asyncio.Runner() as runner:
        runner.run(engine.start())
        try:
            assert engine.has_samplers
            yield Replies(runner, engine)
        finally:
            runner.run(engine.close())


def repeated(token_ids: Sequence[int], length: int = 4) -> float:
    """The share of n-grams that were there before."""
    grams = [tuple(token_ids[i : i + length]) for i in range(len(token_ids) - length + 1)]
    return 1 - len(set(grams)) / len(grams)


def test_with_dry_a_greedy_reply_repeats_itself_less(replies: Replies) -> None:
    plain = replies.to([(opening, GREEDY) for opening in OPENINGS])
    assert not {*replies.ends} & {token for reply in plain for token in reply.token_ids}
    with_dry = replies.to([(opening, WITH_DRY) for opening in OPENINGS])
    before = sum(repeated(reply.token_ids) for reply in plain) / len(OPENINGS)
    after = sum(repeated(reply.token_ids) for reply in with_dry) / len(OPENINGS)
    assert before > 0.3, "the model does not repeat itself; the test shows nothing"
    assert after < before / 3


def test_who_does_not_ask_gets_the_very_same_reply_beside_those_who_do(replies: Replies) -> None:
    alone = [replies.to([(opening, GREEDY)])[0].token_ids for opening in OPENINGS]
    xtc = SamplingOptions(temperature=1, xtc_probability=1, xtc_threshold=0.05)
    others = [WITH_DRY, GREEDY, xtc, GREEDY]
    mixed = replies.to([(o, others[i % 4]) for i, o in enumerate(OPENINGS)])
    for reply, by_itself in list(zip(mixed, alone, strict=True))[1::2]:
        assert reply.token_ids == by_itself
    asked = replies.to([(opening, WITH_DRY) for opening in OPENINGS])
    assert mixed[0].token_ids == asked[0].token_ids != alone[0]


def test_xtc_never_takes_the_top_choice_where_two_are_likely(replies: Replies) -> None:
    asked = XtcOptions(1.0, 0.1)
    options = SamplingOptions(
        temperature=1,
        top_k=0,
        top_p=1,
        xtc_probability=asked.probability,
        xtc_threshold=asked.threshold,
    )
    # The probabilities that are told are those without a bias.
    asking = [(opening, options) for opening in OPENINGS]
    drawn = replies.to(asking, logprobs=10, logit_bias=None)
    decided = left = 0
    for reply in drawn:
        for token, likely in zip(reply.token_ids, reply.likely, strict=True):
            reach = {t: p for t, p in likely.items() if p >= math.log(asked.threshold)}
            least = min(reach.values(), default=0)
            above = {t for t, p in reach.items() if p > least}
            if above and not set(reach) & set(replies.protected):
                decided += 1
                assert token not in above
            else:
                left += token in reach
    assert decided > 50
    assert left > 50


def test_with_a_seed_xtc_draws_the_same_again(replies: Replies) -> None:
    options = SamplingOptions(temperature=1, xtc_probability=0.5, xtc_threshold=0.1)
    first, second = (replies.to([(OPENINGS[0], options)], seed=3)[0] for _ in range(2))
    assert first.token_ids == second.token_ids


def test_a_request_that_asks_for_nonsense_is_refused_and_the_others_go_on(replies: Replies) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="dry_base"):
        replies.to([(OPENINGS[0], GREEDY)], extra_args={"dry_multiplier": 1.0, "dry_base": 99})
    assert replies.to([(OPENINGS[0], GREEDY)])[0].token_ids
