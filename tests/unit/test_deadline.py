"""One timer limits many waits, each as `asyncio.timeout_at` would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from unittest.mock import Mock

import pytest

from tests.unit.virtual_time import run
from yap.deadline import Deadline

Work = Callable[[Deadline], Awaitable[None]]


def now() -> float:
    return asyncio.get_running_loop().time()


def play(work: Work) -> None:
    async def whole() -> None:
        deadline = Deadline()
        try:
            await work(deadline)
        finally:
            deadline.close()

    run(whole())


def test_a_wait_that_lasts_too_long_is_ended_at_its_time() -> None:
    async def work(deadline: Deadline) -> None:
        begun = now()
        with pytest.raises(TimeoutError), deadline.until(begun + 3):
            await asyncio.sleep(60)
        assert now() - begun == pytest.approx(3)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0

    play(work)


def test_each_wait_has_a_time_of_its_own() -> None:
    async def work(deadline: Deadline) -> None:
        for _ in range(10):  # longer in all than any of them may be
            with deadline.until(now() + 2):
                await asyncio.sleep(1)
        begun = now()
        with pytest.raises(TimeoutError), deadline.until(begun + 2):
            await asyncio.sleep(60)
        assert now() - begun == pytest.approx(2)

    play(work)


@pytest.mark.parametrize(("first", "second"), [(10.0, 1.0), (1.0, 10.0)])
def test_a_later_wait_may_have_less_time_or_more(first: float, second: float) -> None:
    async def work(deadline: Deadline) -> None:
        with deadline.until(now() + first):
            await asyncio.sleep(0)
        begun = now()
        with pytest.raises(TimeoutError), deadline.until(begun + second):
            await asyncio.sleep(60)
        assert now() - begun == pytest.approx(second)

    play(work)


def test_between_waits_nothing_is_ended() -> None:
    async def work(deadline: Deadline) -> None:
        with deadline.until(now() + 1):
            pass
        await asyncio.sleep(10)  # its time is over, and nobody waited
        with deadline.until(now() + 1):
            await asyncio.sleep(0.5)

    play(work)


def test_a_time_that_is_over_ends_a_wait_and_nothing_that_is_there_already() -> None:
    async def work(deadline: Deadline) -> None:
        with deadline.until(now() - 1):
            pass
        with pytest.raises(TimeoutError), deadline.until(now() - 1):
            await asyncio.sleep(60)

    play(work)


def test_many_waits_take_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(deadline: Deadline) -> None:
        loop = asyncio.get_running_loop()
        call_at = Mock(wraps=loop.call_at)
        monkeypatch.setattr(loop, "call_at", call_at)
        until = now() + 60
        for _ in range(1000):
            with deadline.until(until):
                await asyncio.sleep(0)
        assert call_at.call_count == 1

    play(work)


def test_a_cancellation_stays_one() -> None:
    async def work(deadline: Deadline) -> None:
        async def wait() -> None:
            with deadline.until(now() + 5):
                await asyncio.sleep(60)

        task = asyncio.create_task(wait())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(10)  # the timer rings, and ends nobody else

    play(work)


def test_who_is_cancelled_just_when_time_is_over_is_cancelled() -> None:
    async def work(deadline: Deadline) -> None:
        async def wait() -> None:
            with deadline.until(now() + 5):
                await asyncio.sleep(60)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(now() + 5, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    play(work)


def test_another_failure_is_not_covered_up() -> None:
    async def work(deadline: Deadline) -> None:
        async def fail() -> None:
            await asyncio.sleep(1)
            raise KeyError

        with pytest.raises(KeyError), deadline.until(now() + 5):
            await fail()

    play(work)


def test_waits_may_be_in_one_task_after_the_other() -> None:
    async def work(deadline: Deadline) -> None:
        async def stream() -> AsyncIterator[int]:
            for number in range(3):
                with deadline.until(now() + 2):
                    await asyncio.sleep(1)
                yield number
            with deadline.until(now() + 2):
                await asyncio.sleep(60)

        items = stream()
        assert await asyncio.create_task(anext(items)) == 0  # type: ignore[arg-type]
        assert [await anext(items), await anext(items)] == [1, 2]
        with pytest.raises(TimeoutError):
            await anext(items)

    play(work)
