"""The right ones are let in, and the others are told why not."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.places import START, MakePlace
from tests.unit.stand_ins import KEY, Gate, Last

pytestmark = pytest.mark.usefixtures("no_task_left")


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (f"api_key={KEY}", {}),
        ("", {"X-API-Key": KEY}),
        ("api_key=", {"X-API-Key": KEY}),
        ("", {"Authorization": f"Bearer {KEY}"}),
        (f"api_key={KEY}", {"X-API-Key": "wrong-key"}),
    ],
)
async def test_who_has_the_key_is_let_in(
    place: MakePlace, query: str, headers: dict[str, str]
) -> None:
    client = place().connect(query=query, headers=headers)
    client.send({"type": "ping"})
    assert await client.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("api_key=wrong-key", {}),
        ("api_key=wrong-key", {"X-API-Key": KEY}),
        ("", {"X-API-Key": "wrong-key"}),
        ("", {"Authorization": f"Basic {KEY}"}),
    ],
)
async def test_who_has_not_is_told_and_closed(
    place: MakePlace, query: str, headers: dict[str, str]
) -> None:
    at = place()
    client = at.connect(query=query, headers=headers)
    frame, closed = await client.ended()
    assert client.accepted
    assert list(frame) == ["type", "error_code", "message"]
    assert frame["error_code"] == "authentication_failed"
    assert "api_key" in frame["message"]
    assert "X-API-Key" in frame["message"]
    assert closed == {"type": "closed"}
    assert client.close == (1008, "")
    assert at.refusals("authentication_failed") == 1


async def test_one_more_than_there_is_room_for_is_told_how_full_it_is(place: MakePlace) -> None:
    at = place(max_concurrent_connections=2, ws_handshake_acquire_timeout_s=0.05)
    for _ in range(2):
        client = at.connect()
        client.send({"type": "ping"})
        await client.receive()
    third = at.connect()
    frame, _closed = await third.ended()
    assert list(frame) == ["type", "error_code", "message", "capacity"]
    assert frame["error_code"] == "server_at_capacity"
    assert frame["capacity"] == {"active": 2, "max": 2, "available": 0, "at_capacity": True}
    assert third.close == (1013, "")


async def test_a_wrong_key_is_told_before_anything_about_capacity(place: MakePlace) -> None:
    at = place(max_concurrent_connections=1, ws_handshake_acquire_timeout_s=5)
    at.connect().send({"type": "ping"})
    await at.clients[0].receive()
    frame, _closed = await at.connect(query="").ended(1)
    assert frame["error_code"] == "authentication_failed"


async def test_a_place_that_comes_free_in_time_is_given(place: MakePlace) -> None:
    at = place(max_concurrent_connections=1, ws_handshake_acquire_timeout_s=5)
    first = at.connect()
    first.send({"type": "ping"})
    await first.receive()
    second = at.connect()
    second.send({"type": "ping"})
    await asyncio.sleep(0.01)
    assert not second.accepted
    first.disconnect()
    assert await second.receive() == {"type": "pong"}


async def test_close_codes_are_the_operators(place: MakePlace) -> None:
    at = place(
        max_concurrent_connections=1,
        ws_handshake_acquire_timeout_s=0,
        ws_close_unauthorized_code=4401,
        ws_close_busy_code=4503,
        ws_close_client_request_code=4200,
    )
    wrong, first = at.connect(query=""), at.connect()
    await wrong.ended()
    busy = at.connect()
    await busy.ended()
    first.send({"type": "end"})
    await first.ended()
    assert [wrong.close, busy.close, first.close] == [(4401, ""), (4503, ""), (4200, "")]


@pytest.mark.parametrize("query", [None, ""])
async def test_a_client_that_vanishes_in_the_handshake_costs_no_place(
    place: MakePlace, query: str | None
) -> None:
    at = place(max_concurrent_connections=1, ws_send_timeout_s=0.1)
    for _ in range(3):
        client = at.connect(query=query)
        client.disconnect()
        await client.ended()
    assert at.server.admission.active == 0


async def test_while_the_server_drains_nobody_gets_in(place: MakePlace) -> None:
    at = place()
    at.server.admission.draining = True
    client = at.connect()
    frame, _closed = await client.ended()
    assert frame["error_code"] == "server_draining"
    assert client.close == (1013, "")


async def test_while_the_server_drains_a_running_turn_goes_on_and_no_new_one_starts(
    place: MakePlace,
) -> None:
    gate = Gate()
    at = place(("Hello", gate, Last(".")), drain_timeout_s=5)
    client = at.connect()
    client.send(START)
    await gate.reached()
    draining = asyncio.create_task(at.server.drain())
    await asyncio.sleep(0.01)
    client.send(START)
    assert (await client.until("error"))[-1]["error_code"] == "server_draining"
    assert not draining.done()
    gate.open()
    assert (await client.until("done"))[-1]["finish_reason"] == "stop"
    await draining
