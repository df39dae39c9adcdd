"""Whatever clients do, and whatever the models do meanwhile, the conversation stays right.

Random programs are played against the real connection: what clients send, how they read, when
they go, and how the engine and the classifier behave. Time is virtual, so a second costs nothing,
a hang is found at once, and a program plays the same way every time. After each program the
frames that every client got are checked, and what the server still holds.

`YAP_FUZZ_SEED=7 YAP_FUZZ_PROGRAMS=20000` plays other programs, and more of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, seed, settings
from hypothesis import strategies as st

from tests.unit.places import START
from tests.unit.stand_ins import (
    KEY,
    Client,
    ScriptedChat,
    ScriptedClassifier,
    server_with,
)
from tests.unit.virtual_time import VirtualLoop
from yap import connection
from yap.chat.engine import Piece, Priority
from yap.chat.prompt import Prompt
from yap.errors import EngineFailed, EngineUnavailable
from yap.history import Message, parse_transcript
from yap.outbox import Outbox
from yap.protocol import CloseCode, SamplingOptions, ServerFrame
from yap.server import Server
from yap.settings import Settings
from yap.states import SENDS
from yap.turn import Turn

T = TypeVar("T")

SEED = int(os.environ.get("YAP_FUZZ_SEED", "1"))
PROGRAMS = int(os.environ.get("YAP_FUZZ_PROGRAMS", "2500"))
LIMITS = Settings(
    text_api_key=KEY,
    gen_timeout_s=5,
    first_token_timeout_s=1,
    tool_timeout_s=0.1,
    ws_send_timeout_s=2,
    ws_max_sessions_per_connection=2,
    ws_idle_timeout_s=15,
    ws_watchdog_tick_s=1,
    ws_max_messages_per_window=0,
    ws_max_cancels_per_window=0,
    chat_prompt_update_max_per_window=0,
)
# Nothing takes longer than this many virtual seconds once clients read and send no more.
QUIET_S = 60.0


# --- programs ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Script:
    """What a model does with one request, step by step.

    A text is a piece of the reply, a number is a pause in seconds (0 lets others run once), and
    the rest are ways to fail. `stopped` is what it does when it is told to stop midway.
    """

    steps: tuple[str | float, ...] = ("Hello", " there", ".")
    stopped: Literal["goes", "raises", "lingers"] = "goes"
    answer: float = 0.0


FAULTS: dict[str, Callable[[], BaseException]] = {
    "!failed": lambda: EngineFailed("This reply was lost."),
    "!dead": lambda: EngineUnavailable("The engine stopped."),
    "!bug": lambda: ValueError("a bug"),
    "!late": TimeoutError,
    "!stopped": asyncio.CancelledError,  # as when a pool or a task under it is shut down
}

Kind = Literal[
    "turns", "wait", "start", "followup", "chat_prompt", "warm_persona", "warm_history", "cancel",
    "ping", "pong", "rubbish", "bad_start", "end", "stop_reading", "read", "go", "drop", "connect",
    "die", "revive", "drain",
]  # fmt: skip
Mode = Literal["both", "chat", "tool"]


@dataclass(frozen=True, slots=True)
class Do:
    """One step of a program. `n` chooses among the variants that the step has."""

    kind: Kind
    n: int = 0
    client: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """What happens, and how the models and the queue behave meanwhile."""

    steps: tuple[Do, ...]
    replies: tuple[Script, ...] = (Script(),)
    decisions: tuple[Script, ...] = (Script(()),)
    queue: int = 8
    flush_ms: int = 0
    mode: Mode = "both"
    crowded: bool = False  # no more permits than clients
    limited: bool = False  # few messages and cancels in a window

    def limits(self) -> Settings:
        update: dict[str, Any] = {
            "ws_send_queue_max": self.queue,
            "stream_flush_ms": self.flush_ms,
            "deploy_models": self.mode,
        }
        if self.crowded:
            update |= {"max_concurrent_connections": 2}
        if self.limited:
            update |= {
                "ws_max_messages_per_window": 5,
                "ws_message_window_seconds": 2.0,
                "ws_max_cancels_per_window": 2,
                "ws_cancel_window_seconds": 1.0,
            }
        return LIMITS.model_copy(update=update)


WAITS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.3, 1.5, 3.0, 0.02, 0.04, 0.06, 20.0)
PAUSES = (0.0, 0.0, 0.01, 0.05, 0.2, 2.0, 9.0)
_STOPPED = st.sampled_from(["goes", "goes", "raises", "lingers"])
_PIECES = st.sampled_from(["Hello", " there", " :)", "<b>", ".", " "])
_REPLIES = st.builds(
    Script,
    st.lists(
        st.one_of(_PIECES, _PIECES, st.sampled_from(PAUSES), st.sampled_from(sorted(FAULTS))),
        max_size=8,
    ).map(tuple),
    _STOPPED,
)
_DECISIONS = st.builds(
    Script,
    st.lists(st.sampled_from([*PAUSES, "!bug", "!late", "!stopped"]), max_size=2).map(tuple),
    _STOPPED,
    st.sampled_from([0.0, 1.0]),
)
# What happens most is named most.
_KINDS: list[Kind] = [
    "turns", "turns", "turns", "turns", "wait", "wait", "wait", "start", "start", "start", "start",
    "followup", "followup", "chat_prompt", "warm_persona", "warm_history", "cancel", "cancel",
    "cancel", "ping", "ping", "pong", "rubbish", "bad_start", "end", "stop_reading", "read", "go",
    "drop", "connect", "connect", "die", "revive", "revive", "drain",
]  # fmt: skip
_NOTHING = Do("turns", 0, 0)
_STEPS = st.lists(
    st.builds(Do, st.sampled_from(_KINDS), st.integers(0, 11), st.sampled_from([0, 0, 0, 1])),
    min_size=16,
    max_size=48,
).map(lambda steps: tuple(step for step in steps if step != _NOTHING))
PROGRAM = st.builds(
    Program,
    _STEPS,
    st.lists(_REPLIES, min_size=1, max_size=4).map(tuple),
    st.lists(_DECISIONS, min_size=1, max_size=3).map(tuple),
    st.sampled_from([8, 1, 2, 3]),
    st.sampled_from([0, 0, 2000]),
    st.sampled_from(["both", "both", "both", "chat", "tool"]),
    st.sampled_from([False, False, True]),
    st.sampled_from([False, False, False, True]),
)


# --- the world --------------------------------------------------------------------------------


async def _follow(script: Script, steps: Sequence[str | float]) -> AsyncGenerator[str]:
    """Play `steps`; the texts that they give."""
    try:
        for step in steps:
            if not isinstance(step, str):
                await asyncio.sleep(step)
            elif step in FAULTS:
                raise FAULTS[step]()
            else:
                yield step
    except (asyncio.CancelledError, GeneratorExit):
        if script.stopped == "raises":
            raise RuntimeError("stopping failed") from None
        if script.stopped == "lingers":
            await asyncio.sleep(0.03)
        raise


class Chat(ScriptedChat):
    """The scripted engine, without threads, and with a life."""

    def __init__(self, limits: Settings, tokenizer: Any, scripts: Sequence[Script]) -> None:
        super().__init__(limits, tokenizer)
        self.prompt_of: dict[str, str] = {}
        self._scripts = scripts
        self._streams = 0

    async def _in_pool(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        result = work()
        await asyncio.sleep(0)
        return result

    async def stream(
        self,
        prompt: Prompt,
        options: SamplingOptions,
        request_id: str,
        priority: Priority = Priority.TURN,
    ) -> AsyncGenerator[Piece]:
        self.prompt_of[request_id] = self._tokenizer.decode(prompt.token_ids)
        script = self._scripts[self._streams % len(self._scripts)]
        self._streams += 1
        made = 0
        self.streaming += 1
        texts = _follow(script, script.steps)
        try:
            async for text in texts:
                if not self.alive:
                    raise EngineUnavailable("The engine stopped.")
                made += 1
                yield Piece(text, len(prompt.token_ids), 2, made, None)
            yield Piece("", len(prompt.token_ids), 2, made + 1, "stop")
        finally:
            try:
                await texts.aclose()
            finally:
                self.streaming -= 1


class Classifier(ScriptedClassifier):
    """The scripted classifier with a script for each question."""

    def __init__(self, limits: Settings, scripts: Sequence[Script]) -> None:
        super().__init__(limits)
        self._scripts = scripts

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float:
        script = self._scripts[len(self.asked) % len(self._scripts)]
        self.asked.append((utterance, tuple(earlier)))
        async for _ in _follow(script, script.steps):
            pass
        return script.answer


Said = list[tuple[str, str]]


def _said(messages: Sequence[Message]) -> Said:
    return [(message.role, message.content) for message in messages]


@dataclass(slots=True)
class Recorded:
    """A turn as its session saw it."""

    session: Any
    utterance: str
    routed: bool
    persona: str | None
    label: str | None
    before: Said
    after: Said | None = None
    cancelled: bool = False


class Checked:
    """The outbox of a turn, which sends only what the turn may send in its state."""

    def __init__(self, turn: Turn, outbox: Outbox, illegal: list[str]) -> None:
        self._turn = turn
        self._illegal = illegal
        self._outbox = outbox
        self.discard_tokens = outbox.discard_tokens

    async def put(self, frame: ServerFrame) -> None:
        state = self._turn._life.state
        kind = frame.model_dump()["type"]
        if kind not in SENDS[state]:
            self._illegal.append(f"{kind} while {state}")
        await self._outbox.put(frame)


class Record:
    """Every turn that was made, in order, by id."""

    def __init__(self) -> None:
        self.turns: dict[str, Recorded] = {}
        self.illegal: list[str] = []  # frames sent in a state that does not permit them

    def spy(self) -> type[Turn]:
        record, illegal = self.turns, self.illegal

        class SpiedTurn(Turn):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._outbox = Checked(self, self._outbox, illegal)  # type: ignore[assignment]

            def _remember(self, said: str) -> None:
                super()._remember(said)
                record[self.id].after = _said(self.session.history.messages)

            def cancel(self, request_id: str | None = None) -> bool:
                answered = super().cancel(request_id)
                record[self.id].cancelled |= answered
                return answered

            def start(self) -> asyncio.Task[None]:
                session = self.session
                record[self.id] = Recorded(
                    session,
                    self._utterance,
                    self._routed,
                    session.chat_prompt,
                    session.personality,
                    _said(session.history.messages),
                )
                return super().start()

        return SpiedTurn


@dataclass(slots=True)
class Player:
    """A client, what it sent, and what it got."""

    client: Client
    starts: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: int = 0
    errands: int = 0
    pings: int = 0
    cancels: int = 0
    cancel_ids: list[str] = field(default_factory=list)
    cancels_before_ping: list[int] = field(default_factory=list)
    dropped: bool = False
    heard: bool = False  # it said how much of a reply was heard
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether the connection lives."""
        gone = self.client.gone or self.dropped or self.client.serving.done()
        return not (gone or self.client.close)

    @property
    def complete(self) -> bool:
        """Whether it got all that was meant for it: it did not go, and read in time."""
        if self.client.gone or self.dropped:
            return False
        return self.open or (self.client.close or (0, ""))[0] in (1000, 1008)

    def drain(self) -> None:
        queue = self.client._to_client
        while not queue.empty():
            self.log.append(queue.get_nowait())


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
        self.everyone.append(Player(Client(self.server)))
        return self.everyone[-1]

    async def play(self) -> None:
        before = asyncio.all_tasks()
        for step in self.program.steps:
            self.number += 1
            await self.do(step)
        await self.settle()
        assert not self.record.illegal, self.record.illegal
        for player in self.everyone:
            check_frames(player, self.record, self.program.mode)
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
            "session_id": ("s-1", "s-1", 1, True)[n % 4],
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


