"""Turns over a WebSocket: the websockets library's protocol, driven by what arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.load.connection import ConnectError, Connection, address
from tests.load.dialects import Dialect

_MAX_FRAME = 1 << 20
_CLOSE_S = 2.0
_CANCEL = b'{"type":"cancel"}'


class WebSocketConnection(Connection):
    """A WebSocket on which a turn ends with its own `done`, also an interrupted one."""

    def __init__(self, dialect: Dialect, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(dialect)
        self._protocol = ClientProtocol(parse_uri(url), max_size=_MAX_FRAME)
        self._headers = headers
        self._pieces: list[bytes] = []
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()

    def interrupt(self) -> None:
        """Send `cancel`; the turn goes on until its `done`."""
        if self._trace is None or self._trace.ended is not None or not self.usable:
            return
        self._trace.cancel_sent = perf_counter()
        self._ask(_CANCEL)

    async def close(self) -> None:
        """Say goodbye, and wait a little for the answer."""
        if self.usable:
            self._protocol.send_close(1000)
            self._flush()
            await asyncio.wait([self._closed], timeout=_CLOSE_S)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        super().connection_made(transport)
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take in what was read."""
        now = perf_counter()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event, now)
            elif isinstance(event, Response) and not self.opened.done():
                self._answered(event)
        self._flush()
        if self._protocol.close_expected() and self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told."""
        if not self.opened.done():
            self.opened.set_exception(ConnectError("connect", "The server hung up at once."))
        if not self._closed.done():
            self._closed.set_result(None)
        super().connection_lost(exc)

    def _ask(self, body: bytes) -> None:
        self._protocol.send_text(body)
        self._flush()

    def _answered(self, response: Response) -> None:
        if self._protocol.handshake_exc is None:
            self.opened.set_result(None)
        else:
            code = f"http_{response.status_code}"
            self.opened.set_exception(ConnectError(code, str(self._protocol.handshake_exc)))

    def _frame(self, frame: Frame, now: float) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return  # pings are answered by the protocol
        data = bytes(frame.data)
        if self._pieces or not frame.fin:
            self._pieces.append(data)
            if not frame.fin:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        if self._take(data, now):
            self._settle()

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)


async def connect_websocket(
    dialect: Dialect, url: str, headers: Mapping[str, str], timeout: float
) -> Connection:
    """A WebSocket to `url`, compression off.

    Raises:
        ConnectError: nobody answers in time, or not as a WebSocket server.
    """
    host, port, tls = address(urlsplit(url))
    loop = asyncio.get_running_loop()
    connection: WebSocketConnection | None = None
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(
                lambda: WebSocketConnection(dialect, url, headers), host, port, ssl=tls
            )
            await connection.opened
    except TimeoutError:
        if connection is not None:
            connection.abort()
        raise ConnectError("connect_timeout", f"{url} did not answer in {timeout:g} s.") from None
    except (OSError, InvalidHandshake) as error:
        raise ConnectError("connect", f"Nobody answers at {url} ({error}).") from None
    return connection
