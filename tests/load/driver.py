"""Drives sessions against a server: so many at a time, or as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from time import perf_counter

from tests.load.connection import ConnectError, Connection
from tests.load.pool import Lease, Pool
from tests.load.results import TurnResult, result_of
from tests.load.trace import Ask, Trace
from tests.load.workload import SessionPlan, TurnPlan

# An arriving session has its connection by then, as a user has it before speaking.
_LEAD_S = 0.25
# How late a timer of the event loop may be: what is later counts against the server.
_TIMER_S = 0.002


@dataclass(slots=True)
class Served:
    """The turns of one phase. `interrupted`: it was stopped by hand, and is not whole."""

    begun: float = field(default_factory=perf_counter)
    results: list[TurnResult] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    failed: int = 0

    def add(self, result: TurnResult) -> None:
        """Take a turn in."""
        self.results.append(result)
        self.failed += result.outcome == "failed"


class Driver:
    """Serves sessions from a pool of connections and collects what came of their turns.

    Attributes:
        served: grows while it works; who shows progress looks at it.
    """

    def __init__(self, pool: Pool, timeout: float, duration: float = 0.0) -> None:
        """
        Args:
            timeout: the longest that a turn may take, in seconds.
            duration: after so many seconds no turn begins any more; 0 is no limit.
        """
        self.served = Served()
        self._pool = pool
        self._timeout = timeout
        self._until = self.served.begun + duration if duration else float("inf")

    async def closed_loop(self, sessions: Iterator[SessionPlan], clients: int) -> Served:
        """So many clients; each takes the next session when its last one is over."""

        async def client() -> None:
            for session in sessions:
                if perf_counter() >= self._until:
                    return
                await self._session(session)

        return await self._finish([asyncio.create_task(client()) for _ in range(clients)])

    async def open_loop(self, sessions: Iterator[SessionPlan], times: Iterator[float]) -> Served:
        """Sessions begin at `times`, in seconds from now, whatever became of the others."""
        # From now, for the task itself is a moment late.
        self.served.begun = zero = perf_counter() + _LEAD_S
        tasks: list[asyncio.Task[None]] = []
        try:
            for session, at in zip(sessions, times, strict=False):
                if zero + at >= self._until:
                    break
                await asyncio.sleep(zero + at - _LEAD_S - perf_counter())
                tasks.append(asyncio.create_task(self._session(session, zero + at)))
        except asyncio.CancelledError:
            self.served.interrupted = True
            for task in tasks:
                task.cancel()
        return await self._finish(tasks)

    async def _finish(self, tasks: list[asyncio.Task[None]]) -> Served:
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            self.served.interrupted = True
            await asyncio.gather(*tasks, return_exceptions=True)
        self.served.seconds = perf_counter() - self.served.begun
        return self.served

    async def _session(self, session: SessionPlan, due: float | None = None) -> None:
        made = 0
        try:
            async with self._pool.lease() as lease:
                if due is not None:
                    await asyncio.sleep(due - perf_counter())
                async for result in self._turns(lease, session, due):
                    made += 1
                    self.served.add(result)
        except ConnectError as error:
            trace = Trace(sent=perf_counter())
            trace.fail(error.code, str(error))
            self.served.add(result_of(trace, session.session_id, made, self.served.begun))

    async def _turns(
        self, lease: Lease, session: SessionPlan, due: float | None
    ) -> AsyncIterator[TurnResult]:
        """The session's turns. One that failed is its last: there is nothing to go on with."""
        history: list[tuple[str, str]] = []
        for number, plan in enumerate(session.turns):
            if number:
                await asyncio.sleep(plan.pause_s)
                due = None
                if perf_counter() >= self._until:
                    return
            ask = Ask(session.session_id, session.persona, tuple(history), plan.utterance)
            trace = await self._turn(await lease.connection(), ask, plan, due)
            yield result_of(trace, session.session_id, number, self.served.begun, due)
            if trace.failure is not None:
                return
            history.append((plan.utterance, "".join(trace.texts)))

    async def _turn(
        self, connection: Connection, ask: Ask, plan: TurnPlan, due: float | None
    ) -> Trace:
        trace = Trace()
        if due is not None and perf_counter() - due > _TIMER_S:
            trace.started = due  # the user did not wait for a free connection to speak
        timers: list[asyncio.TimerHandle] = []
        if (delay := plan.cancel_after_s) is not None:
            loop = asyncio.get_running_loop()
            trace.first_token = lambda: timers.append(loop.call_later(delay, connection.interrupt))
        await connection.turn(ask, trace, self._timeout)
        for timer in timers:
            timer.cancel()
        if not trace.arrivals and trace.toolcall is None and not trace.cancelled:
            trace.fail("empty_reply", "The reply held no token.")
        return trace
