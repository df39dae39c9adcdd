"""What is begun ahead is there when it is wanted, and gone when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from yap.ahead import Ahead

pytestmark = pytest.mark.usefixtures("no_task_left")


class Stream:
    """Numbers, and how far it has come."""

    def __init__(self, count: int, fault: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self._count = count
        self._fault = fault

    async def items(self) -> AsyncGenerator[int]:
        try:
            for number in range(self._count):
                await asyncio.sleep(0)
                self.given += 1
                yield number
            if self._fault is not None:
                raise self._fault
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_all_items_come_in_order(count: int) -> None:
    stream = Stream(count)
    ahead = Ahead(stream.items())
    assert [item async for item in ahead.items()] == list(range(count))
    await ahead.drop()
    assert stream.closed


async def test_the_first_item_is_worked_on_and_no_more() -> None:
    stream = Stream(5)
    ahead = Ahead(stream.items())
    for _ in range(20):
        await asyncio.sleep(0)
    assert stream.given == 1
    await ahead.drop()
    assert stream.closed


async def test_what_it_raises_is_raised_to_who_reads() -> None:
    for count in (0, 1):
        ahead = Ahead(Stream(count, ValueError("a bug")).items())
        with pytest.raises(ValueError, match="a bug"):
            _ = [item async for item in ahead.items()]
        await ahead.drop()


async def test_what_it_raises_is_nobodys_concern_when_it_is_dropped() -> None:
    ahead = Ahead(Stream(0, ValueError("a bug")).items())
    await asyncio.sleep(0)
    await ahead.drop()
    await ahead.drop()


async def test_it_can_be_dropped_before_it_has_begun() -> None:
    stream = Stream(5)
    await Ahead(stream.items()).drop()
    assert stream.given == 0
