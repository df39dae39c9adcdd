"""However a connection ends, it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.places import START, MakePlace
from tests.unit.stand_ins import Gate, Last, kinds

pytestmark = pytest.mark.usefixtures("no_task_left")


# Silence


async def test_a_silent_client_is_closed(place: MakePlace) -> None:
    client = place(idle=0.25, ws_watchdog_tick_s=0.05).connect()
    assert kinds(await client.ended()) == ["closed"]
    assert client.close == (4000, "idle_timeout")


async def test_a_ping_keeps_the_connection_and_rubbish_does_not(place: MakePlace) -> None:
    at = place(idle=0.25, ws_watchdog_tick_s=0.05)
    lively, silly = at.connect(), at.connect()
    for _ in range(8):
        await asyncio.sleep(0.05)
        lively.send({"type": "ping"})
        silly.send("rubbish")
    assert lively.close is None
    assert silly.close == (4000, "idle_timeout")


async def test_a_running_turn_ends_with_the_idle_connection(place: MakePlace) -> None:
    at = place(("Hello", Gate()), idle=0.25, ws_watchdog_tick_s=0.05)
    client = at.connect()
    client.send(START)
    frames = await client.ended()
    assert kinds(frames)[-2:] == ["done", "closed"]
    assert frames[-2]["finish_reason"] == "cancelled"
    assert at.chat.streaming == 0


# Clients that do not read


async def test_a_client_that_does_not_read_is_closed_with_a_code_of_its_own(
    place: MakePlace,
) -> None:
    at = place(("a",) * 1000, ws_send_timeout_s=0.2, ws_send_queue_max=8)
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.reading.clear()
    await asyncio.sleep(0.3)
    client.reading.set()  # in time for the close
    await client.ended()
    assert client.close == (4001, "slow_client")
    assert at.chat.streaming == 0


async def test_a_client_that_never_reads_again_costs_no_place(place: MakePlace) -> None:
    at = place(("a",) * 1000, ws_send_timeout_s=0.1, ws_send_queue_max=8)
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.reading.clear()
    await client.ended(2)
    assert at.server.admission.active == 0
    assert at.chat.streaming == 0


@pytest.mark.parametrize("pings", [8, 9])
@pytest.mark.parametrize("last", ["bad start", "end", "silence", "disconnect"])
async def test_a_client_with_a_full_queue_costs_no_place_however_it_ends(
    place: MakePlace, pings: int, last: str
) -> None:
    """Answers to pings fill the queue, so that not even the turn's `done` finds room."""
    gate = Gate()
    at = place(
        (gate,),
        ws_send_queue_max=8,
        ws_send_timeout_s=0.3,
        idle=0.15 if last == "silence" else 150,
        ws_watchdog_tick_s=0.05,
    )
    client = at.connect()
    client.send(START)
    await client.until("toolcall")
    await gate.reached()
    client.reading.clear()
    for _ in range(pings):
        client.send({"type": "ping"})
    if last == "bad start":
        client.send(START | {"gender": 5})
    elif last == "end":
        client.send({"type": "end"})
    elif last == "disconnect":
        client.disconnect()
    await client.ended(3)
    assert at.server.admission.active == 0
    assert at.chat.streaming == 0


async def test_a_client_that_reads_slowly_slows_its_own_turn_only(place: MakePlace) -> None:
    at = place(("a",) * 100 + (Last("."),), ws_send_queue_max=8)
    slow, quick = at.connect(), at.connect()
    slow.send(START)
    await slow.until("token")
    slow.reading.clear()
    quick.send(START | {"session_id": "s-2"})
    assert len(await quick.until("done")) == 105
    slow.reading.set()
    assert (await slow.until("done"))[-1]["usage"]["completion_tokens"] == 101


# The end


@pytest.mark.parametrize("when", ["ack", "toolcall", "token"])
async def test_a_client_that_goes_in_mid_turn_leaves_nothing_running(
    place: MakePlace, when: str
) -> None:
    gate = Gate()
    at = place(("Hello", gate), steps=[0.01])
    client = at.connect()
    client.send(START)
    await client.until(when)
    client.disconnect()
    await client.ended()
    assert client.close is None
    assert at.chat.streaming == 0
    assert not at.server._turns
    assert at.server.metrics.connections._value.get() == 0


async def test_a_server_that_drops_the_connection_leaves_nothing_running(
    place: MakePlace,
) -> None:
    """At shutdown the web server cancels what serves a connection."""
    gate = Gate()
    at = place(("Hello", gate))
    client = at.connect()
    client.send(START)
    await client.until("token")
    client.serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.serving
    await asyncio.sleep(0)
    assert at.chat.streaming == 0
    assert not at.server._turns


async def test_a_fault_of_our_own_closes_with_1011_and_says_nothing_of_it(
    place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = place()
    client = at.connect()
    client.send({"type": "ping"})
    await client.receive()

    def fail(*_args: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(at.server, "check_accepting", fail)
    client.send(START)
    frames = await client.ended()
    assert "secret" not in json.dumps(frames)
    assert client.close == (1011, "")


async def test_connections_are_counted(place: MakePlace) -> None:
    at = place()
    for _ in range(3):
        at.connect().send({"type": "ping"})
    for client in at.clients:
        await client.receive()
    assert at.server.metrics.connections._value.get() == 3
    for client in at.clients:
        client.send({"type": "end"})
        await client.ended()
    assert at.server.metrics.connections._value.get() == 0
