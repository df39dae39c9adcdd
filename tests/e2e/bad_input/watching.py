"""Clients that watch what bad input costs: its sender, and everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import websockets

from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import Talk, start

NO_LIMITS = {
    "WS_MAX_MESSAGES_PER_WINDOW": "0",
    "CHAT_PROMPT_UPDATE_MAX_PER_WINDOW": "0",
}
ANSWER_S = 15.0
SLOW_S = 1.0  # what no single frame may cost, neither its sender nor anybody else
MOST_SHOWN = 25

# How Python puts things, and where it keeps them.
INTERNAL = re.compile(
    r"Traceback|Error\b|Exception|object has no|attribute|<class|NoneType|\bNone\b|\bdict\b"
    r"|\.py\b|site-packages|pydantic|line \d|column \d|/[a-z]+/[a-z]|0x[0-9a-f]{4}|_type=|https?:",
)


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Talk]:
    """A client that takes frames of any size; some answers repeat what was sent."""
    async with websockets.connect(
        f"ws://{server.address}/ws",
        additional_headers={"X-API-Key": API_KEY},
        max_size=None,
        ping_interval=None,
    ) as websocket:
        yield Talk(websocket)


class Bystander:
    """Another client while something happens: how long its pings and its turns take at most."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.ping_s = 0.0
        self.turn_s = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch for as long as the context lasts, and until what was begun is answered."""
        over = asyncio.Event()
        async with connected(self._server) as pinging, connected(self._server) as talking:
            watches = [
                asyncio.create_task(self._ping(pinging, over)),
                asyncio.create_task(self._talk(talking, over)),
            ]
            await asyncio.sleep(0.02)
            try:
                yield
            finally:
                over.set()
                await asyncio.gather(*watches)

    async def _ping(self, client: Talk, over: asyncio.Event) -> None:
        while not over.is_set():
            sent = time.perf_counter()
            await client.send({"type": "ping"})
            with contextlib.suppress(TimeoutError):
                await client.receive(ANSWER_S)
            self.ping_s = max(self.ping_s, time.perf_counter() - sent)
            await asyncio.sleep(0.002)

    async def _talk(self, client: Talk, over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.sleep(0.05)
            sent = time.perf_counter()
            message = start("Hi!", session_id="bystander", sampling={"temperature": 0})
            await client.send(message)
            with contextlib.suppress(TimeoutError):
                while (await client.receive(ANSWER_S))["type"] != "done":
                    pass
            self.turn_s = max(self.turn_s, time.perf_counter() - sent)


def show(name: str, taken: float, bystander: Bystander) -> None:
    print(
        f"{name}: answered in {taken:.3f} s; another client waited for a pong "
        f"{bystander.ping_s:.3f} s, for a turn {bystander.turn_s:.3f} s"
    )


def listed(problems: list[str]) -> str:
    """Problems as pytest shows them best."""
    return "\n".join([f"{len(problems)} problems:", *problems[:MOST_SHOWN]])
