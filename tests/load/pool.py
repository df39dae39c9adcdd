"""Connections in store: so many at a time, kept for the next session while they are good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.load.connection import Connection

Dial = Callable[[], Awaitable[Connection]]


class Lease:
    """A session's place in the pool: its connection, or the one that follows when it is gone."""

    def __init__(self, dial: Dial, connection: Connection) -> None:
        self._dial = dial
        self.held = connection

    async def connection(self) -> Connection:
        """The connection, or a new one where a server has hung up after a turn.

        One that was refused before its first turn stays, for its turn to tell why.

        Raises:
            ConnectError: none came about.
        """
        if self.held.turns and not self.held.usable:
            self.held = await self._dial()
        return self.held


class Pool:
    """At most `limit` connections; one that has carried `turns_each` turns is replaced (0: never).

    A WebSocket server may limit the messages of a connection, as Yap does, so one that is used
    for ever would measure that limit.
    """

    def __init__(self, dial: Dial, limit: int, turns_each: int = 0) -> None:
        self._dial = dial
        self._turns_each = turns_each
        self._free = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """A place for one session, which may have to be waited for.

        Raises:
            ConnectError: no connection came about.
        """
        async with self._free:
            lease = Lease(self._dial, await self._fresh())
            try:
                yield lease
            finally:
                if self._good(lease.held):
                    self._idle.append(lease.held)
                else:
                    await lease.held.close()

    async def close(self) -> None:
        """Close all that are idle."""
        closing, self._idle = self._idle, []
        await asyncio.gather(*(connection.close() for connection in closing))

    async def _fresh(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await self._dial()

    def _good(self, connection: Connection) -> bool:
        used_up = self._turns_each and connection.turns >= self._turns_each
        return connection.usable and not used_up
