"""Hundreds of interruptions of the real engine, at moments that nobody chose."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator
from itertools import groupby
from statistics import median, quantiles

import pytest

from tests.e2e.conftest import running
from tests.e2e.harness import ServerProcess
from tests.e2e.talk import PERSONA, Frame, Talk, start, talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

SEED = 20_260
CONNECTIONS = 4
ROUNDS = 50
LONGEST_WAIT_S = 0.120
CANCELS = 500
DONE_WITHIN_MS = 10  # at the median
TOPICS = ("your day", "music", "the sea", "tea", "a walk in the woods", "books")
_LETTER = {"ack": "A", "toolcall": "T", "token": "t", "final": "F", "error": "E", "done": "D"}
_WHOLE = re.compile("(AT)?t*FD")
_CUT = re.compile("(A(Tt*)?|t*)D")


@pytest.fixture(scope="module")
def unlimited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Both models, and no rate limits."""
    with running(
        tmp_path_factory.mktemp("unlimited"),
        WS_MAX_MESSAGES_PER_WINDOW="0",
        WS_MAX_CANCELS_PER_WINDOW="0",
        CHAT_PROMPT_UPDATE_MAX_PER_WINDOW="0",
    ) as process:
        yield process


class Interrupter:
    """One connection that hardly lets the server finish."""

    def __init__(self, client: Talk, name: str, dice: random.Random) -> None:
        self.client = client
        self.name = name
        self.log: list[Frame] = []
        self.cancel_s: list[float] = []
        self.turns = 0
        self._dice = dice
        self._answered: dict[str, asyncio.Future[float]] = {}

    async def read(self) -> None:
        """Take every frame until the answer to the last ping."""
        while not self.log or self.log[-1]["type"] != "pong":
            frame = await self.client.receive()
            self.log.append(frame)
            waiting = self._answered.get(frame.get("request_id", ""))
            if waiting is not None and frame["type"] == "done":
                waiting.set_result(time.perf_counter())

    async def interrupt(self) -> None:
        """Begin things and interrupt them, at random moments."""
        for number in range(ROUNDS):
            await self._begin(number)
            await asyncio.sleep(self._dice.uniform(0, LONGEST_WAIT_S))
            if self._dice.random() < 0.5:
                await self._cancel(f"{self.name}-{number}")
        await self._cancel(f"{self.name}-last")
        await self.client.send({"type": "ping"})

    async def _begin(self, number: int) -> None:
        """A turn, a followup or a warm-up; it interrupts what runs, unless it is a warm-up."""
        topic = self._dice.choice(TOPICS)
        kind = "start" if number == 0 else self._dice.choice(("start", "start", "followup", "warm"))
        if kind == "warm":
            persona = f"{PERSONA} You love {topic}, {self.name} and {number}."
            await self.client.send({"type": "warm_persona", "chat_prompt": persona})
            return
        self.turns += 1
        if kind == "start":
            await self.client.send(start(f"Tell me about {topic}.", session_id=self.name))
        else:
            await self.client.send({"type": "followup", "analysis_text": f"A page about {topic}."})

    async def _cancel(self, request_id: str) -> None:
        answered = asyncio.get_running_loop().create_future()
        self._answered[request_id] = answered
        sent = time.perf_counter()
        await self.client.send({"type": "cancel", "request_id": request_id})
        async with asyncio.timeout(10):
            self.cancel_s.append(await answered - sent)

    def check(self) -> None:
        """Every turn is whole or cut, ends before the next, and every cancel has one done."""
        frames = [frame for frame in self.log if "turn_id" in frame]
        turns = [list(group) for _, group in groupby(frames, lambda frame: frame["turn_id"])]
        assert len(turns) == len({turn[0]["turn_id"] for turn in turns}) == self.turns
        for turn in turns:
            letters = "".join(_LETTER[frame["type"]] for frame in turn)
            cut = turn[-1].get("cancelled", False)
            assert (_CUT if cut else _WHOLE).fullmatch(letters), f"{letters}: {turn[-1]}"
            if not cut:
                said = "".join(frame["text"] for frame in turn if frame["type"] == "token")
                assert turn[-2]["normalized_text"] == said
        dones = [frame["request_id"] for frame in self.log if frame.get("request_id")]
        assert dones == list(self._answered)
        strangers = {frame["type"] for frame in self.log if "turn_id" not in frame}
        assert strangers <= {"done", "warmed", "pong"}


