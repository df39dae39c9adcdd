"""As many get in as there is room for, and nobody speaks more often than allowed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stand_ins import Clock
from yap.admission import Admission, SlidingWindow
from yap.errors import AtCapacity, RateLimited, YapError
from yap.protocol import ErrorCode

CODE = ErrorCode.MESSAGE_RATE_LIMITED


def retry_in(window: SlidingWindow) -> int | None:
    """Seconds to wait, or None where the event was let through."""
    try:
        window.hit()
    except RateLimited as error:
        return error.retry_in
    return None


# Rate limits


def test_so_many_are_let_through_in_a_window_and_then_none() -> None:
    clock = Clock()
    window = SlidingWindow(3, 60, CODE, clock)
    assert [retry_in(window) for _ in range(3)] == [None] * 3
    assert retry_in(window) == 60


def test_a_refusal_names_its_code_and_says_when_to_come_back() -> None:
    clock = Clock()
    window = SlidingWindow(1, 60, ErrorCode.CANCEL_RATE_LIMITED, clock)
    window.hit()
    clock.now += 12.25
    with pytest.raises(RateLimited) as raised:
        window.hit()
    assert raised.value.code is ErrorCode.CANCEL_RATE_LIMITED
    assert raised.value.retry_in == 48
    assert "48 s" in raised.value.message


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (ErrorCode.MESSAGE_RATE_LIMITED, "messages"),
        (ErrorCode.CANCEL_RATE_LIMITED, "cancels"),
        (ErrorCode.CHAT_PROMPT_RATE_LIMITED, "persona changes"),
    ],
)
def test_a_refusal_says_what_came_too_often(code: ErrorCode, what: str) -> None:
    window = SlidingWindow(1, 60, code, Clock())
    window.hit()
    with pytest.raises(RateLimited, match=f"^Too many {what}; try again"):
        window.hit()


def test_a_refused_event_is_not_counted() -> None:
    clock = Clock()
    window = SlidingWindow(1, 10, CODE, clock)
    window.hit()
    for _ in range(9):
        clock.now += 1
        assert retry_in(window) is not None
    clock.now += 1.5
    assert retry_in(window) is None


def test_the_window_slides() -> None:
    clock = Clock()
    window = SlidingWindow(2, 10, CODE, clock)
    window.hit()
    clock.now += 6
    window.hit()
    clock.now += 4.5  # the first has left
    assert retry_in(window) is None
    assert retry_in(window) == 6  # the second leaves in 5.5


@pytest.mark.parametrize(("limit", "window"), [(0, 60), (3, 0), (0, 0)])
def test_zero_lets_all_through(limit: int, window: float) -> None:
    endless = SlidingWindow(limit, window, CODE, Clock())
    assert {retry_in(endless) for _ in range(100)} == {None}


@given(
    st.integers(1, 5),
    st.integers(1, 120),
    st.lists(st.integers(0, 100), min_size=1, max_size=40),
)
def test_who_waits_as_long_as_he_is_told_gets_through(
    limit: int, seconds: int, pauses: list[int]
) -> None:
    clock = Clock()
    window = SlidingWindow(limit, seconds, CODE, clock)
    for pause in pauses:
        clock.now += pause
        wait = retry_in(window)
        if wait is not None:
            assert 1 <= wait <= seconds
            clock.now += wait
            assert retry_in(window) is None


@given(st.integers(1, 5), st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_no_window_ever_holds_more_than_the_limit(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    window = SlidingWindow(limit, 10, CODE, clock)
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        if retry_in(window) is None:
            passed.append(clock.now)
    for i in range(len(passed) - limit):
        assert passed[i + limit] - passed[i] >= 10


# Permits


async def test_a_permit_is_held_for_the_time_of_the_block() -> None:
    admission = Admission(2, 0.01)
    async with admission.permit():
        assert admission.active == 1
        async with admission.permit():
            assert admission.active == 2
    assert admission.active == 0


async def test_a_permit_comes_back_when_the_block_fails() -> None:
    admission = Admission(1, 0.01)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission.permit():
                raise ZeroDivisionError
    assert admission.active == 0


async def test_who_finds_no_place_is_told_how_full_it_is() -> None:
    admission = Admission(1, 0.01)
    async with admission.permit():
        with pytest.raises(AtCapacity) as raised:
            async with admission.permit():
                pytest.fail("there was no room")
        assert admission.active == 1
    assert (raised.value.active, raised.value.limit) == (1, 1)
    assert "1/1" in raised.value.message


async def test_with_no_time_to_wait_a_free_place_is_still_given() -> None:
    admission = Admission(1, 0)
    async with admission.permit():
        with pytest.raises(AtCapacity):
            async with admission.permit():
                pytest.fail("there was no room")
    async with admission.permit():
        assert admission.active == 1


async def test_a_place_that_comes_free_in_time_is_given_to_who_waits() -> None:
    admission = Admission(1, 5)
    entered = asyncio.Event()

    async def wait() -> None:
        async with admission.permit():
            entered.set()

    async with admission.permit():
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        assert not entered.is_set()
    await waiter
    assert admission.active == 0


async def test_who_gives_up_waiting_takes_no_place_with_him() -> None:
    admission = Admission(1, 5)

    async def wait() -> None:
        async with admission.permit():
            pytest.fail("he had given up")

    async with admission.permit():
        waiters = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0.01)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert admission.active == 1
    async with asyncio.timeout(1), admission.permit():
        assert admission.active == 1


async def test_no_place_is_lost_however_comings_and_goings_interleave() -> None:
    """Many wait with deadlines that expire, or are cancelled, just as places come free."""
    admission = Admission(3, 0.002)

    async def visit(number: int) -> None:
        async with admission.permit():
            await asyncio.sleep(0.001 * (number % 3))

    for _ in range(10):
        visits = [asyncio.create_task(visit(number)) for number in range(20)]
        await asyncio.sleep(0.002)
        for task in visits[::3]:
            task.cancel()
        for result in await asyncio.gather(*visits, return_exceptions=True):
            assert result is None or isinstance(result, AtCapacity | asyncio.CancelledError)
    assert admission.active == 0
    async with admission.permit(), admission.permit(), admission.permit():
        assert admission.active == 3


async def test_while_the_server_drains_nobody_gets_in() -> None:
    admission = Admission(1, 5)
    admission.draining = True
    with pytest.raises(YapError) as raised:
        async with admission.permit():
            pytest.fail("it drains")
    assert raised.value.code is ErrorCode.SERVER_DRAINING
    assert raised.value.http_status == 503


async def test_who_waits_when_the_server_begins_to_drain_is_turned_away() -> None:
    admission = Admission(1, 5)

    async def wait() -> None:
        async with admission.permit():
            pytest.fail("it drains")

    async with admission.permit():
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        admission.draining = True
    with pytest.raises(YapError) as raised:
        await waiter
    assert raised.value.code is ErrorCode.SERVER_DRAINING
    assert admission.active == 0
