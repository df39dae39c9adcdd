"""The frames that wait to be sent to one client: bounded, in order, and revocable."""

from __future__ import annotations

import asyncio
from collections import deque

from yap.protocol import ServerFrame, Token, token_json
from yap.websocket import WriteText


class Outbox:
    """A bounded queue of frames between those who make them and the one who sends them.

    `put` waits while the queue is full, so a client that does not read slows its own turn and
    never grows the server's memory. There is one taker; the events spare each token the locking
    of a general queue.

    While nothing waits and the client reads, frames need no taker: they are written as they come.
    """

    def __init__(self, limit: int, write: WriteText | None = None) -> None:
        """
        Args:
            limit: the most frames that wait.
            write: sends a frame's JSON at once, or tells that it cannot; without it, and
                whenever it cannot, frames wait for the taker.
        """
        self._limit = limit
        self._write = write
        self._frames: deque[ServerFrame] = deque()
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def put(self, frame: ServerFrame) -> None:
        """Add a frame; waits for room. After `close` frames are dropped."""
        if self._write is not None and self._idle.is_set() and self._write(frame.encode().encode()):
            return
        while len(self._frames) >= self._limit and not self._closed:
            self._has_room.clear()
            await self._has_room.wait()
        if not self._closed:
            self._frames.append(frame)
            self._idle.clear()
            self._filled.set()

    async def say(self, text: str, turn_id: str) -> None:
        """Add a `Token`, as `put` does."""
        if (
            self._write is not None
            and self._idle.is_set()
            and self._write(token_json(text, turn_id))
        ):
            return
        await self.put(Token(text=text, turn_id=turn_id))

    async def get(self) -> ServerFrame:
        """Take the next frame; waits for one. The one taken before counts as sent from now on."""
        while not self._frames:
            self._idle.set()
            self._filled.clear()
            await self._filled.wait()
        self._has_room.set()
        return self._frames.popleft()

    def discard_tokens(self, turn_id: str) -> str:
        """Take back the turn's tokens that nobody has taken yet.

        Returns:
            Their text, which the client will not see.
        """
        kept: deque[ServerFrame] = deque()
        revoked = []
        for frame in self._frames:
            if isinstance(frame, Token) and frame.turn_id == turn_id:
                revoked.append(frame.text)
            else:
                kept.append(frame)
        self._frames = kept
        self._has_room.set()
        return "".join(revoked)

    async def drained(self) -> None:
        """Wait until every frame was taken and sent."""
        await self._idle.wait()

    def close(self) -> None:
        """Nobody takes any more: whoever waits goes on, and later frames are dropped."""
        self._closed = True
        self._write = None
        self._frames.clear()
        self._has_room.set()
        self._idle.set()
