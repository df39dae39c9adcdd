"""Work of the chat engine that gives way to turns: personas and histories read in advance.

vLLM's priority only orders its waiting queue. A request that it has admitted keeps its place and
its share of every step, so that a long prompt read in the background would delay the first token
of a turn that comes meanwhile. Hence little of it runs at a time, none of it while a turn waits
for its first token, and what runs when a turn comes is aborted and begun anew later: the blocks
that it has read are in the prefix cache by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final

from yap.errors import TurnTimeout

# At once; turns keep all other places of the engine.
_PLACES: Final = 2
# So long it makes room for turns. A server that is never quiet would else never come to it.
_PATIENCE_S: Final = 5.0


class Background:
    """Runs what can wait. All methods belong on one event loop."""

    def __init__(self, places: int = _PLACES, patience_s: float = _PATIENCE_S) -> None:
        """
        Args:
            places: how much of it runs at once.
            patience_s: how long after it was asked for a piece of work gives way to turns.
        """
        self._places = asyncio.Semaphore(places)
        self._patience_s = patience_s
        self._turns = 0  # that wait for their first token
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._giving_way: set[asyncio.Timeout] = set()

    def first_token(self, *, of_turn: bool) -> FirstToken:
        """A context for one request of the engine: a turn's keeps work away until it `came`."""
        return FirstToken(self if of_turn else None)

    async def run(self, work: Callable[[], Awaitable[None]], within: float) -> None:
        """Do `work`; where a turn interrupts it, it is cancelled and done anew.

        Args:
            within: seconds, waiting included.

        Raises:
            TurnTimeout: it was not done in time.
        """
        patient_until = asyncio.get_running_loop().time() + self._patience_s
        deadline = asyncio.timeout(within)
        try:
            async with deadline, self._places:
                while not await self._attempt(work, patient_until):
                    pass
        except TimeoutError:
            if not deadline.expired():
                raise
            raise TurnTimeout("The server was too busy to read it in time; try again.") from None

    async def _attempt(self, work: Callable[[], Awaitable[None]], patient_until: float) -> bool:
        """Whether `work` was done; a turn may have come in between."""
        if not await self._is_quiet(patient_until):
            await work()
            return True
        interruption = asyncio.timeout(None)
        try:
            async with interruption:
                self._giving_way.add(interruption)
                await work()
        except TimeoutError:
            if not interruption.expired():
                raise
            return False
        finally:
            self._giving_way.discard(interruption)
        return True

    async def _is_quiet(self, until: float) -> bool:
        """Wait for a moment in which no turn waits; false if there is none."""
        try:
            async with asyncio.timeout_at(until):
                while self._turns:  # one may have come between the event and this task's turn
                    await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def _turn_comes(self) -> None:
        self._turns += 1
        self._quiet.clear()
        now = asyncio.get_running_loop().time()
        while self._giving_way:
            self._giving_way.pop().reschedule(now)

    def _turn_is_served(self) -> None:
        self._turns -= 1
        if not self._turns:
            self._quiet.set()


class FirstToken:
    """What a request waits for: from entering the context to `came`, or to the end of it."""

    __slots__ = ("_background",)

    def __init__(self, background: Background | None) -> None:
        """
        Args:
            background: what gives way meanwhile, if anything does.
        """
        self._background = background

    async def __aenter__(self) -> FirstToken:
        if self._background is not None:
            self._background._turn_comes()
        return self

    def came(self) -> None:
        """It is there; called again, this does nothing."""
        if self._background is not None:
            self._background._turn_is_served()
            self._background = None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.came()
