"""The conversation so far, as messages.

Trimming keeps the prompt's prefix still: when the history passes its token budget it is cut
once, to two thirds of the budget, so that the engine's prefix cache serves the turns that
follow. Dropping one message a turn would move the prefix, and miss the cache, every turn.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from yap.protocol.fields import MAX_HISTORY_MESSAGES

Role = Literal["system", "user", "assistant"]

# For bounds where no tokenizer is at hand: more than a token of everyday text has.
CHARS_PER_TOKEN = 8
# More than any token of the vocabularies in use; bounds work on input that is not language.
MAX_CHARS_PER_TOKEN = 16
# What is left of the budget after a cut.
_KEPT_SHARE = 2 / 3
_SPEAKER = re.compile(r"^(User|Assistant):[ \t]?", re.MULTILINE)


@dataclass(slots=True)
class Message:
    """One message. `tokens` is its length once somebody has counted it."""

    role: Role
    content: str
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """How much of a reply the user heard, as the client says: so many characters, or a text."""

    chars: int | None = None
    text: str | None = None

    def of(self, reply: str) -> str:
        """The part of `reply` that was heard. A text counts as far as the reply begins with it."""
        if self.text is not None:
            pairs = zip(reply, self.text, strict=False)
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
            return reply[: sum(1 for _ in same)]
        return reply if self.chars is None else reply[: self.chars]


class History:
    """The messages of one conversation, oldest first, without the system prompt."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages = list(messages)

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def messages(self) -> list[Message]:
        """The messages themselves, in a list of its own."""
        return list(self._messages)

    def user_lines(self) -> list[str]:
        """What the user said, oldest first."""
        return [m.content for m in self._messages if m.role == "user" and m.content]

    def append(self, role: Role, content: str) -> None:
        """Add a message; an empty one is not worth remembering."""
        if content:
            self._messages.append(Message(role, content))

    def keep_heard(self, heard: Heard) -> None:
        """Forget what the user did not hear of the last reply."""
        if not self._messages or self._messages[-1].role != "assistant":
            return
        reply = self._messages[-1].content
        kept = heard.of(reply)
        if kept != reply:  # else it stays the message whose tokens are counted already
            self._messages.pop()
            self.append("assistant", kept)

    def drop(self, oldest: int) -> None:
        """Forget the `oldest` first messages."""
        del self._messages[:oldest]


def overflow(messages: Sequence[Message], budget: int, count: Callable[[str], int]) -> int:
    """How many of the oldest `messages` must go: none, or enough for the cut to hold a while.

    Args:
        budget: the most tokens that the contents may have together.
        count: tokens of a text; asked once at most for each message.
    """
    target = int(budget * _KEPT_SHARE)
    total, within_target = 0, len(messages)
    # The newest first, and no further than the budget: a history may be a megabyte.
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.tokens is None:
            fits = len(message.content) <= budget * MAX_CHARS_PER_TOKEN
            message.tokens = count(message.content) if fits else budget + 1
        total += message.tokens
        if total <= target:
            within_target = index
        if total > budget:
            break
    else:
        return 0
    dropped = within_target
    # A history that opens with a reply has lost what the reply was to.
    while dropped < len(messages) and messages[dropped].role == "assistant":
        dropped += 1
    return dropped


def parse_transcript(text: str) -> list[Message]:
    """Read a `User:` / `Assistant:` transcript as older clients send it.

    A line that opens with neither continues the message before it; what stands before the
    first speaker is dropped. Of more than `MAX_HISTORY_MESSAGES` messages the newest are kept.
    """
    newest = deque(_SPEAKER.finditer(text), maxlen=MAX_HISTORY_MESSAGES)
    messages = []
    while newest:
        spoken = newest.popleft()
        end = newest[0].start() if newest else len(text)
        content = text[spoken.end() : end].strip()
        if content:
            messages.append(Message("user" if spoken[1] == "User" else "assistant", content))
    return messages
