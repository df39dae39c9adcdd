"""Several servers behind a proxy, and clients that keep talking whatever happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests.client.conversation import Conversation, TurnRecord, connect_to
from tests.client.endpoint import Endpoint, pauses
from tests.client.errors import (
    ConnectionLostError,
    ErrorFrameError,
    ServerRefusedError,
    SilentError,
)
from tests.client.timing import quantile
from tests.e2e.harness import API_KEY, ROOT, ServerProcess, free_port
from tests.e2e.talk import PERSONA
from yap.protocol import AnyServerFrame, Done

PROXY_CONFIG = ROOT / "deploy" / "proxy" / "haproxy.cfg"
# Debian installs it where only root's PATH looks.
_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_PROXY_UP_S = 10.0
_TOPICS = ("tea", "the sea", "music", "books", "a walk", "breakfast", "rain", "your day")


def find_proxy() -> str | None:
    """The proxy's program; None where it is not installed."""
    return shutil.which("haproxy", path=_PLACES)


@contextmanager
def proxy_before(program: str, replicas: Sequence[str], log: Path) -> Iterator[str]:
    """The proxy of deploy/proxy before two replicas; gives its host:port."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "YAP_PROXY_BIND": address,
        "YAP_REPLICA_1": replicas[0],
        "YAP_REPLICA_2": replicas[1],
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-db", "-f", str(PROXY_CONFIG)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(address, process, log)
        yield address
    finally:
        process.kill()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + _PROXY_UP_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"the proxy does not answer:\n{log.read_text(errors='replace')}")


class Fleet:
    """Two places for replicas; whatever is there, each place keeps its port."""

    def __init__(self, home: Path, **settings: str) -> None:
        self._home = home
        self._settings = settings
        self._ports = [free_port(), free_port()]
        self._made = 0
        self.servers: list[ServerProcess | None] = [None, None]

    @property
    def addresses(self) -> list[str]:
        """host:port of each place."""
        return [f"127.0.0.1:{port}" for port in self._ports]

    def __getitem__(self, place: int) -> ServerProcess:
        server = self.servers[place]
        assert server is not None
        return server

    def start(self, place: int) -> ServerProcess:
        """Start a replica there; it is not ready yet."""
        self._made += 1
        home = self._home / f"replica-{self._made}"
        home.mkdir()
        with mock.patch("tests.e2e.harness.free_port", return_value=self._ports[place]):
            server = ServerProcess(home, **self._settings)
        self.servers[place] = server
        return server

    def fill(self) -> None:
        """Start what is missing, and wait until both are ready."""
        for place, server in enumerate(self.servers):
            if server is None:
                self.start(place)
        for server in self.servers:
            assert server is not None
            server.wait_ready()

    def kill(self, place: int) -> float:
        """SIGKILL every process there, as when a machine is gone; returns when."""
        found = list(self[place].processes())
        killed = time.monotonic()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self[place].destroy()
        self.servers[place] = None
        return killed

    def drain(self, place: int) -> int:
        """SIGTERM, as a rolling update sends it; returns the exit code."""
        code = self[place].stop()
        self[place].wait_until_gone(10)
        self.servers[place] = None
        return code

    def destroy(self) -> None:
        """Leave nothing."""
        for server in self.servers:
            if server is not None:
                server.destroy()


@dataclass(slots=True)
class Attempt:
    """One `start` and what came of it. Times are of `time.monotonic`."""

    caller: str
    turn: int
    sent: float
    ended: float
    acked: bool  # a turn was in flight
    reason: str  # finish_reason of its `done`, error code, or how the connection ended
    first_token: float | None = None
    prompt_tokens: int = 0

    @property
    def done(self) -> bool:
        """Whether the turn was played to its end."""
        return self.reason in ("stop", "length")


@dataclass(slots=True)
class Caller:
    """A client as docs/protocol.md asks for one.

    It keeps the conversation itself, comes back with growing pauses when its connection was lost
    or it was refused, gives the history to a server that may not have it, and sends again what
    has not ended with `done`.
    """

    name: str
    proxy: str
    pause_s: float  # between two turns
    attempts: list[Attempt] = field(default_factory=list)
    connections: int = 0
    history: list[dict[str, str]] = field(default_factory=list)
    in_turn: bool = False  # one has been acknowledged, and is not over
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _conversation: Conversation | None = None

    async def talk(self, until: asyncio.Event) -> None:
        """Take turns until the event is set; the turn that runs then is played to its end."""
        try:
            turn = 0
            while not until.is_set():
                await self._take(turn)
                turn += 1
                await asyncio.sleep(self.pause_s)
        finally:
            await self._hang_up()

    async def _take(self, turn: int) -> None:
        """One turn, as often as it takes."""
        utterance = f"Tell me something about {_TOPICS[turn % len(_TOPICS)]}, please."
        waits = pauses()
        while True:
            fresh = self._conversation is None or not self._conversation.is_open
            begun = time.monotonic()
            try:
                conversation = await self._connected()
                begun = time.monotonic()
                frame = self._start(utterance, with_history=fresh)
                record = await conversation.turn(frame, self._on_frame)
            except SilentError:
                raise  # the one thing that must never happen
            except ServerRefusedError as error:
                self._note(turn, begun, error.record, _words(error))
                await self._hang_up()
                await asyncio.sleep(next(waits))
                continue
            assert record.done is not None
            self._note(turn, begun, record, record.done.finish_reason or "none")
            self.history += [
                {"role": "user", "content": utterance},
                {"role": "assistant", "content": record.text},
            ]
            return

    def _start(self, utterance: str, *, with_history: bool) -> dict[str, object]:
        start: dict[str, object] = {
            "session_id": self.name,
            "gender": "female",
            "personality": "friendly",
            "personalities": {"friendly": []},
            "chat_prompt": PERSONA,
            "user_utterance": utterance,
        }
        return start | ({"history": self.history} if with_history else {})

    def _on_frame(self, frame: AnyServerFrame) -> None:
        self.in_turn = not isinstance(frame, Done)

    def _note(self, turn: int, begun: float, record: TurnRecord | None, reason: str) -> None:
        self.in_turn = False
        ttft = record.ttft_ms if record else None
        done = record.done if record else None
        self.attempts.append(
            Attempt(
                self.name,
                turn,
                begun,
                time.monotonic(),
                acked=record is not None and record.ack is not None,
                reason=reason,
                first_token=None if ttft is None else begun + ttft / 1000,
                prompt_tokens=done.usage.prompt_tokens if done and done.usage else 0,
            )
        )

    async def _connected(self) -> Conversation:
        if self._conversation is None or not self._conversation.is_open:
            await self._hang_up()
            endpoint = Endpoint(
                f"ws://{self.proxy}/ws?session={self.name}", API_KEY, timeout=60, retry_s=60
            )
            self._conversation = await self._stack.enter_async_context(connect_to(endpoint))
            self.connections += 1
        return self._conversation

    async def _hang_up(self) -> None:
        self._conversation = None
        await self._stack.aclose()


def _words(error: ServerRefusedError) -> str:
    if isinstance(error, ErrorFrameError):
        return error.frame.error_code.value
    if isinstance(error, ConnectionLostError):
        return f"closed {error.code}" if error.code else "closed without a word"
    return type(error).__name__


class Crowd:
    """Callers that talk at once, for the time of a block."""

    def __init__(self, proxy: str, size: int, pause_s: float) -> None:
        self.callers = [Caller(f"caller-{number}", proxy, pause_s) for number in range(size)]
        self._enough = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        self._tasks = [asyncio.create_task(caller.talk(self._enough)) for caller in self.callers]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._enough.set()
        _, late = await asyncio.wait(self._tasks, timeout=90)
        for task in late:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks)
        assert not late, "a caller waits for ever"

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts so far, by their end."""
        found = [attempt for caller in self.callers for attempt in caller.attempts]
        return sorted(found, key=lambda attempt: attempt.ended)

    def pause(self, pause_s: float) -> None:
        """Let every caller pause so long between its turns from now on."""
        for caller in self.callers:
            caller.pause_s = pause_s

    async def turns(self, count: int, timeout: float) -> None:
        """Wait until `count` more turns are done."""
        wanted = count + sum(attempt.done for attempt in self.attempts)
        async with asyncio.timeout(timeout):
            while sum(attempt.done for attempt in self.attempts) < wanted:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)

    async def turns_in_flight(self, count: int, timeout: float) -> None:
        """Wait for a moment at which so many turns run."""
        async with asyncio.timeout(timeout):
            while sum(caller.in_turn for caller in self.callers) < count:  # noqa: ASYNC110 - flags
                await asyncio.sleep(0.002)

    def check_ledger(self) -> None:
        """Every turn that was begun has ended with `done`, once, and every failure has a reason."""
        for caller in self.callers:
            ends = Counter(attempt.turn for attempt in caller.attempts if attempt.done)
            begun = {attempt.turn for attempt in caller.attempts}
            assert set(ends) == begun and set(ends.values()) == {1}, caller.attempts
            assert all(attempt.reason for attempt in caller.attempts)


def failures(attempts: Sequence[Attempt]) -> dict[str, int]:
    """What went wrong, counted; "in flight" where the turn had been acknowledged."""
    return dict(
        Counter(
            f"{attempt.reason}{' in flight' if attempt.acked else ''}"
            for attempt in attempts
            if not attempt.done
        )
    )


def seconds(values: Sequence[float]) -> dict[str, float]:
    """Median and greatest of some durations."""
    if not values:
        return {}
    return {"median": round(quantile(values, 0.5), 3), "most": round(max(values), 3)}
