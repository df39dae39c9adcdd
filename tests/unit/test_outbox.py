"""Frames wait in order, never too many of them, and can be taken back."""

from __future__ import annotations

import asyncio

import pytest

from yap.outbox import Outbox
from yap.protocol import Done, Pong, ServerFrame, Token

pytestmark = pytest.mark.usefixtures("no_task_left")


def token(text: str, turn_id: str = "t") -> Token:
    return Token(text=text, turn_id=turn_id)


async def take(outbox: Outbox, count: int) -> list[ServerFrame]:
    return [await outbox.get() for _ in range(count)]


async def turn_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_frames_come_out_in_the_order_in_which_they_went_in() -> None:
    outbox = Outbox(10)
    frames = [token("a"), Pong(), token("b"), Done()]
    for frame in frames:
        await outbox.put(frame)
    assert await take(outbox, 4) == frames


async def test_the_taker_waits_for_a_frame() -> None:
    outbox = Outbox(10)
    taker = asyncio.create_task(outbox.get())
    await turn_the_loop()
    assert not taker.done()
    await outbox.put(Pong())
    assert await taker == Pong()


async def test_a_full_outbox_makes_its_writers_wait() -> None:
    outbox = Outbox(2)
    await outbox.put(token("a"))
    await outbox.put(token("b"))
    writer = asyncio.create_task(outbox.put(token("c")))
    await turn_the_loop()
    assert not writer.done()
    assert await outbox.get() == token("a")
    await writer
    assert await take(outbox, 2) == [token("b"), token("c")]


async def test_however_many_write_it_never_holds_more_than_its_limit() -> None:
    outbox = Outbox(3)
    writers = [asyncio.create_task(outbox.put(token(str(i)))) for i in range(20)]
    taken = 0
    while taken < 20:
        await turn_the_loop()
        assert len(outbox._frames) <= 3
        await outbox.get()
        taken += 1
    await asyncio.gather(*writers)


async def test_the_tokens_of_a_turn_can_be_taken_back() -> None:
    outbox = Outbox(10)
    for frame in (token("a"), token("x", "other"), Pong(), token("b"), token("c")):
        await outbox.put(frame)
    await outbox.get()
    assert outbox.discard_tokens("t") == "bc"
    assert outbox.discard_tokens("t") == ""
    assert await take(outbox, 2) == [token("x", "other"), Pong()]


async def test_taking_back_makes_room() -> None:
    outbox = Outbox(2)
    await outbox.put(token("a"))
    await outbox.put(token("b"))
    writer = asyncio.create_task(outbox.put(Done()))
    await turn_the_loop()
    assert outbox.discard_tokens("t") == "ab"
    await writer
    assert await outbox.get() == Done()


async def test_a_writer_who_is_cancelled_leaves_nothing_behind() -> None:
    outbox = Outbox(1)
    await outbox.put(token("a"))
    writer = asyncio.create_task(outbox.put(token("b")))
    await turn_the_loop()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert outbox.discard_tokens("t") == "a"


async def test_it_is_drained_once_the_last_frame_was_taken_and_the_taker_is_back() -> None:
    outbox = Outbox(10)
    async with asyncio.timeout(1):
        await outbox.drained()
    await outbox.put(Pong())
    drained = asyncio.create_task(outbox.drained())
    await outbox.get()
    await turn_the_loop()
    assert not drained.done()  # taken, but perhaps not sent yet
    taker = asyncio.create_task(outbox.get())
    await drained
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)


async def test_closing_lets_everyone_go_and_drops_what_comes_later() -> None:
    outbox = Outbox(1)
    await outbox.put(token("a"))
    writers = [asyncio.create_task(outbox.put(token(str(i)))) for i in range(3)]
    drained = asyncio.create_task(outbox.drained())
    await turn_the_loop()
    outbox.close()
    async with asyncio.timeout(1):
        await asyncio.gather(*writers, drained)
    for _ in range(10):
        await outbox.put(token("late"))
    assert outbox.discard_tokens("t") == ""


class Socket:
    """Takes what is written while it is free."""

    def __init__(self) -> None:
        self.free = True
        self.written: list[bytes] = []

    def write(self, text: bytes) -> bool:
        if self.free:
            self.written.append(text)
        return self.free


async def test_while_nothing_waits_frames_are_written_as_they_come() -> None:
    socket = Socket()
    outbox = Outbox(2, socket.write)
    for _ in range(5):  # more than may wait
        await outbox.say("é", "t")
        await outbox.put(Pong())
    assert socket.written == [token("é").encode().encode(), Pong().encode().encode()] * 5
    async with asyncio.timeout(1):
        await outbox.drained()
    assert outbox.discard_tokens("t") == ""  # the client has them


async def test_what_cannot_be_written_waits_and_nothing_overtakes_it() -> None:
    socket = Socket()
    outbox = Outbox(10, socket.write)
    socket.free = False
    await outbox.say("a", "t")
    socket.free = True
    await outbox.say("b", "t")
    await outbox.put(Done())
    assert socket.written == []
    assert await take(outbox, 3) == [token("a"), token("b"), Done()]
    await outbox.say("c", "t")  # the taker may still be sending what it took
    assert socket.written == []
    assert await outbox.get() == token("c")
    taker = asyncio.create_task(outbox.get())
    await turn_the_loop()
    await outbox.say("d", "t")
    assert socket.written == [token("d").encode().encode()]
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)


async def test_what_waits_because_nobody_reads_can_be_taken_back() -> None:
    socket = Socket()
    outbox = Outbox(10, socket.write)
    await outbox.say("a", "t")
    socket.free = False
    await outbox.say("b", "t")
    await outbox.say("c", "t")
    assert outbox.discard_tokens("t") == "bc"


async def test_a_client_that_does_not_read_makes_its_writers_wait_either_way() -> None:
    socket = Socket()
    socket.free = False
    outbox = Outbox(1, socket.write)
    await outbox.say("a", "t")
    writer = asyncio.create_task(outbox.say("b", "t"))
    await turn_the_loop()
    assert not writer.done()
    assert await outbox.get() == token("a")
    await writer


async def test_after_the_close_nothing_is_written() -> None:
    socket = Socket()
    outbox = Outbox(10, socket.write)
    outbox.close()
    await outbox.say("late", "t")
    await outbox.put(Done())
    assert socket.written == []
