"""Two real servers behind the proxy of deploy/proxy: one is killed, both are drained, under load.

apt-get install haproxy
scripts/test.sh tests/e2e/test_replicas.py -m long -s        # -s shows the figures
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Iterator

import pytest

from tests.client.conversation import connect_to
from tests.client.endpoint import Endpoint
from tests.e2e.harness import API_KEY
from tests.e2e.replicas import (
    Attempt,
    Caller,
    Crowd,
    Fleet,
    failures,
    find_proxy,
    proxy_before,
    seconds,
)
from tests.e2e.talk import start

PROXY = find_proxy()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROXY is None, reason="HAProxy is not installed; apt-get install haproxy"),
]

CALLERS = 12
PAUSE_S = 0.02


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas with both models and no limit on messages; tests fill the gaps they find."""
    made = Fleet(tmp_path_factory.mktemp("fleet"), WS_MAX_MESSAGES_PER_WINDOW="0")
    try:
        yield made
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def proxy(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's host:port."""
    assert PROXY is not None
    log = tmp_path_factory.mktemp("proxy") / "haproxy.log"
    with proxy_before(PROXY, fleet.addresses, log) as address:
        yield address


def shares(fleet: Fleet) -> list[float]:
    """WebSockets of each replica."""
    return [fleet[place].metric("yap_connections") for place in (0, 1)]


def show(what: str, **figures: object) -> None:
    print(f"\n{what}: {json.dumps(figures)}")


async def memory(address: str, session: str, utterance: str) -> int:
    """One turn over a connection of its own, without history; the tokens of its prompt."""
    endpoint = Endpoint(f"ws://{address}/ws?session={session}", API_KEY, retry_s=30)
    async with connect_to(endpoint) as conversation:
        frame = start(utterance, session_id=session)
        frame.pop("history_text")
        record = await conversation.turn(frame)
    assert record.done is not None
    assert record.done.usage is not None
    return record.done.usage.prompt_tokens


async def test_a_client_that_names_its_session_comes_back_to_the_replica_that_remembers_it(
    fleet: Fleet, proxy: str
) -> None:
    fleet.fill()
    sessions = [f"friend-{number}" for number in range(8)]
    first = [await memory(proxy, session, "My name is Tobias.") for session in sessions]
    again = [await memory(proxy, session, "What is my name?") for session in sessions]
    assert all(later > earlier + 5 for earlier, later in zip(first, again, strict=True))
    turns = [fleet[place].metric("yap_turns_total") for place in (0, 1)]
    assert min(turns) > 0, "all sessions went to one replica, so that nothing was shown"


async def test_a_replica_that_is_killed_under_load_loses_no_turn_silently(
    fleet: Fleet, proxy: str
) -> None:
    fleet.fill()
    async with Crowd(proxy, CALLERS, PAUSE_S) as crowd:
        await crowd.turns(3 * CALLERS, timeout=120)
        before = await asyncio.to_thread(shares, fleet)
        assert min(before) >= CALLERS // 4, before
        assert failures(crowd.attempts) == {}
        await crowd.turns_in_flight(
            CALLERS // 2 + 1, timeout=60
        )  # so one of either replica at least
        killed = await asyncio.to_thread(fleet.kill, 0)
        await crowd.turns(4 * CALLERS, timeout=120)
        after = await asyncio.to_thread(fleet[1].metric, "yap_connections")
    crowd.check_ledger()
    assert after == CALLERS
    hit = [caller for caller in crowd.callers if caller.connections > 1]
    assert len(hit) == before[0], "who was on the other replica noticed something"
    cut = [a for a in crowd.attempts if not a.done]
    assert any(a.acked for a in cut), "no turn was in flight, so that nothing was shown"
    assert all(a.caller in {caller.name for caller in hit} for a in cut)
    for caller in hit:
        _remembers(caller, killed)
    show(
        "killed",
        callers=CALLERS,
        on_the_replica=len(hit),
        turns=sum(a.done for a in crowd.attempts),
        failures=failures(crowd.attempts),
        noticed_s=seconds([a.ended - killed for a in cut]),
        speaks_again_s=seconds([_next_token(caller, killed) - killed for caller in hit]),
        ttft_s=seconds([a.first_token - a.sent for a in crowd.attempts if a.first_token]),
    )


def _remembers(caller: Caller, when: float) -> None:
    """The other replica was given the conversation, which it had never seen."""
    done = [a for a in caller.attempts if a.done]
    last = [a for a in done if a.ended < when][-1]
    following = next(a for a in done if a.ended >= when)
    assert following.prompt_tokens > last.prompt_tokens, caller.attempts


def _next_token(caller: Caller, when: float) -> float:
    found: list[Attempt] = [a for a in caller.attempts if a.done and a.ended >= when]
    assert found[0].first_token is not None
    return found[0].first_token


async def test_a_rolling_restart_cuts_no_turn_in_flight(fleet: Fleet, proxy: str) -> None:
    fleet.fill()
    figures: dict[str, float] = {}
    drains: list[float] = []
    async with Crowd(proxy, CALLERS, PAUSE_S) as crowd:
        for place in (0, 1):
            await crowd.turns(2 * CALLERS, timeout=120)
            await crowd.turns_in_flight(CALLERS // 2 + 1, timeout=60)
            asked = time.monotonic()
            drains.append(asked)
            assert await asyncio.to_thread(fleet.drain, place) == 0
            figures[f"drain_{place}_s"] = round(time.monotonic() - asked, 2)
            await crowd.turns(2 * CALLERS, timeout=120)
            crowd.pause(1.0)  # a start beside full load takes minutes on two cores
            server = await asyncio.to_thread(fleet.start, place)
            await asyncio.to_thread(server.wait_ready)
            crowd.pause(PAUSE_S)
            figures[f"ready_{place}_s"] = round(time.monotonic() - asked, 2)
            await asyncio.sleep(1)  # until the proxy has seen it
        await crowd.turns(2 * CALLERS, timeout=120)
    crowd.check_ledger()
    told = failures(crowd.attempts)
    assert not [a for a in crowd.attempts if a.acked and not a.done], told
    gone = {"closed 1012", "closed 1013", "closed without a word"}
    assert set(told) <= {"server_draining", *gone}, told
    times = [*drains, math.inf]
    moves = [_moves(crowd.attempts, *span) for span in itertools.pairwise(times)]
    show(
        "rolled",
        turns=sum(a.done for a in crowd.attempts),
        refused_before_the_turn=told,
        connections=sum(caller.connections for caller in crowd.callers),
        connected_again_s=[seconds([b.sent - a.ended for a, b in move]) for move in moves],
        then_first_token_s=[
            seconds([b.first_token - b.sent for _, b in move if b.first_token]) for move in moves
        ],
        **figures,
    )


def _moves(attempts: list[Attempt], since: float, until: float) -> list[tuple[Attempt, Attempt]]:
    """Turns that were refused in that time, with the attempt that was played."""
    refused = [a for a in attempts if not a.done and since <= a.ended < until]
    first = {(a.caller, a.turn): a for a in reversed(refused)}
    done = {(a.caller, a.turn): a for a in attempts if a.done}
    return [(attempt, done[turn]) for turn, attempt in first.items()]
