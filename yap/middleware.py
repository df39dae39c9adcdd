"""ASGI middleware around BentoML's HTTP endpoints: refusals by code, and a deadline to read."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable

import pydantic_core
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yap.http_connection import cut_off_of
from yap.logs import Seldom
from yap.protocol import Error, ErrorCode

log = logging.getLogger(__name__)

_SAY_AGAIN_S = 60.0
_PLAIN = (404, 405)  # statuses that the framework gives a line of text
_NOTHING_HERE = (
    "There is nothing here for this path and method: POST /chat and POST /classify answer over "
    "HTTP, and /ws is a WebSocket."
)


class CodedRefusals:
    """ASGI middleware: what the framework refuses is refused in the words of the protocol.

    BentoML validates bodies before a handler sees them, and answers with its validator's own
    text. The answer becomes an `error` frame that names the field; so do the plain texts of
    statuses 404 and 405. A body over `most_bytes` is refused before it is read.
    """

    def __init__(self, app: ASGIApp, most_bytes: Callable[[], int]) -> None:
        self.app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _BoundedBody(receive, self._most_bytes())
        answer = _HeldAnswer(send, body)
        try:
            await self.app(scope, body.receive, answer.send)
        except _BodyTooLargeError:
            await answer.refuse_body()


class _BodyTooLargeError(Exception):
    pass


class _BoundedBody:
    """What a client sends, up to `most` bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._left = most
        self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_large = True
            raise _BodyTooLargeError
        return message


class _HeldAnswer:
    """Passes an answer on, but for a framework's refusal, which is read first."""

    def __init__(self, send: Send, request: _BoundedBody) -> None:
        self._send = send
        self._request = request
        self._start: Message | None = None
        self._body = b""
        self._begun = False

    async def send(self, message: Message) -> None:
        if self._request.too_large:  # the framework makes a failure of it
            await self.refuse_body()
        elif message["type"] == "http.response.start" and _is_refusal(message):
            self._start = message
        elif self._start is None:
            self._begun = True
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._pass_on(self._start)

    async def refuse_body(self) -> None:
        """Say that the request was too large."""
        await self.refuse(413, "The body is too large; see HTTP_MAX_BODY_BYTES.")

    async def _pass_on(self, start: Message) -> None:
        try:
            content = pydantic_core.from_json(self._body)
        except ValueError:
            content = None
        if isinstance(content, dict) and "error_code" in content:
            self._begun = True
            await self._send(start)
            await self._send({"type": "http.response.body", "body": self._body})
        elif start["status"] in _PLAIN:
            allowed = [header for header in start["headers"] if header[0].lower() == b"allow"]
            await self.refuse(start["status"], _NOTHING_HERE, allowed)
        else:
            await self.refuse(start["status"], _what_is_wrong(content))

    async def refuse(
        self, status: int, what: str, more_headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with an error frame, unless an answer has begun already."""
        if self._begun:
            return
        code = ErrorCode.INVALID_MESSAGE if status < 500 else ErrorCode.INTERNAL_ERROR
        body = Error(error_code=code, message=what).encode().encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *more_headers,
        ]
        self._begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _is_refusal(start: Message) -> bool:
    """Whether the framework says no: in JSON, or that there is no such path or method."""
    if start["status"] in _PLAIN:
        return True
    kinds = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return start["status"] >= 400 and any(b"json" in kind for kind in kinds)


def _what_is_wrong(content: object) -> str:
    """A sentence of our own about what BentoML's validator says; never its text."""
    problems = content.get("detail") if isinstance(content, dict) else None
    first = problems[0] if isinstance(problems, list) and problems else None
    if not isinstance(first, dict):
        return "The request could not be read; see /schema.json."
    path = [str(part) for part in first.get("loc", ()) if not _is_internal(str(part))]
    where = ".".join(path)[:100] or "The body"
    if first.get("type") == "missing":
        return f"{where} is required."
    return f"{where} is not of the right type, size or value; see /schema.json."


def _is_internal(part: str) -> bool:
    """Whether a step of a path is the validator's own, not one of the body's."""
    return not re.fullmatch(r"[a-z_]{1,40}|[0-9]{1,6}", part)


class SendDeadline:
    """ASGI middleware: an HTTP client that does not read its response is cut off in time."""

    def __init__(self, app: ASGIApp, seconds: Callable[[], float]) -> None:
        self.app = app
        self._seconds = seconds
        self._seldom = Seldom(log, _SAY_AGAIN_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds = self._seconds()
        late = False

        async def send_in_time(message: Message) -> None:
            nonlocal late
            try:
                async with asyncio.timeout(seconds):
                    await send(message)
            except TimeoutError:
                late = True
                raise

        try:
            await self.app(scope, receive, send_in_time)
        except Exception:
            if not late:
                raise
        if late:
            self._seldom.warning(
                "unread",
                "An HTTP client did not read its response for %g s and was cut off",
                seconds,
            )
            await _cut_off(scope, receive)


async def _cut_off(scope: Scope, receive: Receive) -> None:
    """End the connection, where the server has a way to; returns when it knows that it is over."""
    if cut_off := cut_off_of(scope):
        cut_off()
        while (await receive())["type"] != "http.disconnect":
            pass
