"""What is sent and how the answer is read: Yap over its WebSocket and HTTP, and OpenAI's API.

A dialect turns a request into bytes and puts what comes back into a trace. It does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from tests.load.trace import Ask, Trace, Usage
from yap.protocol import Done, Error, ToolCall, read_server_frame

_TOKEN = b'{"type":"token"'


class Dialect(Protocol):
    """How one kind of server is talked to."""

    def body(self, ask: Ask) -> bytes:
        """The request."""

    def take(self, trace: Trace, data: bytes, now: float) -> bool:
        """Put one event that arrived at `now` into the trace; whether the reply is over.

        Raises:
            ValueError: the event is none of this dialect.
        """


def take_frame(trace: Trace, data: bytes, now: float) -> bool:
    """A frame of Yap's protocol. Tokens, which are nearly all of them, are not validated.

    Raises:
        ValueError: it is no frame of the protocol.
    """
    if data.startswith(_TOKEN):
        trace.piece(json.loads(data)["text"], now)
        return False
    match read_server_frame(data):
        case ToolCall():
            trace.toolcall = now
        case Error() as error:
            trace.fail(error.error_code, error.message)
            trace.ended = now
            return error.turn_id is None  # else the turn's `done` follows
        case Done(turn_id=str()) as done:  # one without a turn answers a cancel that came too late
            trace.ended = now
            trace.cancelled = bool(done.cancelled)
            if done.usage is not None:
                trace.usage = Usage(**done.usage.model_dump())
            if done.finish_reason == "error":
                trace.fail("error")
            return True
    return False


class YapSocket:
    """`start` over the WebSocket; the server keeps the session."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self._start = {"type": "start", **start}

    def body(self, ask: Ask) -> bytes:
        """A `start` frame."""
        start = self._start | {"session_id": ask.session_id, "user_utterance": ask.utterance}
        if ask.persona:
            start["chat_prompt"] = ask.persona
        return json.dumps(start).encode()

    def take(self, trace: Trace, data: bytes, now: float) -> bool:
        """See `take_frame`."""
        return take_frame(trace, data, now)


class YapHttp:
    """`POST /chat`; the whole conversation goes along each time."""

    def __init__(self, sampling: Mapping[str, Any]) -> None:
        self._sampling = dict(sampling)

    def body(self, ask: Ask) -> bytes:
        """A JSON body."""
        return json.dumps({"messages": messages(ask), "sampling": self._sampling}).encode()

    def take(self, trace: Trace, data: bytes, now: float) -> bool:
        """See `take_frame`."""
        return take_frame(trace, data, now)


class OpenAiChat:
    """Streaming chat completions with usage, as every OpenAI-compatible server has them."""

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        self._options = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **options,
        }

    def body(self, ask: Ask) -> bytes:
        """A JSON body."""
        return json.dumps({**self._options, "messages": messages(ask)}).encode()

    def take(self, trace: Trace, data: bytes, now: float) -> bool:
        """A chunk. Its first may hold only the role, and is no token."""
        if data == b"[DONE]":
            trace.ended = now
            return True
        chunk = json.loads(data)
        if error := chunk.get("error"):
            trace.fail("server_error", str(error))
            trace.ended = now
            return True
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content")
            if text:
                trace.piece(text, now)
        if usage := chunk.get("usage"):
            details = usage.get("prompt_tokens_details") or {}
            trace.usage = Usage(
                usage.get("prompt_tokens"),
                details.get("cached_tokens"),
                usage.get("completion_tokens"),
            )
        return False


def messages(ask: Ask) -> list[dict[str, str]]:
    """The conversation as a list of messages."""
    found = [{"role": "system", "content": ask.persona}] if ask.persona else []
    for said, reply in ask.history:
        found.append({"role": "user", "content": said})
        found.append({"role": "assistant", "content": reply})
    found.append({"role": "user", "content": ask.utterance})
    return found