# --- what must hold ---------------------------------------------------------------------------

_LETTER = {"ack": "A", "toolcall": "T", "token": "t", "final": "F", "error": "E", "done": "D"}


def _legal(reason: str, mode: Mode, *, routed: bool) -> re.Pattern[str]:
    """The frames of a turn that ended for this reason, a letter each."""
    tokens = "" if mode == "tool" else "t*"
    begun = f"T{tokens}" if routed and mode != "chat" else tokens
    ended = {"stop": f"{begun}F", "error": f"({begun})?E", "cancelled": f"({begun})?"}
    return re.compile(("A" if routed else "") + ended[reason] + "D")


_BEGUN = re.compile("(A(T?t*F?)?E?D?|t*F?E?D?)")


def check_frames(player: Player, record: Record, mode: Mode) -> None:
    """The frames that one client got are a conversation."""
    log = player.log
    if player.client.close and player.client.close[0] == 1013:
        codes = [frame.get("error_code") for frame in log]
        assert codes in (["server_at_capacity", None], ["server_draining", None]), log
        return
    assert not player.client.close or player.client.close[0] != CloseCode.INTERNAL_ERROR
    of_turn: dict[str, list[dict[str, Any]]] = {}
    speaking = None
    for frame in log:
        if (turn_id := frame.get("turn_id")) is None:
            continue
        if turn_id != speaking:
            assert turn_id not in of_turn, f"a frame of a turn after another began: {frame}"
            if speaking is not None:
                assert of_turn[speaking][-1]["type"] == "done", "a turn began before one's done"
            speaking = turn_id
        of_turn.setdefault(turn_id, []).append(frame)
    for turn_id, frames in of_turn.items():
        _check_turn(frames, record.turns[turn_id], mode, complete=player.complete)
    if player.complete:
        _check_answers(player, of_turn)


