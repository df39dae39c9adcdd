"""Messages to token ids, by the model's own chat template and within its context.

Everything here is plain, blocking code without I/O. The engine runs it off the event loop, but for
what `PromptBuilder.is_quick` finds done in less time than a thread takes to be woken.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from yap.chat.segments import SegmentEncoder, control_tokens_of
from yap.chat.shortcuts import encoder_of, renderer_of
from yap.errors import RequestError
from yap.history import Message, overflow
from yap.protocol import ErrorCode

# For models that bring no chat template. ChatML is what most fine-tunes understand.
CHATML_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_NEUTRALISE_PASSES: Final = 8
# Some templates refuse a conversation that the assistant opens; then this comes before it.
_OPENING: Final = "(The conversation begins.)"
# Added tokens that are not marked special and still are control tokens, by their looks.
_TAG: Final = re.compile(r"<.+>|\[.+\]|\|.+\|", re.DOTALL)
# Clients send the persona with every turn; its length need not be counted every time.
_PERSONAS_KNOWN: Final = 256
# So much is done at once: characters that no turn before had, and characters in all. Both together
# take about 0.8 ms at most; waking a thread takes 0.1 ms, and of a busy interpreter 5.
_QUICK_NEW_CHARS: Final = 1_000
_QUICK_CHARS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Budgets:
    """Token limits of the parts of a prompt, and of the whole."""

    context: int
    prompt: int
    history: int
    utterance: int
    output: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready for the engine.

    `max_tokens` is the room for the reply; `dropped` counts the oldest messages of the history
    that had to be left out, and should be forgotten, so that the prefix stays still. Prompts share
    the prefix cache where their `cache_salt` is the same; see `yap.chat.salts`.
    """

    token_ids: list[int]
    max_tokens: int
    dropped: int
    cache_salt: str | None = None


