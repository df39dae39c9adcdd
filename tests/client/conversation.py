"""One WebSocket to the server, with typed frames and the times at which they came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import websockets

from yap.protocol import (
    AnyServerFrame,
    Done,
    Error,
    Final,
    StartAck,
    Token,
    ToolCall,
    read_server_frame,
)

OnFrame = Callable[[AnyServerFrame], None]


class ServerRefusedError(Exception):
    """The server sent an error frame, or hung up, before the turn was done."""


@dataclass(slots=True)
class TurnRecord:
    """What came back in one turn. Times are milliseconds from the sending of `start`."""

    ack: StartAck | None = None
    toolcall: ToolCall | None = None
    tokens: list[str] = field(default_factory=list)
    final: Final | None = None
    done: Done | None = None
    toolcall_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float = 0.0


class Conversation:
    """Turns over one connection."""

    def __init__(self, websocket: websockets.ClientConnection, timeout: float) -> None:
        self._websocket = websocket
        self._timeout = timeout

    async def send(self, message: dict[str, Any]) -> None:
        """Send a client frame. If the server has hung up, `receive` says why."""
        with suppress(websockets.ConnectionClosed):
            await self._websocket.send(json.dumps(message))

    async def receive(self) -> AnyServerFrame:
        """The next server frame.

        Raises:
            ServerRefusedError: the server hung up, or sent nothing for too long.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return read_server_frame(await self._websocket.recv())
        except TimeoutError:
            raise ServerRefusedError(f"the server sent nothing for {self._timeout:g} s") from None
        except websockets.ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else "no close frame"
            raise ServerRefusedError(f"the server closed the connection ({code})") from None

    async def turn(self, start: dict[str, Any], on_frame: OnFrame | None = None) -> TurnRecord:
        """Send `start` and read until `done`.

        Raises:
            ServerRefusedError: an error frame came instead.
        """
        record = TurnRecord()
        begun = time.perf_counter()
        await self.send({"type": "start", **start})
        while record.done is None:
            frame = await self.receive()
            record.total_ms = (time.perf_counter() - begun) * 1000
            _note(record, frame)
            if on_frame is not None:
                on_frame(frame)
        return record


def _note(record: TurnRecord, frame: AnyServerFrame) -> None:
    match frame:
        case StartAck():
            record.ack = frame
        case ToolCall():
            record.toolcall = frame
            record.toolcall_ms = record.total_ms
        case Token():
            if record.ttft_ms is None:
                record.ttft_ms = record.total_ms
            record.tokens.append(frame.text)
        case Final():
            record.final = frame
        case Done():
            record.done = frame
        case Error():
            raise ServerRefusedError(f"{frame.error_code}: {frame.message}")


@asynccontextmanager
async def connect(server: str, api_key: str, timeout: float = 60.0) -> AsyncIterator[Conversation]:
    """Open a conversation.

    Args:
        server: `host:port`, or a ws:// or wss:// URL of the WebSocket.
        timeout: the longest silence of the server, in seconds.

    Raises:
        ServerRefusedError: nobody answers there.
    """
    url = server if server.startswith(("ws://", "wss://")) else f"ws://{server}/ws"
    try:
        websocket = await websockets.connect(
            url, additional_headers={"X-API-Key": api_key}, compression=None, open_timeout=timeout
        )
    except (OSError, TimeoutError, websockets.InvalidHandshake) as error:
        raise ServerRefusedError(f"no Yap server answers at {url} ({error})") from None
    try:
        yield Conversation(websocket, timeout)
    finally:
        await websocket.close()