def _check_turn(
    frames: list[dict[str, Any]], turn: Recorded, mode: Mode, *, complete: bool
) -> None:
    letters = "".join(_LETTER[frame["type"]] for frame in frames)
    said = "".join(frame["text"] for frame in frames if frame["type"] == "token")
    for frame in frames:
        if frame["type"] == "final":
            assert frame["normalized_text"] == said
    if not complete and frames[-1]["type"] != "done":
        assert _BEGUN.fullmatch(letters), letters
        return
    assert frames[-1]["type"] == "done", f"no done: {letters}"
    reason = frames[-1]["finish_reason"]
    assert (reason == "cancelled") == turn.cancelled, f"{reason}, cancelled: {turn.cancelled}"
    legal = _legal(reason, mode, routed=turn.routed)
    assert legal.fullmatch(letters), f"{letters} of a turn that ended with {reason}"
    assert frames[-1].get("cancelled") == (True if reason == "cancelled" else None)


def _check_answers(player: Player, of_turn: dict[str, list[dict[str, Any]]]) -> None:
    """Everything that was asked was answered, once."""
    log = player.log
    dones = [frame for frame in log if frame["type"] == "done"]
    by_id = Counter(d.get("request_id") for d in dones)
    for done in dones:
        assert done.get("cancelled") or not done.get("request_id"), f"not cancelled: {done}"
    answers = sum(frame["type"] == "warmed" for frame in log)
    answers += sum(frame["type"] == "ack" and frame["for"] == "chat_prompt" for frame in log)
    errors = [frame for frame in log if frame["type"] == "error" and "turn_id" not in frame]
    unasked = ("session_taken_over", "cancel_rate_limited")
    answers += sum(error["error_code"] not in unasked for error in errors)
    limited = [error["error_code"] for error in errors].count("cancel_rate_limited")
    answers += len(of_turn)
    asked = player.requests + player.errands
    pongs = [at for at, frame in enumerate(log) if frame["type"] == "pong"]
    if not player.open:
        assert answers <= asked and len(pongs) <= player.pings
        return
    assert len(pongs) == player.pings
    for request_id in player.cancel_ids:
        assert by_id[request_id] <= 1, f"{by_id[request_id]} dones for cancel {request_id}"
    unanswered = [i for i in player.cancel_ids if not by_id[i]]
    assert len(unanswered) <= limited, f"no done for cancels {unanswered}"
    for pong, cancels in zip(pongs, player.cancels_before_ping, strict=True):
        answered = sum(
            (frame["type"] == "done" and "cancelled" in frame)
            or frame.get("error_code") == "cancel_rate_limited"
            for frame in log[:pong]
        )
        assert answered >= cancels, "a ping overtook the done of a cancel"
    least = asked - player.errands if player.cancels else asked
    assert least <= answers <= asked, f"{answers} answers to {asked} requests"


