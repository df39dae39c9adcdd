"""A session lives from turn to turn, under the very id that the client chose."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from yap.protocol import SamplingOptions, Start
from yap.session import Session, Sessions, time_label

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


# Sessions of a connection


def test_an_id_leads_to_its_session_again() -> None:
    sessions = Sessions(2)
    assert sessions.open("a") is sessions.open("a")
    assert sessions.open("a") is not sessions.open("b")


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, "1"), (1, 1.0), (True, "True")])
def test_ids_of_different_types_are_different(
    one: str | int | float | bool, other: str | int | float | bool
) -> None:
    sessions = Sessions(5)
    assert sessions.open(one) is not sessions.open(other)
    assert sessions.open(one).session_id is one


def test_the_session_used_longest_ago_makes_room() -> None:
    sessions = Sessions(2)
    a, b = sessions.open("a"), sessions.open("b")
    assert sessions.open("a") is a
    sessions.open("c")
    assert sessions.open("a") is a
    assert sessions.open("b") is not b


def test_a_limit_of_one_keeps_the_one_in_use() -> None:
    sessions = Sessions(1)
    a = sessions.open("a")
    assert sessions.open("a") is a
    b = sessions.open("b")
    assert sessions.open("b") is b
    assert sessions.open("a") is not a


def test_connections_share_no_session() -> None:
    assert Sessions(1).open("a") is not Sessions(1).open("a")
