"""A stream that is begun before it is known whether anybody wants it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Works on the first item of a stream at once, in a task; the rest waits until it is asked.

    The owner calls `drop` in the end, whether or not it has read the items.
    """

    def __init__(self, stream: AsyncGenerator[T]) -> None:
        self._stream = stream
        self._first = asyncio.create_task(self._begin(), name="ahead")

    async def _begin(self) -> list[T]:
        """The first item, in a list; an empty one where the stream ends without."""
        async for item in self._stream:
            return [item]
        return []

    async def items(self) -> AsyncGenerator[T]:
        """All items, in order; raises what the stream raises."""
        for item in await self._first:
            yield item
        async for item in self._stream:
            yield item

    async def drop(self) -> None:
        """Stop the stream, wherever it is; what it raises is nobody's concern any more."""
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._stream.aclose()