def check_sessions(everyone: Sequence[Player], record: Record, chat: Chat) -> None:
    """Each session remembers what its client said and got, and speaks as it was told to."""
    last: dict[int, Said] = {}
    for turn_id, turn in record.turns.items():
        player = next((p for p in everyone if turn.label in p.starts), None)
        frames = [f for p in everyone for f in p.log if f.get("turn_id") == turn_id]
        start = player.starts[turn.label] if player and turn.label and turn.routed else {}
        expected = _given(start, last.get(id(turn.session), []))
        if any(p.heard for p in everyone):
            _check_heard(turn.before, expected)
        else:
            assert turn.before == expected
        assert turn.after is not None, "a turn has not ended"
        last[id(turn.session)] = turn.after
        owner = next((p for p in everyone if any(f in p.log for f in frames)), None)
        if owner is not None and owner.complete:
            said = "".join(frame["text"] for frame in frames if frame["type"] == "token")
            new = [("user", turn.utterance), ("assistant", said)]
            assert turn.after == turn.before + [m for m in new if m[1]]
        if turn_id in chat.prompt_of and turn.persona:
            persona = f"system\n{turn.persona}<"
            assert persona in chat.prompt_of[turn_id], "a turn spoke as somebody else"


def _check_heard(kept: Said, said: Said) -> None:
    """All is kept but, at most, the end of the last reply."""
    if kept == said:
        return
    assert said[-1][0] == "assistant"
    heard = kept[len(said) - 1 :] or [("assistant", "")]
    assert kept[: len(said) - 1] == said[:-1]
    assert len(heard) == 1
    assert heard[0][0] == "assistant"
    assert said[-1][1].startswith(heard[0][1])


