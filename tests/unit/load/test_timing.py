"""What the load generator measures is what a server of known latencies did."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import median

import pytest

from tests.load.backends import KINDS, Kind, Target
from tests.load.measurement import Measured, Plan, measure
from tests.load.quantiles import Quantiles
from tests.load.results import TurnResult
from tests.load.summary import Load, Summary
from tests.load.workload import Mix
from tests.unit.load.scripted import Note, Script, Scripted, scripted

WITHIN_MS = 2.0
TRIES = 3  # other work on the machine spoils one; a wrong time is wrong in all of them
# 40 to 139.5 ms in steps of half a millisecond, shuffled: quantiles of coarse steps would jump.
TTFTS = tuple(40 + n * 37 % 200 / 2 for n in range(200))


async def run(server: Scripted, kind: Kind, plan: Plan, mix: Mix | None = None) -> Measured:
    """A measurement of the scripted server."""
    target = Target(kind, server.address(kind), model="scripted")
    return await measure(plan, mix or Mix(), target.dial(timeout=20))


def in_order(notes: Sequence[Note], results: Sequence[TurnResult]) -> list[tuple[Note, TurnResult]]:
    """What the server noted beside what was measured, turn by turn, warm-up left out.

    Sessions of one turn are numbered like the utterances.
    """
    by_session = sorted(results, key=lambda result: int(result.session_id.rpartition("-")[2]))
    by_utterance = sorted(notes, key=lambda note: int(note.utterance.partition(":")[0]))
    return list(zip(by_utterance[-len(results) :], by_session, strict=True))


def true_times(note: Note) -> dict[str, float]:
    """What the server did, in milliseconds from the request's arrival there."""
    found = {
        "ttft_ms": note.pieces[0] - note.received,
        "tpot_ms": (note.ended - note.pieces[0]) / (len(note.pieces) - 1),
        "e2el_ms": note.ended - note.received,
    }
    if note.toolcall is not None:
        found["toolcall_ms"] = note.toolcall - note.received
    return {name: 1000 * value for name, value in found.items()}


def disagreements(pairs: Sequence[tuple[Note, TurnResult]], tail_ms: float) -> list[str]:
    """Where the measured differ from the true times by more than they may.

    Args:
        tail_ms: for p90 and p95.
    """
    found = []
    for name in true_times(pairs[0][0]):
        truth = [true_times(note)[name] for note, _ in pairs]
        measured = [getattr(result, name) for _, result in pairs]
        off = median(abs(m - t) for m, t in zip(measured, truth, strict=True))
        if off > WITHIN_MS:
            found.append(f"{name}: the median turn is {off:.2f} ms off")
        for quantile in ("p50", "p90", "p95"):
            was, want = (getattr(Quantiles.of(values), quantile) for values in (measured, truth))
            if abs(was - want) > (WITHIN_MS if quantile == "p50" else tail_ms):
                found.append(f"{name} {quantile}: {was:.2f} ms measured, {want:.2f} ms true")
    gaps = [1000 * (b - a) for note, _ in pairs for a, b in pairwise(note.pieces)]
    itl = median(gap for _, result in pairs for gap in result.itl_ms)
    if abs(itl - median(gaps)) > WITHIN_MS:
        found.append(f"ITL p50: {itl:.2f} ms measured, {median(gaps):.2f} ms true")
    return found


