"""A connection for a person: it comes back when it was lost, and replies can be cut short."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tests.client.background import BackgroundLoop
from tests.client.conversation import Conversation, OnFrame, TurnRecord, connect_to
from tests.client.endpoint import Endpoint
from tests.client.show import TurnView
from tests.client.terminal import Keyboard
from yap.protocol import AnyServerFrame

T = TypeVar("T")
Exchange = Callable[[Conversation, OnFrame], Coroutine[Any, Any, TurnRecord]]


class Line:
    """A telephone line: one connection at a time, opened when it is needed."""

    def __init__(self, loop: BackgroundLoop, endpoint: Endpoint) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._stack = AsyncExitStack()
        self._conversation: Conversation | None = None
        self.opened = 0  # how often

    def open(self) -> Conversation:
        """The connection, made anew where the server has hung up; its session goes on.

        Raises:
            ServerRefusedError: there is none to be had.
        """
        if self._conversation is None or not self._conversation.is_open:
            self.close()
            context = connect_to(self._endpoint)
            self._conversation = self._loop.call(self._stack.enter_async_context(context))
            self.opened += 1
        return self._conversation

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the connection to its end."""
        return self._loop.call(coroutine)

    def close(self) -> None:
        """Hang up."""
        self._conversation = None
        self._loop.call(self._stack.aclose())

    def turn(self, exchange: Exchange, view: TurnView, keyboard: Keyboard) -> TurnRecord:
        """Run one turn, shown as it comes. A key, or Ctrl+C, cuts the reply short.

        The server is told how much of the reply was shown, and what was typed is kept for the
        next line.

        Raises:
            ServerRefusedError: the turn failed.
        """
        conversation = self.open()
        with _Frames() as frames, keyboard.by_key() as keys:
            future = self._loop.begin(exchange(conversation, frames.put))
            future.add_done_callback(lambda _: frames.wake())
            stopped = False
            while not future.done():
                typed = frames.wait(keys)
                if typed and not stopped:
                    stopped = True
                    self._loop.call(conversation.cancel(heard_chars=view.shown))
                if typed is _Typed.KEY and keys is not None:
                    keyboard.take(keys)
                if not stopped:
                    frames.drain(view.show)
            if not stopped:
                frames.drain(view.show)
            view.end("[stopped]" if stopped else "")
            return future.result()


class _Typed:
    """What a person did meanwhile."""

    KEY = "key"
    INTERRUPT = "interrupt"


class _Frames:
    """Frames from the loop's thread, with a descriptor that `select` can wait for."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[AnyServerFrame] = SimpleQueue()
        self._reader, self._writer = os.pipe()

    def __enter__(self) -> _Frames:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def put(self, frame: AnyServerFrame) -> None:
        """Called in the loop's thread."""
        self._queue.put(frame)
        self.wake()

    def wake(self) -> None:
        """Let `wait` return."""
        os.write(self._writer, b".")

    def wait(self, keys: int | None) -> str | None:
        """Wait for a frame or a key."""
        watched = [self._reader] if keys is None else [self._reader, keys]
        try:
            ready, _, _ = select.select(watched, [], [])
            if self._reader in ready:
                os.read(self._reader, 4096)
        except KeyboardInterrupt:
            return _Typed.INTERRUPT
        return _Typed.KEY if keys in ready else None

    def drain(self, show: OnFrame) -> None:
        """Hand over what has come."""
        while True:
            try:
                show(self._queue.get_nowait())
            except Empty:
                return
