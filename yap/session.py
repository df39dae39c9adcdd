"""One conversation: who the assistant is, how it samples, what was said."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime

from yap.history import History, parse_transcript
from yap.protocol import SamplingOptions, Start

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

    def __init__(self, session_id: str | int | float | bool) -> None:
        self.session_id = session_id
        self.now = time_label(datetime.now(UTC))
        self.chat_prompt: str | None = None
        self.sampling = SamplingOptions()
        self.check_screen_prefix: str | None = None
        self.history = History()

    def configure(self, start: Start) -> None:
        """Take over what a `start` says: it carries the whole configuration every time."""
        self.chat_prompt = start.chat_prompt
        self.sampling = start.sampling
        self.check_screen_prefix = start.check_screen_prefix
        if start.history_text is not None:
            self.history = History(parse_transcript(start.history_text))


class Sessions:
    """The sessions of one connection, by id; the least recently used makes room for a new one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[Hashable, Session] = OrderedDict()

    def open(self, session_id: str | int | float | bool) -> Session:
        """The session of this id, made if it is not known."""
        key = (type(session_id), session_id)  # 1 and True are equal, and are not the same id
        session = self._sessions.pop(key, None) or Session(session_id)
        self._sessions[key] = session
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)
        return session
