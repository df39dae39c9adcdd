"""uvicorn's WebSocket protocol, with a short way out for the frames of a reply.

A frame that goes through ASGI passes the `send` of every middleware, becomes an object of the
`websockets` library, and has a task of its own to wait in. That costs more than the engine's front
end takes to make the token. Nearly always nothing has to be waited for: the client reads, and the
socket takes the frame. `DirectWebSocket` lets the application try that, under `WRITE_TEXT` in the
scope's extensions; where it cannot be done at once, or the server is another one, frames go
through ASGI.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import OPEN

log = logging.getLogger(__name__)

WriteText = Callable[[bytes], bool]

WRITE_TEXT: Final = "yap.websocket.write_text"

# Seconds that a connection which is over has to send what still waits.
LINGER_S = 10.0

# Of a server's unmasked frames, RFC 6455, section 5.2: FIN and the opcode of text, then the length.
_TEXT: Final = 0x81
_HEADERS: Final = tuple(bytes((_TEXT, length)) for length in range(126))
_PACK_16: Final = struct.Struct("!BBH").pack
_PACK_64: Final = struct.Struct("!BBQ").pack


class DirectWebSocket(WebSocketsSansIOProtocol):
    """One connection."""

    _cut_off: asyncio.TimerHandle | None = None

    async def run_asgi(self) -> None:
        """As uvicorn's, and then a client that does not read is cut off.

        uvicorn's `close` waits until all is sent that was written, which may be never: the socket
        and its buffer would stay as long as the client likes.
        """
        await super().run_asgi()
        if not self.disconnected:
            self._cut_off = self.loop.call_later(LINGER_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        super().connection_lost(exc)
        if self._cut_off is not None:
            self._cut_off.cancel()

    def send_receive_event_to_app(self) -> None:
        """As uvicorn's, which would log a traceback where a client's text is not UTF-8."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                log.debug("A client sent text that is not UTF-8; close 1007")
                self.frames = []
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_connect(self, event: Request) -> None:
        """As uvicorn's, and the application finds `write_text` in its scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:  # else nothing is served, and there is no scope
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[WRITE_TEXT] = self.write_text

    def write_text(self, text: bytes) -> bool:
        """Send a text message, if that can be done at once.

        Args:
            text: UTF-8.

        Returns:
            False if nothing was sent: the client does not read, or the connection is closing.
        """
        if (
            not self.writable.is_set()
            or not self.handshake_complete
            or self.disconnected
            or self.close_sent
            or self.conn.state is not OPEN
            or self.conn.extensions  # such as compression, which has to see every frame
        ):
            return False
        self.transport.write(_header(len(text)) + text)
        return True


def write_text_of(scope: Mapping[str, Any]) -> WriteText | None:
    """The connection's `write_text`, if its server has one."""
    found: WriteText | None = (scope.get("extensions") or {}).get(WRITE_TEXT)
    return found


def _header(length: int) -> bytes:
    if length < 126:
        return _HEADERS[length]
    if length < 1 << 16:
        return _PACK_16(_TEXT, 126, length)
    return _PACK_64(_TEXT, 127, length)
