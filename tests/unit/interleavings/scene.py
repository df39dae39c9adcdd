"""A server and its clients, on which one program is played."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

from tests.unit.interleavings.checks import check_frames, check_sessions
from tests.unit.interleavings.models import Chat, Classifier
from tests.unit.interleavings.programs import WAITS, Do, Program
from tests.unit.interleavings.record import Player, Record
from tests.unit.places import START
from tests.unit.stand_ins import Client, server_with
from tests.unit.virtual_time import VirtualLoop
from yap import connection
from yap.server import Server

# Nothing takes longer than this many virtual seconds once clients read and send no more.
QUIET_S = 60.0

RUBBISH: tuple[str | bytes, ...] = ("", "{", "[]", '{"a": 1}', '{"type": "dance"}', b"\x00")
CANCELS: tuple[Any, ...] = (
    {"type": "cancel"}, {"cancel": True}, {"type": " CANCEL "}, "__CANCEL__", " __CANCEL__\n",
)  # fmt: skip
HISTORIES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"history_text": "User: tea?\nAssistant: yes"},
    {"history": [{"role": "user", "content": "I like tea"}]},
    {"history": []},
    {"history_text": ""},
)


class Scene:
    """Plays one program."""

    def __init__(self, program: Program, tokenizer: Any, record: Record) -> None:
        limits = program.limits()
        self.program = program
        self.record = record
        self.chat = Chat(limits, tokenizer, program.replies)
        classifier = Classifier(limits, program.decisions)
        self.server: Server = server_with(
            limits,
            self.chat if program.mode != "tool" else None,
            classifier if program.mode != "chat" else None,
            asyncio.get_running_loop().time,
        )
        self.draining: asyncio.Task[None] | None = None
        self.everyone: list[Player] = []
        self.now = [self.connect(), self.connect()]
        self.number = 0

    def connect(self) -> Player:
        # Frames of every other one take the short way out where they can.
        direct = len(self.everyone) % 2 == 1
        self.everyone.append(Player(Client(self.server, direct=direct)))
        return self.everyone[-1]

    async def play(self) -> None:
        before = asyncio.all_tasks()
        for step in self.program.steps:
            self.number += 1
            await self.do(step)
        await self.settle()
        assert not self.record.illegal, self.record.illegal
        for player in self.everyone:
            player.stayed = player.complete
            check_frames(player, self.record, self.program)
        await self.leave()
        await _turns(3)
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        assert not left, "tasks are left"
        assert self.chat.streaming == 0, "the engine still works"
        assert self.server.admission.active == 0, "permits are left"
        assert self.server.metrics.connections._value.get() == 0
        assert not self.server._turns, "turns are left"
        check_sessions(self.everyone, self.record, self.chat)

    async def settle(self) -> None:
        """Let everything that runs come to its end, with everybody reading."""
        self.chat.alive = True
        if self.draining is not None:
            await self.draining
        for player in self.everyone:
            player.client.reading.set()
        await asyncio.sleep(0.5)  # who was too slow is closed now
        async with asyncio.timeout(QUIET_S):
            await asyncio.sleep(0.5)
            while tasks := [*self.server._turns, *_tasks_named("errand")]:
                await asyncio.wait(tasks)
        for player in self.everyone:
            if player.open:
                self.send_ping(player)
        await asyncio.sleep(0.5)
        for player in self.everyone:
            player.drain()

    async def leave(self) -> None:
        for player in self.everyone:
            player.client.disconnect()
        async with asyncio.timeout(QUIET_S):
            ends = [player.client.serving for player in self.everyone]
            results = await asyncio.gather(*ends, return_exceptions=True)
        for player, result in zip(self.everyone, results, strict=True):
            assert result is None or player.dropped, f"serve raised {result!r}"

    async def do(self, step: Do) -> None:
        player = self.now[step.client]
        match step.kind:
            case "turns":
                await _turns(step.n)
            case "wait":
                await asyncio.sleep(WAITS[step.n % len(WAITS)])
            case "die" | "revive":
                self.chat.alive = step.kind == "revive"
            case "drain":
                self.drain(step.n)
            case "connect":
                if not player.open:
                    self.now[step.client] = self.connect()
            case "stop_reading":
                player.client.reading.clear()
            case "read":
                player.client.reading.set()
            case "go":
                player.client.disconnect()
            case "drop":
                player.dropped = True
                player.client.serving.cancel()
            case _ if player.open:
                self.send(player, step)

    def drain(self, n: int) -> None:
        # Rare, since little happens after it.
        if n == 11 and self.draining is None:
            self.draining = asyncio.create_task(self.server.drain(), name="drain")

    def send(self, player: Player, step: Do) -> None:
        """Send the frame of this step, and keep count of what must come of it."""
        send, n = player.client.send, step.n
        match step.kind:
            case "start":
                player.requests += 1
                player.client.send(self.start(player, n))
            case "bad_start":
                player.requests += 1
                send(START | ({"gender": "?"}, {"session_id": None}, {"chat_prompt": 5})[n % 3])
            case "followup":
                player.requests += 1
                send({"type": "followup", "analysis_text": f"seen {self.number}"})
            case "chat_prompt" | "warm_persona" | "warm_history":
                player.errands += 1
                persona = {"chat_prompt": f"Be P{self.number}", "history_text": "User: hi"}
                send({"type": step.kind, "gender": "male", "personality": "calm"} | persona)
            case "cancel":
                self.send_cancel(player, n)
            case "ping":
                self.send_ping(player)
            case "rubbish":
                player.requests += 1
                send(RUBBISH[n % len(RUBBISH)])
            case "pong":
                send({"type": "pong"})
            case "end":
                send(({"type": "end"}, {"end": 1}, "__END__")[n % 3])

    def start(self, player: Player, n: int) -> dict[str, Any]:
        """A start with a personality of its own, by which its ack is known."""
        label = "p" + "".join("abcdefghij"[int(digit)] for digit in str(self.number))
        frame = START | HISTORIES[n % len(HISTORIES)]
        frame |= {
            "session_id": ("s-1", "s-1", 1, 4.5)[n % 4],
            "personality": label,
            "personalities": {label: []},
            "chat_prompt": f"Be {label}",
            "user_utterance": "" if n == 11 else f"words {self.number}",
            "sanitize_output": n % 2 == 0,
        }
        if n in (3, 6, 7):
            frame["heard_chars"] = n % 4 * 4
            player.heard = True
        player.starts[label] = frame
        return frame

    def send_cancel(self, player: Player, n: int) -> None:
        frame = CANCELS[n % len(CANCELS)]
        if isinstance(frame, dict) and n < 8:
            player.cancel_ids.append(f"c{self.number}")
            frame = frame | {"request_id": player.cancel_ids[-1]}
        if isinstance(frame, dict) and n in (2, 7):
            player.heard = True
            frame = frame | ({"heard_chars": 3} if n == 2 else {"heard_text": "Hello"})
        player.cancels += 1
        player.client.send(frame)

    def send_ping(self, player: Player) -> None:
        player.pings += 1
        player.cancels_before_ping.append(player.cancels)
        player.client.send({"type": "ping"})


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _tasks_named(name: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


def play(program: Program, tokenizer: Any) -> None:
    """Play the program from beginning to end, and check everything."""
    record = Record()

    async def run() -> None:
        await Scene(program, tokenizer, record).play()

    with (
        mock.patch.object(connection, "Turn", record.spy()),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(run())
