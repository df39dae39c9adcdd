"""Conversations: who the assistant is, how it samples, what was said; and where they are kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Protocol

from yap.admission import Clock, SlidingWindow
from yap.history import History, Message, parse_transcript
from yap.protocol import ChatPrompt, ErrorCode, Personalities, SamplingOptions, Start

# The hour at which each part of the day begins, as older clients know them.
_DAY_PARTS = (
    (0, "Midnight"),
    (1, "Night"),
    (4, "Early Morning"),
    (7, "Morning"),
    (12, "Noon"),
    (13, "Afternoon"),
    (17, "Early Evening"),
    (21, "Evening"),
)


def time_label(when: datetime) -> str:
    """`when` as the `now` of an ack: ISO to the second, and the part of the day."""
    part = next(name for hour, name in reversed(_DAY_PARTS) if when.hour >= hour)
    return f"{when.isoformat(timespec='seconds')} ({part})"


class Session:
    """The state that lives from turn to turn. One turn at a time works on it."""

    def __init__(
        self,
        session_id: str | int | float,
        persona_changes: SlidingWindow | None = None,
        tenant: bytes = b"",
    ) -> None:
        """
        Args:
            persona_changes: how often `chat_prompt` may change the persona; any number of times,
                if not given.
            tenant: whose it is; see `KeyRing.check`.
        """
        self.session_id = session_id
        self.tenant = tenant
        self.owner: Owner | None = None
        self.last_used = 0.0
        self.starts = 0  # how many turns have configured it
        self.persona_changes = persona_changes or SlidingWindow(
            0, 0, ErrorCode.CHAT_PROMPT_RATE_LIMITED
        )
        self.now = time_label(datetime.now(UTC))
        self.gender: str | None = None
        self.personality: str | None = None
        self.personalities: Personalities | None = None
        self.chat_prompt: str | None = None
        self.sampling = SamplingOptions()
        self.check_screen_prefix: str | None = None
        self.screen_checked_prefix: str | None = None
        self.history = History()

    def configure(self, start: Start) -> None:
        """Take over what a `start` says: it carries the whole configuration every time."""
        self.starts += 1
        self.gender = start.gender
        self.personality = start.personality
        self.personalities = start.personalities
        self.chat_prompt = start.chat_prompt
        self.sampling = start.sampling
        self.check_screen_prefix = start.check_screen_prefix
        self.screen_checked_prefix = start.screen_checked_prefix
        if start.history is not None:
            self.history = History(Message(m.role, m.content) for m in start.history if m.content)
        elif start.history_text is not None:
            self.history = History(parse_transcript(start.history_text))

    def persona_is(self, message: ChatPrompt) -> bool:
        """Whether the session has this very persona already."""
        return (message.gender, message.personality, message.chat_prompt) == (
            self.gender,
            self.personality,
            self.chat_prompt,
        )

    def change_persona(self, message: ChatPrompt) -> None:
        """Another persona, from the next turn on."""
        self.gender = message.gender
        self.personality = message.personality
        self.chat_prompt = message.chat_prompt


class Owner(Protocol):
    """A connection, as far as a session knows it."""

    async def lose(self, session: Session) -> None: ...


class SessionStore:
    """The sessions of all clients, by API key and id.

    A session outlives its connection by the TTL, so that a client that comes back finds it. It
    belongs to the key that made it: the same id under another key is another session.
    """

    def __init__(
        self,
        ttl: float,
        limit: int,
        persona_changes: Callable[[], SlidingWindow | None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        """
        Args:
            ttl: seconds without a connection after which a session is forgotten; 0 is never.
            limit: the most sessions; the one longest unused makes room for a new one.
            persona_changes: makes a session's limit of persona changes.
        """
        self._ttl = ttl
        self._limit = limit
        self._persona_changes = persona_changes
        self._clock = clock
        self._sessions: OrderedDict[Hashable, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, tenant: bytes, session_id: str | int | float) -> Session:
        """The session of this key and id, made if it is not known."""
        # 1 and True are equal, and are not the same id.
        key = (tenant, type(session_id), session_id)
        session = self._sessions.pop(key, None)
        if session is None or self._is_over(session):
            session = Session(session_id, self._persona_changes(), tenant)
        session.last_used = self._clock()
        self._sessions[key] = session
        if len(self._sessions) > self._limit:
            self._forget_one()
        return session

    def release(self, session: Session, owner: Owner) -> None:
        """`owner` lets go of the session; its TTL begins."""
        if session.owner is owner:
            session.owner = None
            session.last_used = self._clock()

    def evict(self) -> int:
        """Forget the sessions whose TTL is over; returns how many."""
        gone = [key for key, session in self._sessions.items() if self._is_over(session)]
        for key in gone:
            del self._sessions[key]
        return len(gone)

    def _is_over(self, session: Session) -> bool:
        if self._ttl <= 0 or session.owner is not None:
            return False
        return session.last_used < self._clock() - self._ttl

    def _forget_one(self) -> None:
        idle = (key for key, session in self._sessions.items() if session.owner is None)
        del self._sessions[next(idle, next(iter(self._sessions)))]
