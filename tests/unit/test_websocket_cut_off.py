"""A connection that is over is over, also where its client does not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvicorn
import websockets
from starlette.types import Receive, Scope, Send

from yap import websocket
from yap.websocket import DirectWebSocket

LINGER_S = 0.3
SENDS_S = 0.3  # that the application goes on with, before it gives up
MESSAGE = "x" * 100_000

pytestmark = pytest.mark.timeout(30)


async def talker(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends until the client does not take it, then ends without a close frame."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    try:
        async with asyncio.timeout(SENDS_S):
            while True:
                await send({"type": "websocket.send", "text": MESSAGE})
                await asyncio.sleep(0)
    except TimeoutError:
        return


@pytest.mark.parametrize("reads", [False, True])
async def test_who_does_not_read_is_cut_off(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LINGER_S", LINGER_S)
    server = uvicorn.Server(
        uvicorn.Config(
            talker,
            ws=DirectWebSocket,
            ws_per_message_deflate=False,
            lifespan="off",
            log_level="critical",
        )
    )
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listening]))
    try:
        async with asyncio.timeout(10):
            client = await websockets.connect(
                f"ws://127.0.0.1:{listening.getsockname()[1]}",
                compression=None,
                max_queue=1,
                ping_interval=None,
            )
            if reads:
                with contextlib.suppress(websockets.ConnectionClosed):
                    async for _ in client:
                        pass
            while server.server_state.connections:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            client.transport.abort()
    finally:
        server.should_exit = True
        await serving
