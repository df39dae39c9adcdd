"""A reply without banned phrases: the engine's outputs, taken back where one has begun.

When a phrase is there, its request is closed, and another goes on from the tokens before it. The
token that the phrase began with is banned for that place alone: it is drawn by a request for one
token, and the next goes on behind it without the ban. The prefix cache has nearly all of that, so
that it takes a few token times. A token that holds a whole phrase is banned for the rest of the
reply, without that detour.

So a phrase is not said because something else is said in its place, and the model goes on from
there. When a place was tried `_TRIES` times, or the reply was taken back `most_rewinds` times, the
phrase is left out of the text and the model goes on behind it. Either way no client gets it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yap.chat.bias import BAN
from yap.chat.phrases import Phrases, Search
from yap.chat.reply import Reply
from yap.metrics import Metrics

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

Generate = Callable[[list[int], "SamplingParams"], AsyncGenerator["RequestOutput"]]

_TRIES: Final = 5  # at one place of a reply
_LONGEST_WORD: Final = 32  # characters of a token whose beginnings are banned too
_MAX_BAD_WORDS: Final = 60  # vLLM takes 128, and makes two of one


@dataclass(frozen=True, slots=True)
class Setup:
    """What a reply without banned phrases is made with.

    `generate` asks the engine for a reply to token ids, in deltas. `params` hold for the whole
    reply; `takes_bias` says whether they may bias tokens.
    """

    generate: Generate
    prompt_ids: list[int]
    params: SamplingParams
    tokenizer: Any
    takes_bias: bool
    most_rewinds: int
    metrics: Metrics


class Rewinding:
    """One reply without banned phrases."""

    def __init__(self, setup: Setup, banned: Phrases) -> None:
        self._setup = setup
        self._whole = setup.params.clone()  # what holds for the whole reply
        self._whole.detokenize = False  # `Reply` does it
        self._phrases = banned
        self._reply = Reply(setup.prompt_ids, Search(banned), setup.tokenizer)
        self._most_tokens = setup.params.max_tokens or 1
        self._rewinds = 0
        self._tries: Counter[int] = Counter()  # by place: the number of tokens before it
        self._banned: dict[int, set[int]] = {}  # likewise
        self._banned_for_good: set[int] = set()
        self._cached_tokens: int | None = None
        self._counted = 0  # tokens in the outputs so far

    async def outputs(self) -> AsyncGenerator[RequestOutput]:
        """The engine's outputs, as if it had made the reply in one request."""
        params = self._whole
        while True:
            ended: str | None = "error"  # as a request that says nothing has
            again: SamplingParams | None = None
            prompt = [*self._setup.prompt_ids, *self._reply.token_ids]
            async with contextlib.aclosing(self._setup.generate(prompt, params)) as outputs:
                async for output in outputs:
                    ended = self._take_in(output)
                    again = self._settle(ended)
                    if again is not None:
                        break
                    yield self._let_out(output, ended)
            if again is not None:
                yield self._let_out(output, None)
            elif ended is not None:
                return
            params = again or self._onward()

    def _take_in(self, output: RequestOutput) -> str | None:
        """Add an output to the reply; why the reply has ended, if it has."""
        (choice,) = output.outputs
        reason: str | None = choice.finish_reason
        self._reply.add(choice.token_ids, stopped=reason == "stop")
        if self._cached_tokens is None:
            self._cached_tokens = output.num_cached_tokens or 0
        room = self._most_tokens - len(self._reply.token_ids)
        return None if reason == "length" and room > 0 else reason

    def _let_out(self, output: RequestOutput, ended: str | None) -> RequestOutput:
        """The output with what may be sent in place of what was made."""
        text, count = self._reply.take(final=ended is not None)
        (choice,) = output.outputs
        choice.text = text
        choice.token_ids = self._reply.token_ids[self._counted : count]
        choice.finish_reason = ended
        output.num_cached_tokens = self._cached_tokens
        self._counted = count
        return output

    def _settle(self, ended: str | None) -> SamplingParams | None:
        """See that the reply has no phrase; how to go on where it was taken back for that."""
        if ended not in (None, "stop", "length"):
            return None  # it has failed, and so will the turn
        metrics = self._setup.metrics
        while (found := self._reply.find(final=ended is not None)) is not None:
            place = self._reply.tokens_before(found.start)
            if self._rewinds < self._setup.most_rewinds and self._tries[place] < _TRIES:
                metrics.phrase_rewinds.inc()
                return self._rewind(place)
            self._reply.leave_out(found)
            metrics.phrases_left_out.inc()
        return None

    def _rewind(self, place: int) -> SamplingParams:
        """Forget the tokens from `place` on; how to make another one there."""
        self._rewinds += 1
        self._tries[place] += 1
        for later in [known for known in self._banned if known > place]:
            del self._banned[later], self._tries[later]
        banned = self._banned.setdefault(place, set())
        banned |= self._variants(place)
        tokenizer = self._setup.tokenizer
        whole = {token for token in banned if self._phrases.are_in(tokenizer.decode([token]))}
        self._banned_for_good |= whole
        self._reply.rewind(place)
        if banned == whole:
            return self._onward()
        one = self._params(1, banned)
        if place == 0 and self._setup.takes_bias:
            one.min_tokens = 1  # a reply with nothing in it is none
        return one

    def _onward(self) -> SamplingParams:
        return self._params(self._most_tokens - len(self._reply.token_ids), set())

    def _variants(self, place: int) -> set[int]:
        """The token at `place` and those that say the same; from the second try on, those that
        begin the same too, since a word has other spellings in tokens."""
        word = self._reply.word(place)[:_LONGEST_WORD]
        bare = word.strip()
        forms = {form for base in (word, bare) for form in _cases(base)}
        if self._tries[place] > 1:
            forms |= {bare[:length] for length in range(1, len(bare))}
        found = {self._reply.token_ids[place]}
        for form in forms | {f" {form.lstrip()}" for form in forms}:
            encoding = self._setup.tokenizer.encode(form, add_special_tokens=False)
            if len(encoding) == 1:
                found.add(encoding[0])
        return found

    def _params(self, max_tokens: int, banned: set[int]) -> SamplingParams:
        """Parameters of a request that goes on behind what the reply has."""
        setup, made = self._setup, self._reply.token_ids
        params = self._whole.clone()
        params.max_tokens = max_tokens
        if params.seed is not None:  # else it would draw the same again
            params.seed = (params.seed + self._rewinds) % 2**63
        banned = banned | self._banned_for_good
        if not setup.takes_bias:
            words = sorted({setup.tokenizer.decode([token]) for token in banned})
            params.bad_words = [word for word in words if word.strip()][:_MAX_BAD_WORDS]
            return params
        bias = dict(params.logit_bias or {})
        # The engine sees what was made before as prompt, where these two penalties do not reach.
        for token, count in Counter(made).items():
            penalty = params.presence_penalty + params.frequency_penalty * count
            if penalty:
                bias[token] = bias.get(token, 0.0) - penalty
        params.logit_bias = bias | dict.fromkeys(banned, BAN) or None
        return params


def _cases(word: str) -> Iterator[str]:
    yield from (word, word.lower(), word.upper(), word.capitalize())
