"""What the framework refuses is refused by code, and nobody reads for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yap.middleware import CodedRefusals, SendDeadline

# The deadline of each send


class Wire:
    """An HTTP client that takes the first `quick` messages and then no more."""

    def __init__(self, quick: int) -> None:
        self.quick = quick
        self.taken: list[Message] = []

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None:
        if len(self.taken) >= self.quick:
            await asyncio.Event().wait()
        self.taken.append(message)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


async def test_a_client_that_reads_gets_its_answer() -> None:
    wire = Wire(quick=9)
    await SendDeadline(hello, lambda: 0.05)({"type": "http"}, wire.receive, wire.send)
    assert [message["type"] for message in wire.taken] == [
        "http.response.start",
        "http.response.body",
    ]


async def test_clients_that_do_not_read_are_let_go_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    middleware = SendDeadline(hello, lambda: 0.05)
    for _ in range(3):
        wire = Wire(quick=1)
        await middleware({"type": "http"}, wire.receive, wire.send)
    assert [record.getMessage() for record in caplog.records] == [
        "An HTTP client did not read its response for 0.05 s and was cut off"
    ]


async def test_what_else_goes_wrong_is_not_hidden() -> None:
    async def times_out(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise TimeoutError

    wire = Wire(quick=9)
    with pytest.raises(TimeoutError):
        await SendDeadline(times_out, lambda: 0.05)({"type": "http"}, wire.receive, wire.send)


async def test_sends_of_a_websocket_have_no_deadline_here() -> None:
    given: list[Send] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        given.append(send)

    def no_deadline() -> float:
        raise AssertionError("asked for the deadline")

    wire = Wire(quick=0)
    await SendDeadline(app, no_deadline)({"type": "websocket"}, wire.receive, wire.send)
    assert given == [wire.send]


# Refusals


class Call:
    """One HTTP request to an app behind the middleware."""

    def __init__(self, app: ASGIApp, *parts: bytes, most: int = 1000) -> None:
        self._app = CodedRefusals(app, lambda: most)
        self._parts = list(parts) or [b""]
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        body = self._parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._parts)}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def answer(self) -> tuple[int, Any]:
        await self._app({"type": "http"}, self.receive, self.send)
        body = b"".join(message.get("body", b"") for message in self.sent[1:])
        assert int(dict(self.sent[0]["headers"])[b"content-length"]) == len(body)
        return self.sent[0]["status"], json.loads(body)


def problem(*where: str | int, kind: str = "list_type") -> dict[str, Any]:
    return {
        "error": "1 validation error for Input",
        "detail": [{"type": kind, "loc": list(where), "msg": "Input should be", "url": "https://"}],
    }


@pytest.mark.parametrize(
    ("status", "content", "code", "message"),
    [
        (400, problem("messages"), "invalid_message", "messages is not of the right type"),
        (400, problem("messages", 3, "role"), "invalid_message", "messages.3.role is not"),
        (400, problem("utterance", kind="missing"), "invalid_message", "utterance is required."),
        (400, problem(), "invalid_message", "The body is not"),
        (400, problem("function-wrap[x()]"), "invalid_message", "The body is not"),
        (415, ["a list"], "invalid_message", "The request could not be read"),
        (400, {"error": "ValueError: x"}, "invalid_message", "The request could not be read"),
        (500, {"error": "An unexpected error"}, "internal_error", "The request could not"),
    ],
)
async def test_what_the_framework_refuses_becomes_an_error_frame(
    status: int, content: Any, code: str, message: str
) -> None:
    got, frame = await Call(JSONResponse(content, status)).answer()
    assert got == status
    assert list(frame) == ["type", "error_code", "message"]
    assert frame["error_code"] == code
    assert frame["message"].startswith(message)
    assert "Input" not in frame["message"]


@pytest.mark.parametrize("status", [404, 405])
async def test_what_is_not_there_is_refused_with_an_error_frame(status: int) -> None:
    call = Call(PlainTextResponse("Not Found", status, {"Allow": "POST"}))
    got, frame = await call.answer()
    assert got == status
    assert frame["error_code"] == "invalid_message"
    assert "/ws is a WebSocket" in frame["message"]
    assert dict(call.sent[0]["headers"])[b"allow"] == b"POST"


async def test_a_refusal_of_our_own_passes_unchanged() -> None:
    content = {"type": "error", "error_code": "engine_unavailable", "message": "Not yet."}
    assert await Call(JSONResponse(content, 503)).answer() == (503, content)


async def test_an_answer_passes_unchanged() -> None:
    assert await Call(JSONResponse({"status": "no"})).answer() == (200, {"status": "no"})


@pytest.mark.parametrize("parts", [(b"x" * 11,), (b"x" * 6, b"x" * 6)])
async def test_a_body_over_the_limit_is_refused_before_it_is_read(parts: tuple[bytes, ...]) -> None:
    async def reads(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["more_body"]:
            pass

    async def makes_a_failure_of_it(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await reads(scope, receive, send)
        except Exception:  # noqa: BLE001 - as frameworks do
            await JSONResponse({"error": "failed"}, 500)(scope, receive, send)

    for app in (reads, makes_a_failure_of_it):
        status, frame = await Call(app, *parts, most=10).answer()
        assert status == 413
        assert "HTTP_MAX_BODY_BYTES" in frame["message"]
