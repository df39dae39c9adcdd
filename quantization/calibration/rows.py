"""What a row of a data set is: a plain text, or a talk of several messages.

A row is a talk if it has, looked for in this order:

1. a list of messages in `messages`, `conversations`, `conversation`, `dialogue` or `dialog`, each
   with `role` and `content` or, as ShareGPT has them, `from` and `value`; or it is such a list;
2. a question and its answer: `instruction` with `output`, `response` or `answer`; `prompt` with
   `response` or `completion`; `question` with `answer`. An `input` or `context` beside an
   instruction is put below it, and `system` or `system_prompt` before it.

Otherwise it is a text, by the first of `text`, `content`, `article`, `document` and `story` that
holds one, or the row itself where it is a string. Any other row is not understood.

Roles: `human` is user, and `gpt`, `chatgpt`, `bot`, `model` and `ai` are the assistant. A talk with
other roles (tools, functions) is not understood. A content in parts is its texts, a line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Role = Literal["system", "user", "assistant"]

_TALKS: Final = ("messages", "conversations", "conversation", "dialogue", "dialog")
_QUESTIONS: Final = (
    ("instruction", ("output", "response", "answer")),
    ("prompt", ("response", "completion", "answer")),
    ("question", ("answer", "response")),
)
_ASIDES: Final = ("input", "context")
_SYSTEMS: Final = ("system", "system_prompt")
_TEXTS: Final = ("text", "content", "article", "document", "story")
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
}
# Columns that a reader of wide files needs.
COLUMNS: Final = frozenset(
    {*_TALKS, *_ASIDES, *_SYSTEMS, *_TEXTS}
    | {name for question, answers in _QUESTIONS for name in (question, *answers)}
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a talk."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Talk:
    """Messages in their order; neighbours differ in role, and none is empty."""

    messages: tuple[Message, ...]

    def __str__(self) -> str:
        return "\n".join(f"{message.role}: {message.content}" for message in self.messages)


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str

    def __str__(self) -> str:
        return self.text


Document = Talk | Text


class NotUnderstood(ValueError):
    """A row that is neither; the message says what it holds."""


def document(row: Any) -> Document | None:
    """What a row is; None where there is nothing in it.

    Raises:
        NotUnderstood: it is neither text nor talk.
    """
    if isinstance(row, str):
        return Text(row.strip()) if row.strip() else None
    if isinstance(row, list):
        return talk(row)
    if not isinstance(row, Mapping):
        raise NotUnderstood(f"a row that is a {type(row).__name__}")
    for name in _TALKS:
        if isinstance(row.get(name), list):
            return talk(row[name])
    found = _question(row)
    if found is not None:
        return found
    texts = [row[name] for name in _TEXTS if isinstance(row.get(name), str)]
    if not texts:
        raise NotUnderstood(f"a row with {', '.join(map(str, row)) or 'nothing in it'}")
    return next((Text(text.strip()) for text in texts if text.strip()), None)


def talk(entries: Sequence[Any]) -> Talk | None:
    """The talk of these messages; those without words are left out.

    Raises:
        NotUnderstood: one is no message.
    """
    messages: list[Message] = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise NotUnderstood("messages that are no objects")
        said = entry.get("role", entry.get("from"))
        role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
        if role is None:
            raise NotUnderstood(f"a message by {said!r:.40}")
        content = _content(entry.get("content", entry.get("value")))
        if content:
            messages.append(Message(role, content))
    return alternating(messages)


def alternating(messages: Sequence[Message]) -> Talk | None:
    """A talk in which neighbours of one role are one message; None without an answer.

    What only a system or only a user says is no talk: the model would learn nothing of its own.
    """
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            joined = f"{merged[-1].content}\n\n{message.content}"
            merged[-1] = Message(message.role, joined)
        else:
            merged.append(message)
    answered = any(message.role == "assistant" for message in merged)
    return Talk(tuple(merged)) if answered else None


def _question(row: Mapping[str, Any]) -> Talk | None:
    for name, answers in _QUESTIONS:
        answer = next((_content(row.get(key)) for key in answers if _content(row.get(key))), "")
        question = _content(row.get(name))
        if not question or not answer:
            continue
        asides = [text for key in _ASIDES if (text := _content(row.get(key)))]
        messages = [Message("user", "\n\n".join([question, *asides]))]
        system = next((text for key in _SYSTEMS if (text := _content(row.get(key)))), "")
        if system:
            messages.insert(0, Message("system", system))
        return Talk((*messages, Message("assistant", answer)))
    return None


def _content(value: Any) -> str:
    """A content as one text; of what is made of parts, the parts that are texts."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        texts = [
            part["text"]
            for part in value
            if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        ]
        return "\n".join(texts).strip()
    return ""
