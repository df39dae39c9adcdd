"""A session lives from turn to turn, under the very id that the client chose."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from yap.protocol import SamplingOptions, Start
from yap.session import Session, SessionStore, time_label

PARTS = (
    ["Midnight"]
    + 3 * ["Night"]
    + 3 * ["Early Morning"]
    + 5 * ["Morning"]
    + ["Noon"]
    + 4 * ["Afternoon"]
    + 4 * ["Early Evening"]
    + 3 * ["Evening"]
)


def start(**fields: Any) -> Start:
    return Start(
        **{
            "session_id": "s",
            "gender": "female",
            "personality": "friendly",
            "chat_prompt": "You are Mira.",
            "personalities": {"friendly": []},
        }
        | fields
    )


@pytest.mark.parametrize("hour", range(24))
def test_each_hour_has_its_part_of_the_day(hour: int) -> None:
    for minute, second in [(0, 0), (59, 59)]:
        when = datetime(2025, 12, 12, hour, minute, second, 999_999, UTC)
        expected = f"2025-12-12T{hour:02}:{minute:02}:{second:02}+00:00 ({PARTS[hour]})"
        assert time_label(when) == expected


def test_the_time_of_a_session_stands_still() -> None:
    session = Session("s")
    began = session.now
    session.configure(start())
    assert session.now == began
    assert began.startswith(f"{datetime.now(UTC):%Y-}")


def test_a_start_replaces_the_whole_configuration() -> None:
    session = Session("s")
    session.configure(
        start(chat_prompt="A", sampling={"temperature": 0.5}, check_screen_prefix="LOOK:")
    )
    assert (session.chat_prompt, session.check_screen_prefix) == ("A", "LOOK:")
    assert session.sampling.temperature == 0.5
    session.configure(start(chat_prompt="B"))
    assert (session.chat_prompt, session.check_screen_prefix) == ("B", None)
    assert session.sampling == SamplingOptions()


@pytest.mark.parametrize(
    ("history_text", "remembered"),
    [(None, ["before"]), ("", []), ("User: other", ["other"])],
)
def test_history_text_replaces_what_was_said_only_where_it_comes(
    history_text: str | None, remembered: list[str]
) -> None:
    session = Session("s")
    session.history.append("user", "before")
    session.configure(start(history_text=history_text))
    assert session.history.user_lines() == remembered


# Where they are kept


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Holder:
    """A connection, as far as the store knows it."""

    async def lose(self, session: Session) -> None:
        session.owner = None


@pytest.fixture
def clock() -> Clock:
    return Clock()


def store(limit: int = 10, ttl: float = 60, clock: Clock | None = None) -> SessionStore:
    return SessionStore(ttl, limit, clock=clock or Clock())


def test_an_id_leads_to_its_session_again() -> None:
    sessions = store()
    assert sessions.open(b"k", "a") is sessions.open(b"k", "a")
    assert sessions.open(b"k", "a") is not sessions.open(b"k", "b")


def test_the_same_id_under_another_key_is_another_session() -> None:
    sessions = store()
    assert sessions.open(b"one", "a") is not sessions.open(b"two", "a")


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, "1"), (1, 1.0), (True, "True")])
def test_ids_of_different_types_are_different(
    one: str | int | float | bool, other: str | int | float | bool
) -> None:
    sessions = store()
    assert sessions.open(b"k", one) is not sessions.open(b"k", other)
    assert sessions.open(b"k", one).session_id is one


def test_the_session_used_longest_ago_makes_room() -> None:
    sessions = store(2)
    a, b = sessions.open(b"k", "a"), sessions.open(b"k", "b")
    assert sessions.open(b"k", "a") is a
    sessions.open(b"k", "c")
    assert sessions.open(b"k", "a") is a
    assert sessions.open(b"k", "b") is not b
    assert len(sessions) == 2


def test_a_session_in_use_makes_room_last() -> None:
    sessions = store(2)
    a = sessions.open(b"k", "a")
    a.owner = Holder()
    b = sessions.open(b"k", "b")
    sessions.open(b"k", "c")
    assert sessions.open(b"k", "a") is a
    assert sessions.open(b"k", "b") is not b


def test_a_session_is_forgotten_when_its_time_is_over_and_not_before(clock: Clock) -> None:
    sessions = store(clock=clock)
    a = sessions.open(b"k", "a")
    clock.now += 60
    assert sessions.evict() == 0
    clock.now += 1
    assert sessions.evict() == 1
    assert sessions.open(b"k", "a") is not a


def test_the_time_begins_when_the_connection_lets_go(clock: Clock) -> None:
    sessions, holder = store(clock=clock), Holder()
    a = sessions.open(b"k", "a")
    a.owner = holder
    clock.now += 1000
    assert sessions.evict() == 0
    sessions.release(a, Holder())
    assert a.owner is holder, "only who holds it can let go of it"
    sessions.release(a, holder)
    clock.now += 59
    assert sessions.open(b"k", "a") is a


def test_a_ttl_of_zero_keeps_sessions_for_good(clock: Clock) -> None:
    sessions = store(ttl=0, clock=clock)
    a = sessions.open(b"k", "a")
    clock.now += 1e9
    assert sessions.open(b"k", "a") is a
