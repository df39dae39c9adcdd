"""Who gets in, and how often they may speak: connection permits, rate limits, drain."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from yap.errors import AtCapacity, Draining, RateLimited
from yap.protocol import ErrorCode

Clock = Callable[[], float]

# What is too many, by the code of the refusal.
_COUNTED: Final = MappingProxyType(
    {
        ErrorCode.CANCEL_RATE_LIMITED: "cancels",
        ErrorCode.CHAT_PROMPT_RATE_LIMITED: "persona changes",
    }
)


class SlidingWindow:
    """At most `limit` events in any `window` seconds. A limit or window of 0 lets all through."""

    def __init__(
        self, limit: int, window: float, code: ErrorCode, clock: Clock = time.monotonic
    ) -> None:
        self._limit = limit
        self._window = window
        self._code = code
        self._clock = clock
        self._events: deque[float] = deque()

    def hit(self) -> None:
        """Count one event.

        Raises:
            RateLimited: too many came already; this one is not counted.
        """
        if self._limit <= 0 or self._window <= 0:
            return
        now = self._clock()
        while self._events and now - self._events[0] >= self._window:
            self._events.popleft()
        if len(self._events) >= self._limit:
            wait = max(1, math.ceil(self._events[0] + self._window - now))
            what = _COUNTED.get(self._code, "messages")
            raise RateLimited(f"Too many {what}; try again in {wait} s.", self._code, wait)
        self._events.append(now)


class Admission:
    """Connection permits, and the door that closes when the server drains."""

    def __init__(self, limit: int, acquire_timeout: float) -> None:
        self._limit = limit
        self._acquire_timeout = acquire_timeout
        self._permits = asyncio.Semaphore(limit)
        self._active = 0
        self.draining = False

    @property
    def active(self) -> int:
        """Connections that hold a permit."""
        return self._active

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Hold a permit for the time of the block.

        Raises:
            AtCapacity: none came free within the acquire timeout.
            Draining: the server is about to stop.
        """
        if self.draining:
            raise Draining
        try:
            async with asyncio.timeout(self._acquire_timeout):
                await self._permits.acquire()
        except TimeoutError:
            raise AtCapacity(
                f"The server is at capacity ({self._active}/{self._limit} connections); "
                "try again later.",
                self._active,
                self._limit,
            ) from None
        self._active += 1
        try:
            if self.draining:  # since it began to wait
                raise Draining
            yield
        finally:
            self._active -= 1
            self._permits.release()
