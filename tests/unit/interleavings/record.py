"""What happened in a program: every turn as its session saw it, and every frame a client got."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.unit.stand_ins import Client
from yap.history import Message, parse_transcript
from yap.outbox import Outbox
from yap.protocol import ServerFrame
from yap.states import SENDS
from yap.turn import Turn

Said = list[tuple[str, str]]


def as_said(messages: Sequence[Message]) -> Said:
    """Who said what."""
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
        self._check(frame.model_dump()["type"])
        await self._outbox.put(frame)

    async def say(self, text: str, turn_id: str) -> None:
        self._check("token")
        await self._outbox.say(text, turn_id)

    def _check(self, kind: str) -> None:
        state = self._turn._life.state
        if kind not in SENDS[state]:
            self._illegal.append(f"{kind} while {state}")


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
                record[self.id].after = as_said(self.session.history.messages)

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
                    as_said(session.history.messages),
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
    stayed: bool = False  # until the program's end, and read in time
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


def given_history(start: dict[str, Any], before: Said) -> Said:
    """The history that a turn has after `start`, in a session that had `before`."""
    if start.get("history") is not None:
        return [(message["role"], message["content"]) for message in start["history"]]
    if start.get("history_text") is not None:
        return as_said(parse_transcript(start["history_text"]))
    return before