async def test_interrupted_at_any_moment_the_conversation_stays_right_and_nothing_is_left(
    unlimited_server: ServerProcess,
) -> None:
    async def play(number: int) -> Interrupter:
        async with talk(unlimited_server) as client:
            player = Interrupter(client, f"caller {number}", random.Random(SEED + number))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(player.read())
                tasks.create_task(player.interrupt())
            player.check()
            return player

    players = await asyncio.gather(*(play(number) for number in range(CONNECTIONS)))
    await _idle(unlimited_server)
    taken = [seconds * 1000 for player in players for seconds in player.cancel_s]
    turns = sum(player.turns for player in players)
    cut = sum(
        frame["type"] == "done" and "turn_id" in frame and frame.get("cancelled", False)
        for player in players
        for frame in player.log
    )
    print(
        f"\n{turns} turns, {cut} of them interrupted; {len(taken)} cancels: "
        f"median {median(taken):.1f} ms, p95 {quantiles(taken, n=20)[-1]:.1f} ms"
    )
    assert cut > turns / 4, "hardly anything was interrupted"


async def test_five_hundred_cancels_at_any_token_are_done_at_once_and_leave_nothing(
    unlimited_server: ServerProcess,
) -> None:
    async def play(number: int) -> list[float]:
        dice = random.Random(SEED + number)
        async with talk(unlimited_server) as client:
            taken: list[float] = []
            while len(taken) < CANCELS // CONNECTIONS:
                topic = dice.choice(TOPICS)
                await client.send(start(f"Tell me a story about {topic}.", session_id=f"c{number}"))
                if (
                    milliseconds := await _cancelled_after(client, dice.randint(1, 12))
                ) is not None:
                    taken.append(milliseconds)
            return taken

    players = await asyncio.gather(*(play(number) for number in range(CONNECTIONS)))
    await _idle(unlimited_server)
    taken = [milliseconds for player in players for milliseconds in player]
    print(
        f"\n{len(taken)} cancels: median {median(taken):.1f} ms, "
        f"p95 {quantiles(taken, n=20)[-1]:.1f} ms, at most {max(taken):.1f} ms"
    )
    assert len(taken) == CANCELS
    assert median(taken) <= DONE_WITHIN_MS


async def _cancelled_after(client: Talk, tokens: int) -> float | None:
    """Read so many tokens, then cancel; milliseconds to `done`. None if the reply ended before."""
    while tokens:
        frame = await client.receive()
        if frame["type"] == "done":
            return None
        tokens -= frame["type"] == "token"
    sent = time.perf_counter()
    await client.send({"type": "cancel"})
    done = (await client.until("done"))[-1]
    taken = 1000 * (time.perf_counter() - sent)
    if done.get("cancelled"):
        return taken
    await client.until("done")  # it had ended by itself, and the cancel is answered too
    return None


async def test_clients_that_go_at_any_moment_leave_nothing_behind(
    unlimited_server: ServerProcess,
) -> None:
    dice = random.Random(SEED)

    async def play(number: int) -> None:
        wait = dice.uniform(0, LONGEST_WAIT_S)
        async with talk(unlimited_server) as client:
            await client.send(start("Tell me a long story.", session_id=f"guest {number}"))
            await asyncio.sleep(wait)
            client.websocket.transport.abort()

    for first in range(0, 20, CONNECTIONS):
        await asyncio.gather(*(play(first + number) for number in range(CONNECTIONS)))
    await _idle(unlimited_server)
    async with talk(unlimited_server) as client:
        assert (await client.turn("Are you there?"))[-1]["finish_reason"] == "stop"


async def _idle(server: ServerProcess, timeout: float = 10) -> None:
    """Wait until the engine computes nothing, holds no KV blocks, and nobody is connected."""
    names = ("vllm:num_requests_running", "vllm:kv_cache_usage_perc", "yap_connections")
    deadline = time.monotonic() + timeout
    while any(left := [await asyncio.to_thread(server.metric, name) for name in names]):
        assert time.monotonic() < deadline, f"left: {dict(zip(names, left, strict=True))}"
        await asyncio.sleep(0.1)
