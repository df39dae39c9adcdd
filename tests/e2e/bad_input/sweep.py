"""One bad frame after another, and whatever is not as it should be."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import websockets

from tests.e2e.bad_input.watching import ANSWER_S, INTERNAL, SLOW_S, connected, listed
from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import Frame, Talk

TURN_EVERY = 20

# What the server writes into its log when something went wrong that nobody foresaw.
UNFORESEEN = re.compile(
    r".*(A connection failed|An errand failed|Turn \w+ failed|classifier failed|never retrieved"
    r"|Unhandled|in ASGI application).*"
)


class Sweep:
    """Sends one bad frame after another, and notes whatever is not as it should be."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._count = 0
        self._client: Talk | None = None
        self.problems: list[str] = []

    async def client(self) -> Talk:
        """The connection for all that does not end it; another one if it was lost."""
        if self._client is None or self._client.websocket.close_code is not None:
            websocket = await websockets.connect(
                f"ws://{self._server.address}/ws",
                additional_headers={"X-API-Key": API_KEY},
                max_size=None,
                ping_interval=None,
            )
            self._client = Talk(websocket)
        return self._client

    async def close(self) -> None:
        """Leave."""
        if self._client is not None:
            await self._client.websocket.close()

    async def refused(self, name: str, sent: str | bytes, code: str) -> None:
        """The frame is refused with `code`, and the connection goes on."""
        async with self._watched(name):
            client = await self.client()
            await client.send(sent)
            self._check(name, await client.receive(ANSWER_S), code)

    async def refused_and_closed(self, name: str, sent: str, code: str) -> None:
        """The frame is refused with `code`, and its connection closed with 1008."""
        async with self._watched(name), connected(self._server) as client:
            await client.send(sent)
            self._check(name, await client.receive(ANSWER_S), code)
            closed = await client.closed()
            if closed != (1008, ""):
                self._note(name, f"was closed with {closed}")

    async def answered(self, name: str, sent: str, kind: str) -> None:
        """The frame is answered with frames up to one of this type, and none is an error."""
        async with self._watched(name):
            client = await self.client()
            await client.send(sent)
            frames = [await client.receive(ANSWER_S)]
            while frames[-1]["type"] not in (kind, "error"):
                frames.append(await client.receive(ANSWER_S))
            for answer in frames:
                self._check_text(name, answer)
            if frames[-1]["type"] != kind or frames[-1].get("finish_reason") == "error":
                self._note(name, f"was answered with {frames[-1]}")

    @asynccontextmanager
    async def _watched(self, name: str) -> AsyncIterator[None]:
        begun = time.perf_counter()
        try:
            yield
            taken = time.perf_counter() - begun
            if taken > SLOW_S:
                self._note(name, f"took {taken:.1f} s")
            await self._goes_on(name)
        except TimeoutError:
            self._note(name, f"was not answered within {ANSWER_S:g} s")
        except (OSError, websockets.ConnectionClosed) as error:
            self._note(name, f"lost the connection: {error}")

    async def _goes_on(self, name: str) -> None:
        client = await self.client()
        await client.send({"type": "ping"})
        if (answer := await client.receive(ANSWER_S)) != {"type": "pong"}:
            self._note(name, f"was followed by {answer}")
        self._count += 1
        if self._count % TURN_EVERY == 0:
            done = (await client.turn("Hi!", session_id="whole", sampling={"temperature": 0}))[-1]
            if done["finish_reason"] not in ("stop", "length"):
                self._note(name, f"was followed by a turn that ended with {done}")

    def _check(self, name: str, answer: Frame, code: str) -> None:
        self._check_text(name, answer)
        if answer.get("error_code") != code:
            self._note(name, f"was answered with {answer}, not {code}")

    def _check_text(self, name: str, answer: Frame) -> None:
        message = str(answer.get("message", ""))
        if INTERNAL.search(message) or len(message) > 200:
            self._note(name, f"shows what is inside: {message!r}")
        if answer["type"] == "error" and not message.endswith("."):
            self._note(name, f"has no sentence for a message: {message!r}")

    def _note(self, name: str, what: str) -> None:
        self.problems.append(f"{name} {what[:300]}")


@asynccontextmanager
async def sweeping(server: ServerProcess) -> AsyncIterator[Sweep]:
    """A sweep over the server. Nothing may be wrong in the end, in its log either."""
    logged = len(server.log.read_text(errors="replace"))
    sweep = Sweep(server)
    yield sweep
    await sweep.close()
    log = server.log.read_text(errors="replace")[logged:]
    wrong = [*sweep.problems, *(match[0] for match in UNFORESEEN.finditer(log))]
    assert not wrong, listed(wrong)


async def in_a_session(sweep: Sweep, session_id: str) -> None:
    """Have a turn, so that there is a session."""
    await (await sweep.client()).turn("Hi!", session_id=session_id, sampling={"temperature": 0})
