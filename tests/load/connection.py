"""What both kinds of connection share: one turn at a time, with a deadline, read as bytes arrive.

Times are taken where the event loop hands over what it has read, not where a task wakes up for it,
and a turn wakes its task once, at its end. With 200 streams on one loop that is the difference
between a time and a guess.
"""

from __future__ import annotations

import asyncio
import ssl
from time import perf_counter
from typing import cast
from urllib.parse import SplitResult

from tests.load.dialects import Dialect
from tests.load.trace import Ask, Trace


class ConnectError(Exception):
    """No connection came about; `code` is short, the message says more."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection(asyncio.Protocol):
    """A connection on which turns follow one another."""

    def __init__(self, dialect: Dialect) -> None:
        self.turns = 0
        self._dialect = dialect
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._trace: Trace | None = None
        self._unasked = b""  # why a server hangs up at once, which it says before any turn
        self._over: asyncio.Future[None] = self._loop.create_future()

    @property
    def usable(self) -> bool:
        """Whether another turn can be asked for."""
        return self._transport is not None and not self._transport.is_closing()

    async def turn(self, ask: Ask, trace: Trace, timeout: float) -> None:
        """Ask, and read into `trace` until the reply is over.

        It raises nothing: what goes wrong is `trace.failure`. A turn that is not over after
        `timeout` seconds fails, and its connection is closed.
        """
        self.turns += 1
        body = self._dialect.body(ask)
        self._trace, self._over = trace, self._loop.create_future()
        trace.sent = perf_counter()
        trace.started = trace.started or trace.sent
        try:
            async with asyncio.timeout(timeout):
                if self.usable:
                    self._ask(body)
                    await self._over
                else:
                    self._take(self._unasked, trace.sent)
                    trace.fail("disconnected", "The server has closed the connection.")
        except TimeoutError:
            trace.fail("timeout", f"The turn was not over after {timeout:g} s.")
            self.abort()
        except BaseException:
            self.abort()
            raise
        finally:
            self._trace = None

    def interrupt(self) -> None:
        """The user talks into the reply."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Close in good order."""
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._trace is not None and self._trace.ended is None:
            if self.turns == 1:  # the reason may have crossed with the request
                self._take(self._unasked, perf_counter())
            self._trace.fail("disconnected", str(exc or "The server closed the connection."))
        self._settle()

    def _ask(self, body: bytes) -> None:
        raise NotImplementedError

    def _take(self, data: bytes, now: float) -> bool:
        """Give the dialect an event; whether the reply is over."""
        if self._trace is None:
            self._unasked = data
            return False
        if not data:
            return False
        try:
            return self._dialect.take(self._trace, data, now)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._trace.fail("bad_answer", f"{type(error).__name__}: {error}")
            self.abort()
            return True

    def _settle(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


def address(url: SplitResult) -> tuple[str, int, ssl.SSLContext | None]:
    """Host, port and TLS of an http, https, ws or wss URL."""
    secure = url.scheme in ("https", "wss")
    port = url.port or (443 if secure else 80)
    return url.hostname or "127.0.0.1", port, ssl.create_default_context() if secure else None
