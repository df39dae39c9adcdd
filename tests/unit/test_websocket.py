"""The short way out of the WebSocket: the same bytes, in order, and only when it is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
import websockets

from yap.websocket import WRITE_TEXT, DirectWebSocket, WriteText, write_text_of

Handler = Callable[[WriteText, Any], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler, **config: Any) -> AsyncIterator[str]:
    """uvicorn with the protocol and a bare ASGI application; its address."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        write = write_text_of(scope)
        assert write is not None
        await handler(write, send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    settings = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws=DirectWebSocket, log_level="error", **config
    )
    server = uvicorn.Server(settings)
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        await running


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
async def test_a_message_of_any_length_arrives_as_it_is(length: int) -> None:
    text = ("é" * length)[:length]

    async def handler(write: WriteText, send: Any) -> None:
        assert write(text.encode())

    async with (
        served(handler, ws_per_message_deflate=False) as url,
        websockets.connect(url, max_size=None, compression=None) as client,
    ):
        assert await client.recv() == text


async def test_both_ways_keep_the_order() -> None:
    async def handler(write: WriteText, send: Any) -> None:
        for number in range(100):
            if number % 3:
                assert write(str(number).encode())
            else:
                await send({"type": "websocket.send", "text": str(number)})

    async with (
        served(handler, ws_per_message_deflate=False) as url,
        websockets.connect(url, compression=None) as client,
    ):
        assert [await client.recv() for _ in range(100)] == [str(n) for n in range(100)]


async def test_a_client_that_does_not_read_is_not_written_to() -> None:
    written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    piece = b"x" * 10_000

    async def handler(write: WriteText, send: Any) -> None:
        count = 0
        while write(piece):
            count += 1
            assert count < 10_000, "it never says no"
            await asyncio.sleep(0)
        written.set_result(count)
        async with asyncio.timeout(10):
            await send({"type": "websocket.send", "text": "waited"})  # until there is room
        assert write(b"again")

    async with (
        served(handler, ws_per_message_deflate=False) as url,
        websockets.connect(url, max_queue=1, compression=None) as client,
    ):
        async with asyncio.timeout(10):
            count = await written
        received = [await client.recv() for _ in range(count + 2)]
        assert received[-2:] == ["waited", "again"]
        assert set(received[:-2]) == {piece.decode()}


async def test_after_the_close_nothing_is_written() -> None:
    later: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def handler(write: WriteText, send: Any) -> None:
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        later.set_result(write(b"late"))

    async with (
        served(handler, ws_per_message_deflate=False) as url,
        websockets.connect(url, compression=None) as client,
    ):
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4000
        assert await later is False


async def test_a_client_that_has_gone_is_not_written_to() -> None:
    asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()

    async def handler(write: WriteText, send: Any) -> None:
        await gone.wait()
        async with asyncio.timeout(5):
            while write(b"anybody?"):  # noqa: ASYNC110 - until the system tells
                await asyncio.sleep(0.01)
        asked.set_result(True)

    async with served(handler, ws_per_message_deflate=False) as url:
        client = await websockets.connect(url, compression=None)
        client.transport.abort()
        gone.set()
        assert await asked


@pytest.mark.parametrize("parts", [[b"\xff"], [b"\xc3", b"\xa9\xc3"]])
async def test_text_that_is_not_utf_8_is_the_clients_fault_and_not_logged(
    parts: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(write: WriteText, send: Any) -> None:
        pass

    async with (
        served(handler, ws_per_message_deflate=False, log_config=None) as url,
        websockets.connect(url, compression=None) as client,
    ):
        await client.send(parts, text=True)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1007
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_letters_that_are_cut_between_frames_are_whole() -> None:
    async def handler(write: WriteText, send: Any) -> None:
        pass

    async with (
        served(handler, ws_per_message_deflate=False) as url,
        websockets.connect(url, compression=None) as client,
    ):
        await client.send([b"\xc3", b"\xa9"], text=True)
        await (await client.ping())
        await client.close()
        assert client.close_code == 1000


async def test_compressed_connections_go_the_long_way() -> None:
    async def handler(write: WriteText, send: Any) -> None:
        assert not write(b"plain")
        await send({"type": "websocket.send", "text": "compressed"})

    async with (
        served(handler, ws_per_message_deflate=True) as url,
        websockets.connect(url, compression="deflate") as client,
    ):
        assert await client.recv() == "compressed"


async def test_a_handshake_that_is_refused_is_refused_as_before() -> None:
    async def handler(write: WriteText, send: Any) -> None:
        raise AssertionError("nobody was let in")

    async with served(handler) as url:
        host, port = url.removeprefix("ws://").rstrip("/").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        async with asyncio.timeout(5):
            assert b" 400 " in await reader.readline()
        writer.close()


def test_other_servers_have_no_short_way() -> None:
    assert write_text_of({"type": "websocket"}) is None
    assert write_text_of({"type": "websocket", "extensions": None}) is None
    assert write_text_of({"extensions": {WRITE_TEXT: len}}) is len
