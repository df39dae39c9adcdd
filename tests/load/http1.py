"""Turns over HTTP/1.1 with server-sent events, read as they arrive.

Written for this, as a general HTTP client hands over what it read long after it came: there is one
request at a time on a connection, which is kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from time import perf_counter
from urllib.parse import urlsplit

from tests.load.connection import ConnectError, Connection, address
from tests.load.dialects import Dialect
from tests.load.http_reader import MAX_HEAD, EventReader, ResponseReader


class HttpConnection(Connection):
    """A kept connection to one path; a turn is a POST and its events."""

    def __init__(self, dialect: Dialect, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(dialect)
        parts = urlsplit(url)
        lines = [
            f"POST {parts.path or '/'} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Accept: text/event-stream",
            "Content-Type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._head = "\r\n".join(lines).encode("latin-1")
        self._response = ResponseReader()
        self._events = EventReader()
        self._refusal = b""

    def interrupt(self) -> None:
        """Hang up, which is how such a reply is stopped; what the server does then is not seen."""
        if self._trace is None or self._trace.ended is not None:
            return
        self._trace.cancel_sent = self._trace.ended = perf_counter()
        self._trace.cancelled = True
        self.abort()
        self._settle()

    def data_received(self, data: bytes) -> None:
        """Take in what was read."""
        now = perf_counter()
        try:
            for piece in self._response.feed(data):
                self._piece(piece, now)
        except ValueError as error:
            if self._trace is not None:
                self._trace.fail("bad_answer", str(error))
            self.abort()
            self._settle()
            return
        if self._response.complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """A body without a length ends here."""
        if self._response.status >= 400:
            self._refused()
        super().connection_lost(exc)

    def _ask(self, body: bytes) -> None:
        self._response, self._events, self._refusal = ResponseReader(), EventReader(), b""
        if self._transport is not None:
            self._transport.write(
                b"%b\r\nContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)
            )

    def _piece(self, piece: bytes, now: float) -> None:
        if self._response.status >= 400 and len(self._refusal) < MAX_HEAD:
            self._refusal += piece
        if "event-stream" in self._response.headers.get("content-type", ""):
            for data in self._events.feed(piece):
                self._take(data, now)

    def _finish(self) -> None:
        """The response is complete: the connection is free, and the turn must be over."""
        if self._response.status >= 400:
            self._refused()
        elif self._trace is not None and self._trace.ended is None:
            self._trace.fail("incomplete", "The answer ended before the reply did.")
        if not self._response.reusable:
            self.abort()
        self._settle()

    def _refused(self) -> None:
        if self._trace is not None:
            self._trace.fail(f"http_{self._response.status}", _message(self._refusal))


def _message(refusal: bytes) -> str:
    """What a refusal says, whichever of the usual shapes it has."""
    text = refusal.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        return text
    error = found.get("error", found) if isinstance(found, dict) else found
    return str(error.get("message", error) if isinstance(error, dict) else error)


async def connect_http(
    dialect: Dialect, url: str, headers: Mapping[str, str], timeout: float
) -> Connection:
    """A connection for POSTs to `url`.

    Raises:
        ConnectError: nobody answers in time.
    """
    host, port, tls = address(urlsplit(url))
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(
                lambda: HttpConnection(dialect, url, headers), host, port, ssl=tls
            )
    except TimeoutError:
        raise ConnectError("connect_timeout", f"{url} did not answer in {timeout:g} s.") from None
    except OSError as error:
        raise ConnectError("connect", f"Nobody answers at {url} ({error}).") from None
    return connection
