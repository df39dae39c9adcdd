"""A reply is taken back to before a banned phrase, exactly, and goes on; whatever the model does.

The engine here is a small language of random preferences behind a real tokenizer: it obeys the
parameters that it is given, and cuts its outputs at random.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tokenizers.decoders import DecodeStream
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from tests.unit.stand_ins import CHAT_TEMPLATE, make_tokenizer
from yap.chat.phrases import Phrases, compile_pattern, fold
from yap.chat.rewind import _TRIES, Rewinding, Setup
from yap.metrics import Metrics

TOKENIZER = make_tokenizer(CHAT_TEMPLATE)
END: int = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
PROMPT: list[int] = TOKENIZER.encode("<|im_start|>user\nhello there, friend<|im_end|>\n")
WORDS = "the| the| quick| dog|d|o|g| is|it| |  |é|😀|.|s".split("|")
LANGUAGE: list[int] = sorted({token for word in WORDS for token in TOKENIZER.encode(word)})


def tokens(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text)
    return ids


@dataclass
class Engine:
    """Prefers tokens by a random number for each context; knows how many requests are open.

    `script` is what it would say first; `together` the most tokens of one output.
    """

    seed: int = 0
    script: Sequence[int] = ()
    together: int = 1
    fails_at: int | None = None  # a request by its number
    requests: list[tuple[list[int], SamplingParams]] = field(default_factory=list)
    open: int = 0

    async def generate(self, ids: list[int], params: SamplingParams) -> AsyncGenerator[Any]:
        self.requests.append((ids, params))
        number = len(self.requests)
        self.open += 1
        try:
            made = ids[len(PROMPT) :]
            stream = DecodeStream(ids=list(ids), skip_special_tokens=True)
            text, fresh = "", list[int]()
            chance = random.Random(f"{self.seed} {number}")
            for count in range(1, (params.max_tokens or 1) + 1):
                token = self._next([*made, *fresh], params, first=count == 1)
                fresh.append(token)
                stops = token == END
                if params.detokenize and not stops:
                    text += stream.step(TOKENIZER._tokenizer, token) or ""
                ended = "stop" if stops else "length" if count == params.max_tokens else None
                if self.fails_at == number and count == 2:
                    ended = "abort"
                if ended or chance.random() * self.together < 1:
                    made, new, fresh, out = [*made, *fresh], fresh, [], text
                    text = ""
                    choice = SimpleNamespace(text=out, token_ids=new, finish_reason=ended)
                    yield SimpleNamespace(outputs=[choice], num_cached_tokens=len(ids) // 2)
                if ended:
                    return
        finally:
            self.open -= 1

    def _next(self, made: list[int], params: SamplingParams, *, first: bool) -> int:
        bias = params.logit_bias or {}
        if made == list(self.script[: len(made)]) and len(made) < len(self.script):
            wanted = self.script[len(made)]
            if bias.get(wanted, 0) > -100:
                return wanted
        taste = random.Random(f"{self.seed} {params.seed} {made}")
        liking = {token: taste.gauss(0, 1) + bias.get(token, 0) for token in [*LANGUAGE, END]}
        if first and params.min_tokens:
            liking[END] = -1000
        return max(liking, key=lambda token: liking[token])


@dataclass
class Told:
    """What came of a reply."""

    text: str
    token_ids: list[int]
    pieces: list[str]
    finish_reason: str | None
    rewinds: int
    left_out: int


async def reply(
    engine: Engine,
    phrases: Phrases,
    *,
    max_tokens: int = 40,
    most_rewinds: int = 16,
    takes_bias: bool = True,
    **params: Any,
) -> Told:
    """Everything that goes out of a reply."""
    metrics = Metrics(CollectorRegistry())
    setup = Setup(
        generate=engine.generate,
        prompt_ids=PROMPT,
        params=SamplingParams(max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA, **params),
        tokenizer=TOKENIZER,
        takes_bias=takes_bias,
        most_rewinds=most_rewinds,
        metrics=metrics,
    )
    pieces, token_ids, reason = [], list[int](), None
    async with aclosing(Rewinding(setup, phrases).outputs()) as outputs:
        async for output in outputs:
            assert reason is None
            (choice,) = output.outputs
            pieces.append(choice.text)
            token_ids += choice.token_ids
            reason = choice.finish_reason
            assert output.num_cached_tokens == len(PROMPT) // 2
    return Told(
        "".join(pieces),
        token_ids,
        pieces,
        reason,
        int(metrics.phrase_rewinds._value.get()),
        int(metrics.phrases_left_out._value.get()),
    )


# Any model, any phrases, any cuts


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    together=st.sampled_from([1, 3, 10]),
    strings=st.lists(
        st.sampled_from(
            ["the", " dog", "do", "og", "quick dog", "é", "😀", "is it", "d", "the the", ". ", "so"]
        ),
        min_size=1,
        max_size=4,
    ),
    patterns=st.sampled_from([(), (r"\bo+\b",), (r"g.{1,3}g", r"\bs")]),
    most_rewinds=st.sampled_from([0, 2, 16]),
    max_tokens=st.sampled_from([1, 2, 40]),
)
async def test_nothing_banned_goes_out_and_the_account_is_right(
    seed: int,
    together: int,
    strings: list[str],
    patterns: tuple[str, ...],
    most_rewinds: int,
    max_tokens: int,
) -> None:
    phrases = Phrases(strings, map(compile_pattern, patterns))
    engine = Engine(seed, together=together)
    told = await reply(engine, phrases, max_tokens=max_tokens, most_rewinds=most_rewinds)
    assert not any(string in fold(told.text) for string in phrases.strings)
    assert not any(pattern.search(told.text) for pattern in phrases.patterns)
    assert told.finish_reason == ("stop" if told.token_ids[-1] == END else "length")
    assert len(told.token_ids) <= max_tokens
    assert (told.finish_reason == "length") == (len(told.token_ids) == max_tokens) or (
        told.token_ids[-1] == END
    )
    assert told.rewinds <= most_rewinds
    if not told.left_out:
        said = TOKENIZER.decode(told.token_ids, skip_special_tokens=True)
        assert said.rstrip("\ufffd") == told.text
    assert engine.open == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), together=st.sampled_from([1, 5]))
async def test_where_nothing_is_found_the_reply_is_the_engines_own(
    seed: int, together: int
) -> None:
    plain = Engine(seed, together=together)
    made = [out async for out in plain.generate(PROMPT, SamplingParams(max_tokens=40))]
    told = await reply(Engine(seed, together=together), Phrases(["zebra", "dogma", "the sun"]))
    assert told.token_ids == [token for out in made for token in out.outputs[0].token_ids]
    assert told.text == "".join(out.outputs[0].text for out in made)
    assert (told.rewinds, told.left_out, len(plain.requests)) == (0, 0, 1)


# One rewind, looked at closely


async def test_it_goes_on_from_the_tokens_before_the_phrase() -> None:
    script = tokens("hello there my quick brown fox jumps")
    engine = Engine(3, script)
    told = await reply(engine, Phrases(["my quick brown"]))
    before = script[: len(tokens("hello there"))]
    (first, _), (again, one), (onward, rest), *_ = engine.requests
    assert first == PROMPT
    assert again == [*PROMPT, *before]
    assert one.max_tokens == 1
    banned = {token for token, bias in (one.logit_bias or {}).items() if bias == -100}
    assert {token for token in banned if TOKENIZER.decode([token]).strip() == "my"} == banned
    assert script[len(before)] in banned
    assert onward[:-1] == again
    assert onward[-1] not in banned
    assert rest.max_tokens == 40 - len(before) - 1
    assert not rest.logit_bias
    assert told.text.startswith("hello there")


async def test_a_token_that_holds_a_phrase_is_banned_for_good_without_a_detour() -> None:
    (dog,) = tokens(" dog")
    engine = Engine(1, [*tokens("the quick"), dog])
    told = await reply(engine, Phrases(["dog"]))
    _, (again, params), *_ = engine.requests
    assert again == [*PROMPT, *tokens("the quick")]
    assert params.max_tokens == 40 - len(tokens("the quick"))
    assert (params.logit_bias or {})[dog] == -100
    assert dog not in told.token_ids


async def test_behind_half_a_character_the_prompt_is_not_repeated() -> None:
    """An engine's detokenizer would: it takes what came before a request for finished text."""
    smile = tokens("😀")
    assert len(smile) == 4
    stream = DecodeStream(ids=[*PROMPT, smile[0]], skip_special_tokens=True)
    assert "friend" in ([stream.step(TOKENIZER._tokenizer, token) for token in smile[1:]][-1] or "")
    engine = Engine(3, [*tokens("hello"), *smile, *smile[:2], *tokens("dog"), END])
    told = await reply(engine, Phrases(["😀"]))
    assert told.rewinds > 0
    assert told.text.startswith("hello")
    assert "friend" not in told.text
    assert not any(params.detokenize for _, params in engine.requests)