def most_at_once(notes: Sequence[Note]) -> int:
    """How many turns were in flight together."""
    events = [(n.received, 1) for n in notes] + [(n.ended, -1) for n in notes]
    return max(accumulate(step for _, step in sorted(events)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sessions", [4, 200])
async def test_the_times_are_those_of_the_server(kind: Kind, sessions: int) -> None:
    """Every latency of every dialect, also while 200 turns stream at once."""
    tool = None if kind == "openai" else 25
    if sessions == 4:
        script, load, turns = Script(TTFTS, 40, 6, tool), Load(clients=4), 40
    else:  # 150 a second that take 1.5 s each; of a burst, the server reads the last one late
        script, load, turns = Script(TTFTS, 200, 8, tool), Load(rate=150), 450
    # With 200 streams, and a server in Python on the same two cores, the tails are the scheduler's.
    tail_ms = WITHIN_MS if sessions == 4 else 4 * WITHIN_MS
    problems: list[str] = []
    for _ in range(TRIES):
        with scripted(script) as server:
            plan = Plan([load], turns=turns, burstiness=50, progress=False)
            [(summary, results)] = await run(server, kind, plan)
            pairs = in_order(server.notes(), results)
        assert summary.completed == turns and summary.failed == 0
        assert summary.metrics["TTFT"].count == turns
        assert most_at_once([note for note, _ in pairs]) >= 0.9 * sessions
        problems = disagreements(pairs, tail_ms)
        if not problems:
            return
    pytest.fail("\n".join(problems))


@pytest.mark.parametrize("kind", KINDS)
async def test_two_hundred_clients_that_begin_together(kind: Kind) -> None:
    """A closed loop: what the median turn is told is what it took, burst or not."""
    with scripted(Script(TTFTS, itl_ms=100, tokens=6)) as server:
        plan = Plan([Load(clients=200)], turns=400, progress=False)
        [(_, results)] = await run(server, kind, plan)
        pairs = in_order(server.notes(), results)
    assert most_at_once([note for note, _ in pairs]) == 200
    off = [abs((r.ttft_ms or 0) - true_times(note)["ttft_ms"]) for note, r in pairs]
    assert median(off) < 5 * WITHIN_MS  # the time until the server reads is in it


@pytest.mark.parametrize("kind", KINDS)
async def test_each_turn_has_its_own_time(kind: Kind) -> None:
    """The script's TTFTs differ by 30 ms from turn to turn: a mix-up of turns is seen."""
    scripted_ms = (40, 70, 100, 130)
    with scripted(Script(scripted_ms, tokens=3, itl_ms=10)) as server:
        plan = Plan([Load(clients=1)], turns=12, warm_up=1, progress=False)
        [(_, results)] = await run(server, kind, plan)
        pairs = in_order(server.notes(), results)
    off = [abs((result.ttft_ms or 0) - scripted_ms[note.number % 4]) for note, result in pairs]
    assert median(off) < WITHIN_MS
    assert sum(one < 15 for one in off) >= 10


async def test_words_and_sentences_are_timed_by_the_piece_that_ends_them() -> None:
    """Hi| there|,| my| friend|.| It| is: the third word is whole with the fourth piece."""
    with scripted(Script(ttft_ms=(30,), itl_ms=25, tokens=8)) as server:
        plan = Plan([Load(clients=1)], turns=8, progress=False)
        [(summary, _)] = await run(server, "ws", plan)
        notes = server.notes()[-8:]
    words = [1000 * (note.pieces[3] - note.received) for note in notes]
    sentence = [1000 * (note.pieces[5] - note.received) for note in notes]
    assert summary.metrics["first 3 words"].p50 == pytest.approx(median(words), abs=WITHIN_MS)
    assert summary.metrics["first sentence"].p50 == pytest.approx(median(sentence), abs=WITHIN_MS)


async def test_an_open_loop_waits_for_nobody() -> None:
    """Turns of 400 ms at 40 a second: 16 are in flight; a closed loop of one would take 16 s."""
    with scripted(Script(ttft_ms=(200,), itl_ms=40, tokens=6)) as server:
        plan = Plan([Load(rate=40)], turns=40, burstiness=100, progress=False)
        [(summary, results)] = await run(server, "ws", plan)
        notes = server.notes()[-40:]
    assert summary.completed == 40
    assert summary.seconds == pytest.approx(40 / 40 + 0.4, abs=0.4)
    received = [note.received for note in notes]
    sent = sorted(result.sent_s for result in results)
    gaps = [(b - received[0]) - (s - sent[0]) for b, s in zip(received, sent, strict=True)]
    assert abs(median(gaps)) < 0.002
    assert summary.lag_ms is not None and summary.lag_ms.p50 < WITHIN_MS


async def test_waiting_for_a_connection_counts_against_the_server() -> None:
    """Four sessions at once on one connection: each waits for those before it."""
    with scripted(Script(ttft_ms=(50,), itl_ms=10, tokens=6)) as server:
        plan = Plan([Load(rate=1000)], turns=4, warm_up=1, max_connections=1, progress=False)
        [(summary, results)] = await run(server, "ws", plan)
    ttfts = sorted(result.ttft_ms or 0 for result in results)
    assert ttfts == pytest.approx([50, 150, 250, 350], abs=30)
    assert summary.lag_ms is not None and summary.lag_ms.max > 250


def test_what_it_costs_is_told() -> None:
    """A loop that is kept busy is found late, and said to distort."""
    summary = _with_busy_loop()
    assert summary.overhead is not None and summary.overhead.lag_ms is not None
    assert summary.overhead.lag_ms.p99 > 20
    assert any("late" in warning for warning in summary.warnings)


def _with_busy_loop() -> Summary:
    import asyncio
    import time

    async def busy(server: Scripted) -> Summary:
        async def block() -> None:
            while True:
                time.sleep(0.03)  # noqa: ASYNC251 (it blocks on purpose)
                await asyncio.sleep(0.01)

        blocker = asyncio.create_task(block())
        plan = Plan([Load(clients=2)], turns=6, progress=False)
        [(summary, _)] = await run(server, "ws", plan)
        blocker.cancel()
        return summary

    with scripted(Script()) as server:
        return asyncio.run(busy(server))