class PromptBuilder:
    """Builds prompts with one tokenizer. Text of users can never become a control token.

    May be used from the event loop and from one other thread.
    """

    def __init__(self, tokenizer: Any, budgets: Budgets, *, enable_thinking: bool) -> None:
        """
        Args:
            tokenizer: a Hugging Face tokenizer.
            budgets: token limits; `context` is the engine's max_model_len.
            enable_thinking: passed to templates that know it.
        """
        self.tokenizer = tokenizer
        self._budgets = budgets
        template = None if tokenizer.chat_template else CHATML_TEMPLATE
        self._apply = renderer_of(tokenizer, template, enable_thinking=enable_thinking)
        # The template writes BOS itself where the model wants one.
        self._encode = encoder_of(tokenizer)
        self._encode_again = SegmentEncoder(self._encode, control_tokens_of(tokenizer))
        self._neutralise = _neutraliser(tokenizer)
        self._has_system_role = self._accepts("system", "user")
        self._user_opens = not self._accepts("assistant", "user")
        # Those that prompts were built with, with their tokens.
        self._personas: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def is_quick(self, persona: str | None, messages: Sequence[Message], user: str) -> bool:
        """Whether `admit` and `build` of these take well under a millisecond."""
        if persona and persona not in self._personas:
            return False
        new = len(user) + sum(len(m.content) for m in messages if m.tokens is None)
        return new <= _QUICK_NEW_CHARS and sum(len(m.content) for m in messages) <= _QUICK_CHARS

    def count(self, text: str) -> int:
        """Tokens of `text`, without any that the template adds."""
        return len(self._encode(self._neutralise(text)))

    def admit(self, persona: str | None, utterance: str) -> str:
        """Check the persona against its budget and cut the utterance to its own.

        Returns:
            The utterance, its start kept.

        Raises:
            RequestError: `chat_prompt_too_long`.
        """
        tokens = self._count_persona(persona) if persona else 0
        if tokens > self._budgets.prompt:
            raise RequestError(
                f"chat_prompt has {tokens} tokens; at most {self._budgets.prompt} may be.",
                ErrorCode.CHAT_PROMPT_TOO_LONG,
            )
        limit = self._budgets.utterance
        if fits_surely(utterance, limit):
            return utterance
        token_ids = self._encode(self._neutralise(utterance))
        if len(token_ids) <= limit:
            return utterance
        text: str = self.tokenizer.decode(token_ids[:limit])
        return text.rstrip("\ufffd")  # a character cut in the middle of its bytes

    def build(self, persona: str | None, messages: Sequence[Message], user: str) -> Prompt:
        """The prompt of one turn.

        Args:
            persona: the system prompt, first and byte-identical from turn to turn.
            messages: what was said before; the oldest are left out where there is no room.
            user: what is said now, with any prefix.

        Raises:
            RequestError: `prompt_too_long`; even without history there is no room to answer.
        """
        budgets = self._budgets
        dropped = overflow(messages, budgets.history, self.count)
        while True:
            kept = messages[dropped:]
            token_ids = self._render(persona, [*kept, Message("user", user)])
            room = budgets.context - len(token_ids)
            if room >= min(budgets.output, budgets.context // 4):
                return Prompt(token_ids, min(budgets.output, room), dropped)
            if not kept:
                break
            held = sum(message.tokens or 0 for message in kept)
            dropped += max(1, overflow(kept, held - 1, self.count))
        raise RequestError(
            f"The persona and the message together have {len(token_ids)} tokens, which leaves no "
            f"room to answer in a context of {budgets.context}; shorten the persona.",
            ErrorCode.PROMPT_TOO_LONG,
        )

    def _count_persona(self, persona: str) -> int:
        tokens = self._personas.get(persona)
        return self.count(persona) if tokens is None else tokens

    def _remember(self, persona: str) -> None:
        """Its tokens are known now, and its encoding to `_encode_again`."""
        tokens = self._count_persona(persona)
        with self._lock:
            self._personas[persona] = tokens
            self._personas.move_to_end(persona)
            if len(self._personas) > _PERSONAS_KNOWN:
                self._personas.popitem(last=False)

    def _render(self, persona: str | None, messages: Sequence[Message]) -> list[int]:
        turns = list(messages)
        if self._user_opens and turns[0].role == "assistant":
            turns.insert(0, Message("user", _OPENING))
        if persona:
            turns.insert(0, Message("system" if self._has_system_role else "user", persona))
        text = self._apply(
            [
                {"role": m.role, "content": self._neutralise(m.content)}
                for m in _merge_neighbours(turns)
            ]
        )
        token_ids = self._encode_again(text)
        if persona:
            self._remember(persona)
        return token_ids

    def _accepts(self, *roles: str) -> bool:
        """Whether the template renders messages of these roles, in this order."""
        from jinja2.exceptions import TemplateError

        try:
            self._apply([{"role": role, "content": "a"} for role in roles])
        except TemplateError:
            return False
        return True


def fits_surely(text: str, tokens: int) -> bool:
    """Whether `text` is within `tokens` without asking a tokenizer: a token is a byte at least."""
    return len(text) * 4 <= tokens or len(text.encode()) <= tokens


def _merge_neighbours(messages: Sequence[Message]) -> list[Message]:
    """Join messages of the same role, since many templates demand that roles alternate."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            joined = f"{merged[-1].content}\n\n{message.content}"
            merged[-1] = Message(message.role, joined)
        else:
            merged.append(message)
    return merged


def _neutraliser(tokenizer: Any) -> Callable[[str], str]:
    """A function that breaks up every string which the tokenizer would read as a control token."""
    special = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or _TAG.fullmatch(token.content)
    } | set(tokenizer.all_special_tokens)
    if not special:
        return lambda text: text
    longest_first = sorted(special, key=len, reverse=True)
    # Talk seldom has any of these, and to look for one character takes a hundredth of the search.
    openings = {token[0] for token in special if token}
    pattern = re.compile("|".join(re.escape(token) for token in longest_first))

    def break_up(match: re.Match[str]) -> str:
        token = match[0]
        return f"{token[0]} {token[1:]}" if len(token) > 1 else ""

    def neutralise(text: str) -> str:
        if not any(opening in text for opening in openings):
            return text
        # Taking a one-character token out can join what was apart, hence more than one pass.
        for _ in range(_NEUTRALISE_PASSES):
            text, found = pattern.subn(break_up, text)
            if not found:
                break
        return text

    return neutralise
