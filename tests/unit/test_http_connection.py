"""A client that does not read its response is cut off, and the log says so in one line."""

from __future__ import annotations

import asyncio
import logging

import pytest
import uvicorn
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from yap.http_connection import CuttableHttp, cut_off_of
from yap.middleware import SendDeadline

PIECE = b"x" * 100_000


async def never_ends(scope: Scope, receive: Receive, send: Send) -> None:
    """Starlette's, since it makes other exceptions of what `send` raises."""

    async def pieces() -> object:
        while True:
            yield PIECE

    await StreamingResponse(pieces())(scope, receive, send)  # type: ignore[arg-type]


async def test_who_does_not_read_loses_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    config = uvicorn.Config(
        SendDeadline(never_ends, lambda: 0.2),
        host="127.0.0.1",
        port=0,
        http=CuttableHttp,
        log_config=None,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    caplog.set_level(logging.WARNING)
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(5):
            while not server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.close()
    finally:
        server.should_exit = True
        await running
    assert [record.getMessage() for record in caplog.records] == [
        "An HTTP client did not read its response for 0.2 s and was cut off"
    ]
    assert not caplog.records[0].exc_info


def test_other_servers_cannot_cut_off() -> None:
    assert cut_off_of({"type": "http"}) is None
    assert cut_off_of({"type": "http", "extensions": None}) is None
