"""A deadline for many short waits."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """Limits waits that follow each other, with one timer for all of them.

        with deadline.until(when):
            await something

    `asyncio.timeout_at` makes and unmakes a timer for every wait, which costs more than most waits
    of a stream take. Here the timer stays, and when it rings it looks at what is waited for then.
    Waits must not overlap; each may be in another task. Whoever owns it calls `close` in the end.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_rings_at", "_task", "_timer", "_when")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._when = 0.0
        self._task: asyncio.Task[object] | None = None  # that waits now
        self._cancelling = 0  # what had cancelled it before
        self._expired = False

    def until(self, when: float) -> Deadline:
        """A context whose block is cancelled at `when`, by the loop's clock.

        It raises `TimeoutError` then, as `asyncio.timeout_at` does.
        """
        self._when = when
        return self

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("only a task can wait")
        self._task = task
        self._cancelling = task.cancelling()
        if self._timer is None or self._when < self._rings_at:
            self._ring_at(self._when)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._expired and task is not None:
            self._expired = False
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_at(self, when: float) -> None:
        self.close()
        self._rings_at = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None or self._expired:
            return  # nobody waits; the next wait sets it again
        if self._loop.time() < self._when:  # the wait that it was set for is over
            self._ring_at(self._when)
            return
        self._expired = True
        self._task.cancel()