async def test_a_phrase_that_begins_in_what_was_sent_is_not_completed_after_a_rewind() -> None:
    """What was cleared by the text behind it is open again when that text is taken back."""
    quick = tokens("the quick dog")
    engine = Engine(1, [*tokens("the"), *quick[1:], END])
    told = await reply(engine, Phrases(["quick dog", *(f"the {c}" for c in "dgis")]))
    assert "quick dog" not in told.text
    assert not any(f"the {c}" in fold(told.text) for c in "dgis")


async def test_the_token_in_which_a_phrase_begins_is_held_back_as_a_whole() -> None:
    (the,) = tokens(" the")
    engine = Engine(2, [*tokens("dog"), the, *tokens("re")])
    told = await reply(engine, Phrases(["here"]))
    sent = ""
    for piece in told.pieces:
        sent += piece
        assert not sent.endswith(" t")
    assert told.rewinds >= 1


async def test_other_spellings_in_tokens_are_banned_when_the_first_try_meets_them() -> None:
    script = tokens("hello my brown")
    engine = Engine(5, script)
    phrases = Phrases(["brown"])
    told = await reply(engine, phrases)
    assert "brown" not in told.text
    assert told.left_out == 0


async def test_what_cannot_be_avoided_is_left_out_and_the_reply_goes_on() -> None:
    everything = Phrases(patterns=[compile_pattern(r"\S")])
    engine = Engine(7)
    told = await reply(engine, everything, most_rewinds=100)
    assert not told.text.strip()
    assert told.left_out > 0
    assert max(engine_tries(engine).values()) <= _TRIES
    assert len(told.token_ids) > 1
    assert told.finish_reason in {"stop", "length"}


