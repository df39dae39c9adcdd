"""Background work gives way to turns, comes to its end all the same, and never waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from yap.chat.background import Background
from yap.errors import EngineFailed, TurnTimeout

pytestmark = pytest.mark.usefixtures("no_task_left")


class Work:
    """Takes until it is let go, and remembers how often it was begun and interrupted."""

    def __init__(self) -> None:
        self.begun = 0
        self.interrupted = 0
        self.go = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.interrupted += 1
            raise


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_where_no_turn_waits_work_is_done_at_once() -> None:
    work = Work()
    work.go.set()
    await Background().run(work, 1)
    assert (work.begun, work.interrupted) == (1, 0)


async def test_a_turn_interrupts_work_which_begins_anew_after_its_first_token() -> None:
    background, work = Background(), Work()
    running = asyncio.create_task(background.run(work, 5))
    await ticks()
    async with background.first_token(of_turn=True) as first:
        await ticks()
        assert (work.begun, work.interrupted) == (1, 1)
        first.came()
        await ticks()
        assert (work.begun, work.interrupted) == (2, 1)  # beside the rest of the reply
    work.go.set()
    await running
    assert (work.begun, work.interrupted) == (2, 1)


async def test_work_waits_until_the_last_of_several_turns_has_its_first_token() -> None:
    background, work = Background(), Work()
    work.go.set()
    async with background.first_token(of_turn=True) as one:
        async with background.first_token(of_turn=True) as other:
            running = asyncio.create_task(background.run(work, 5))
            one.came()
            one.came()  # each token says so
            await ticks()
            assert work.begun == 0
            other.came()
        await running
    assert work.begun == 1


async def test_a_turn_that_ends_without_a_token_waits_no_longer() -> None:
    background, work = Background(), Work()
    work.go.set()
    with pytest.raises(EngineFailed):
        async with background.first_token(of_turn=True):
            raise EngineFailed("It failed.")
    await background.run(work, 1)


async def test_work_does_not_interrupt_work() -> None:
    background, work = Background(), Work()
    running = asyncio.create_task(background.run(work, 5))
    await ticks()
    async with background.first_token(of_turn=False) as first:
        await ticks()
        first.came()
    work.go.set()
    await running
    assert (work.begun, work.interrupted) == (1, 0)


async def test_only_so_much_runs_at_a_time() -> None:
    background, work = Background(places=2), Work()
    running = [asyncio.create_task(background.run(work, 5)) for _ in range(5)]
    await ticks()
    assert work.begun == 2
    work.go.set()
    await asyncio.gather(*running)
    assert work.begun == 5


async def test_its_patience_with_turns_ends() -> None:
    background, work = Background(patience_s=0.02), Work()
    running = asyncio.create_task(background.run(work, 5))
    await ticks()
    async with background.first_token(of_turn=True):
        await asyncio.sleep(0.05)
        assert (work.begun, work.interrupted) == (2, 1)
        async with background.first_token(of_turn=True):  # another turn finds it running
            await ticks()
            assert (work.begun, work.interrupted) == (2, 1)
        work.go.set()
        await running


@pytest.mark.parametrize("busy", [False, True])
async def test_work_that_is_not_done_in_time_is_given_up(busy: bool) -> None:
    background, work = Background(), Work()
    async with background.first_token(of_turn=busy):
        with pytest.raises(TurnTimeout):
            await background.run(work, 0.02)
    assert (work.begun, work.interrupted) == ((0, 0) if busy else (1, 1))


async def test_waiting_for_a_place_ends_in_time_too() -> None:
    background, work = Background(places=1), Work()
    running = asyncio.create_task(background.run(work, 5))
    await ticks()
    with pytest.raises(TurnTimeout):
        await background.run(work, 0.02)
    work.go.set()
    await running
    assert work.begun == 1


async def test_work_that_is_cancelled_stays_cancelled_and_leaves_its_place() -> None:
    background, work = Background(places=1), Work()
    running = asyncio.create_task(background.run(work, 5))
    await ticks()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with background.first_token(of_turn=True):  # nothing is left that it would interrupt
        await ticks()
    work.go.set()
    await background.run(work, 1)
    assert (work.begun, work.interrupted) == (2, 1)


@pytest.mark.parametrize("error", [EngineFailed("It failed."), TimeoutError()])
async def test_what_work_raises_is_raised(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        await Background().run(work, 1)