def _given(start: dict[str, Any], before: Said) -> Said:
    if start.get("history") is not None:
        return [(message["role"], message["content"]) for message in start["history"]]
    if start.get("history_text") is not None:
        return _said(parse_transcript(start["history_text"]))
    return before


# --- the tests --------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Faults are logged, thousands of them."""
    logger = logging.getLogger("yap")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


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


SLOW_DECISION = (Script((2.0,)),)
FOUND = {
    "an ack waits for room, and its turn is cancelled": Program(
        (Do("start"), Do("warm_persona"), Do("start"), Do("followup")), queue=1
    ),
    "a followup is on its way while its session is taken over": Program(
        (Do("start"), Do("followup"), Do("start", client=1))
    ),
    "another persona comes between a start and its reply": Program(
        (Do("chat_prompt"), Do("start"), Do("wait", 1), Do("chat_prompt"), Do("wait", 6)),
        decisions=SLOW_DECISION,
    ),
    "a classifier fails when it is stopped": Program(
        (Do("start"), Do("wait", 3), Do("cancel"), Do("wait", 7)),
        decisions=(Script((2.0,), "raises"),),
    ),
    "the engine's own work is cancelled under a turn": Program(
        (Do("start"), Do("wait", 7)), replies=(Script(("Hello", "!stopped")),)
    ),
    "the classifier's own work is cancelled under a turn": Program(
        (Do("start"), Do("wait", 7)), decisions=(Script(("!stopped",)),)
    ),
    "the engine's own work is cancelled under a warm-up": Program(
        (Do("warm_persona"), Do("wait", 7)), replies=(Script(("!stopped",)),)
    ),
}


@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_what_went_wrong_once_goes_right(tokenizer: Any, program: Program) -> None:
    play(program, tokenizer)


@pytest.mark.slow
@pytest.mark.timeout(420)  # a failure is made small before it is shown
@seed(SEED)
@settings(
    max_examples=PROGRAMS,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(PROGRAM)
@example(Program(()))
def test_the_conversation_is_right_under_every_interleaving(
    tokenizer: Any, program: Program
) -> None:
    note(f"{program}")
    play(program, tokenizer)