def engine_tries(engine: Engine) -> dict[int, int]:
    """How often each place was tried again, by its place."""
    places = [len(ids) for ids, params in engine.requests[1:] if params.max_tokens == 1]
    return {place: places.count(place) for place in places}


async def test_without_rewinds_phrases_are_left_out_at_once() -> None:
    script = tokens("hello my quick dog")
    engine = Engine(4, [*script, END])
    told = await reply(engine, Phrases(["my quick "]), most_rewinds=0)
    assert (told.text, told.rewinds, told.left_out) == ("hello dog", 0, 1)
    assert told.token_ids == [*script, END]
    assert len(engine.requests) == 1


async def test_what_stands_together_after_a_phrase_was_left_out_is_looked_at_again() -> None:
    engine = Engine(4, [*tokens("hello quick quick dog dog my"), END])
    told = await reply(engine, Phrases(["quick dog"]), most_rewinds=0)
    assert "quick dog" not in fold(told.text)
    assert told.left_out == 2


async def test_an_empty_reply_is_not_what_comes_of_a_ban() -> None:
    for seed in range(20):
        engine = Engine(seed, tokens("it is"))
        told = await reply(engine, Phrases(["it is"]))
        assert told.token_ids[0] != END


# Parameters


async def test_the_operators_bias_holds_on_and_a_seed_is_another_one() -> None:
    engine = Engine(3, tokens("hello my quick"))
    await reply(engine, Phrases(["my quick"]), logit_bias={5: 2.5}, seed=11)
    (_, first), (_, one), (_, rest), *_ = engine.requests
    assert (first.seed, one.seed, rest.seed) == (11, 12, 12)
    assert (one.logit_bias or {})[5] == 2.5
    assert rest.logit_bias == {5: 2.5}


async def test_penalties_reach_what_was_said_before_the_rewind() -> None:
    engine = Engine(3, tokens("dog dog my quick"))
    await reply(engine, Phrases(["my quick"]), presence_penalty=0.5, frequency_penalty=0.25)
    (_, rest) = engine.requests[2]
    (dog,) = tokens(" dog")
    assert (rest.logit_bias or {})[dog] == -0.75
    assert (rest.presence_penalty, rest.frequency_penalty) == (0.5, 0.25)


async def test_without_biases_words_are_banned_instead() -> None:
    engine = Engine(3, tokens("hello my quick"))
    told = await reply(engine, Phrases(["my quick"]), takes_bias=False, most_rewinds=2)
    (_, one) = engine.requests[1]
    assert one.logit_bias is None
    assert {word.strip() for word in one.bad_words or ()} <= {"my", "My", "MY"}
    assert "my quick" not in told.text  # this engine knows no bad words: it is left out
    assert told.left_out == 1


# Stopping


async def test_closed_in_the_middle_it_leaves_no_request_open() -> None:
    for stop_after in range(12):
        engine = Engine(6, tokens("the quick dog is the quick dog"))
        metrics = Metrics(CollectorRegistry())
        setup = Setup(
            engine.generate, PROMPT, SamplingParams(max_tokens=40), TOKENIZER, True, 16, metrics
        )
        outputs = Rewinding(setup, Phrases(["quick dog", "the the"])).outputs()
        for _ in range(stop_after):
            await anext(outputs, None)
        await outputs.aclose()
        assert engine.open == 0


@pytest.mark.parametrize("number", [1, 3])
async def test_a_request_that_the_engine_gives_up_ends_the_reply(number: int) -> None:
    engine = Engine(3, tokens("hello there my quick brown"), fails_at=number)
    told = await reply(engine, Phrases(["my quick"]))
    assert told.finish_reason == "abort"
    assert len(engine.requests) == number
    assert engine.open == 0
