"""The two state machines: as tables, in the documentation, and as the connection lives them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.places import START, MakePlace, Place
from tests.unit.stand_ins import Client, Gate, Last, kinds
from yap import connection, states
from yap.states import (
    MESSAGES,
    REFUSED,
    SENDS,
    TURN,
    ConnectionState,
    Does,
    Limit,
    TurnEvent,
    TurnLife,
    TurnState,
)

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
OPEN = (ConnectionState.NEW, ConnectionState.IDLE, ConnectionState.TURN)
EVERY_CASE = list(itertools.product(MESSAGES, OPEN))

# The tables


def test_every_message_is_answered_in_every_state() -> None:
    for rule in MESSAGES.values():
        assert set(rule.does) == set(ConnectionState)
        assert rule.does[ConnectionState.CLOSING] is Does.NOTHING


def test_what_stops_a_conversation_is_never_refused_for_its_state() -> None:
    for kind in ("cancel", "end", "ping", "pong"):
        assert not REFUSED.keys() & set(MESSAGES[kind].does.values())
        assert not MESSAGES[kind].accepting
        assert not MESSAGES[kind].chat


def test_the_documentation_shows_the_table() -> None:
    text = PROTOCOL.read_text("utf-8").partition("### States")[2]
    rows = [line for line in text.splitlines() if line.startswith("| `")][: len(MESSAGES)]
    shown = {}
    for row in rows:
        kind, *does = (cell.strip() for cell in row.strip("|").split(" | "))
        shown[kind.strip("`")] = tuple(does)
    assert shown == {kind: tuple(rule.does[s] for s in OPEN) for kind, rule in MESSAGES.items()}


def test_every_state_of_a_turn_leads_to_its_end() -> None:
    reaches = {TurnState.ENDED}
    for _ in TurnState:
        reaches |= {s for s, ways in TURN.items() if reaches & set(ways.values())}
    assert reaches == set(TurnState)
    assert not TURN[TurnState.ENDED]


def test_the_end_is_reached_in_one_way_only() -> None:
    ways = [(s, e) for s, to in TURN.items() for e, then in to.items() if then is TurnState.ENDED]
    assert ways == [(TurnState.ENDING, TurnEvent.DONE)]
    assert [state for state, frames in SENDS.items() if "done" in frames] == [TurnState.ENDING]


@given(st.lists(st.sampled_from(TurnEvent), max_size=30))
def test_whatever_happens_to_a_turn_it_never_goes_back(events: Sequence[TurnEvent]) -> None:
    life = TurnLife()
    been = [life.state]
    for event in events:
        before = life.state
        assert life.on(event) == (event in TURN[before])
        if life.state is not before:
            assert life.state not in been
            been.append(life.state)
    sent = [SENDS[state] for state in been]
    speaking = next((at for at, frames in enumerate(sent) if "token" in frames), len(sent))
    assert not any("toolcall" in frames for frames in sent[speaking:])
    if TurnState.STOPPING in been:
        rest = frozenset().union(*sent[been.index(TurnState.STOPPING) :])
        assert not rest & {"toolcall", "token", "final"}


@pytest.mark.parametrize("state", TurnState)
def test_a_turn_can_be_cancelled_until_its_outcome_is_settled(state: TurnState) -> None:
    life = TurnLife()
    life.state = state
    settled = state in (TurnState.STOPPING, TurnState.ENDING, TurnState.ENDED)
    assert life.on(TurnEvent.CANCEL) is not settled
    assert life.stopping is (state is TurnState.STOPPING or not settled)


# The connection does what the table says

FRAMES: dict[str, dict[str, Any]] = {
    "start": START,
    "followup": {"type": "followup", "analysis_text": "a cat"},
    "chat_prompt": {
        "type": "chat_prompt", "gender": "male", "personality": "calm", "chat_prompt": "Be Leo.",
    },
    "warm_persona": {"type": "warm_persona", "chat_prompt": "Be Leo."},
    "warm_history": {"type": "warm_history", "history_text": "User: hi"},
    "cancel": {"type": "cancel"},
    "ping": {"type": "ping"},
    "pong": {"type": "pong"},
    "end": {"type": "end"},
}  # fmt: skip
ANSWER: dict[Does, list[str]] = {
    Does.BEGIN: ["ack?", "toolcall?", "token"],
    Does.REPLACE: ["done", "ack?", "toolcall?", "token"],
    Does.ERRAND: ["ack?", "warmed?"],
    Does.STOP: ["done"],
    Does.STOP_NOTHING: ["done"],
    Does.PONG: ["pong"],
    Does.NOTHING: [],
    Does.LEAVE: ["connection_closed", "closed"],
    Does.LEAVE_TURN: ["done", "connection_closed", "closed"],
    Does.NO_SESSION: ["error"],
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[connection.Connection]:
    """The connections that the server has made."""
    made: list[connection.Connection] = []

    class Noted(connection.Connection):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(connection, "Connection", Noted)
    return made


async def _brought_to(state: ConnectionState, at: Place) -> Client:
    """A client whose connection is in this state."""
    client = at.connect()
    client.send({"type": "ping"})
    await client.receive()
    if state is not ConnectionState.NEW:
        client.send(START)
        await client.until("token")
    if state is ConnectionState.IDLE:
        client.send({"type": "cancel"})
        await client.until("done")
    return client


@pytest.mark.parametrize(("kind", "state"), EVERY_CASE)
async def test_a_message_does_what_the_table_says(
    place: MakePlace, made: list[connection.Connection], kind: str, state: ConnectionState
) -> None:
    does = MESSAGES[kind].does[state]
    endless = ("Hello", Gate())
    warm = (Last("x"),)
    errand = does is Does.ERRAND
    replies = [endless] if state is not ConnectionState.NEW else []
    at = place(*replies, warm if errand else endless)
    client = await _brought_to(state, at)
    client.send(FRAMES[kind])
    wanted = ANSWER[does]
    got: list[dict[str, Any]] = []
    while len(got) < len(wanted):
        frame = await client.receive()
        while frame["type"] != wanted[len(got)].rstrip("?"):
            assert wanted[len(got)].endswith("?"), f"{frame} instead of {wanted}"
            wanted = wanted[: len(got)] + wanted[len(got) + 1 :]
        got.append(frame)
        if errand:
            break
    if does in REFUSED:
        assert got[0]["error_code"] == REFUSED[does]
    if client.close is None:
        client.send({"type": "ping"})  # nothing but this comes now
        assert kinds([await client.receive()]) == ["pong"]
    else:
        await client.serving
    assert made[0].state is states.after(state, does)


@pytest.mark.parametrize(
    ("kind", "state"),
    [(k, s) for k, s in EVERY_CASE if MESSAGES[k].limit is not Limit.NONE],
)
async def test_what_is_over_its_limit_changes_nothing(
    place: MakePlace, made: list[connection.Connection], kind: str, state: ConnectionState
) -> None:
    at = place(("Hello", Gate()), ws_max_messages_per_window=1, ws_max_cancels_per_window=1)
    client = await _brought_to(state, at)
    if MESSAGES[kind].limit is Limit.CANCELS and state is not ConnectionState.IDLE:
        made[0]._cancels.hit()
    elif state is ConnectionState.NEW:
        made[0]._messages.hit()
    client.send(FRAMES[kind])
    frame = await client.receive()
    limited = {Limit.MESSAGES: "message_rate_limited", Limit.CANCELS: "cancel_rate_limited"}
    assert frame["error_code"] == limited[MESSAGES[kind].limit]
    assert made[0].state is state


@pytest.mark.parametrize(("kind", "state"), EVERY_CASE)
async def test_while_the_server_drains_only_turns_are_refused(
    place: MakePlace, made: list[connection.Connection], kind: str, state: ConnectionState
) -> None:
    at = place(("Hello", Gate()), (Last("x"),))
    client = await _brought_to(state, at)
    at.server.admission.draining = True
    client.send(FRAMES[kind])
    client.send({"type": "ping"})
    frames = [] if kind == "end" else await client.until("pong")
    codes = [frame.get("error_code") for frame in frames]
    assert ("server_draining" in codes) is MESSAGES[kind].accepting
    if MESSAGES[kind].accepting:
        assert made[0].state is state


def test_the_states_of_the_tests_are_those_of_the_code() -> None:
    assert set(ANSWER) == set(Does)
    assert set(FRAMES) == set(MESSAGES)
