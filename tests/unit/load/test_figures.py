"""Quantiles, arrivals, goodput and what is made of a turn's pieces."""

from __future__ import annotations

import random
from array import array
from itertools import islice, pairwise
from statistics import mean, pvariance

import numpy as np
import pytest

from tests.load.arrivals import arrivals
from tests.load.measurement import CalibrationError, words_for
from tests.load.overhead import Overhead
from tests.load.quantiles import Quantiles, quantile
from tests.load.results import TurnResult, moments, result_of
from tests.load.summary import Load, goodput, summarise
from tests.load.trace import Trace, Usage
from tests.load.workload import Mix, Workload


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 1000])
def test_quantiles_are_those_of_numpy(count: int) -> None:
    rng = random.Random(count)
    values = [rng.lognormvariate(3, 1) for _ in range(count)]
    found = Quantiles.of(values)
    assert found is not None
    expected = np.percentile(values, (50, 90, 95, 99))
    assert (found.p50, found.p90, found.p95, found.p99) == pytest.approx(expected)
    assert (found.count, found.max) == (count, max(values))
    assert found.mean == pytest.approx(mean(values))


def test_quantiles_of_nothing() -> None:
    assert Quantiles.of([]) is None
    with pytest.raises(ValueError, match="one value"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="0 to 1"):
        quantile([1.0], 95)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_arrivals_have_their_rate_and_their_burstiness(burstiness: float) -> None:
    """The gaps' mean is 1 / rate; their squared coefficient of variation is 1 / burstiness."""
    times = list(islice(arrivals(20, burstiness, random.Random(7)), 20_001))
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == 0
    assert mean(gaps) == pytest.approx(1 / 20, rel=0.05)
    assert pvariance(gaps) / mean(gaps) ** 2 == pytest.approx(1 / burstiness, rel=0.1)


def test_poisson_arrivals_are_poisson() -> None:
    """As many seconds hold k arrivals as the Poisson distribution says: variance equals mean."""
    times = np.array(list(islice(arrivals(5, 1, random.Random(3)), 20_000)))
    counts = np.bincount(times.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.1)


def turn(outcome: str = "completed", **fields: object) -> TurnResult:
    made = TurnResult("s", 0, 0.0, outcome)  # type: ignore[arg-type]
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_goodput_counts_turns_that_met_everything() -> None:
    results = [
        turn(ttft_ms=199.0, tpot_ms=49.0, output_tokens=10),
        turn(ttft_ms=200.0, tpot_ms=50.0, output_tokens=10),  # at the limit is within it
        turn(ttft_ms=201.0, tpot_ms=10.0, output_tokens=10),
        turn(ttft_ms=10.0, tpot_ms=51.0, output_tokens=10),
        turn(ttft_ms=10.0, output_tokens=1),  # one token: no TPOT to miss
        turn(tpot_ms=10.0, output_tokens=10),  # no TTFT was seen
    ]
    found = goodput(results, failed=2, seconds=4.0, objectives={"ttft": 200, "tpot": 50})
    assert found.per_s == 3 / 4
    assert found.share == 3 / 8


def test_a_summary_adds_up() -> None:
    results = [
        turn(ttft_ms=10.0, prompt_tokens=100, cached_tokens=80, output_tokens=20),
        turn(ttft_ms=20.0, prompt_tokens=100, cached_tokens=0, output_tokens=30),
        turn("cancelled", ttft_ms=30.0, output_tokens=10, wasted_tokens=4, prompt_tokens=50),
        turn("failed", failure="timeout", detail="late", output_tokens=7),
    ]
    found = summarise(results, 2.0, Load(clients=2))
    assert (found.completed, found.cancelled, found.failed) == (2, 1, 1)
    assert found.failures == {"timeout": 1} and found.details == {"timeout": "late"}
    assert found.failed_share == 0.25
    assert found.requests_per_s == 1.0
    assert found.output_tokens_per_s == 30.0  # a failed turn gives nothing
    assert found.total_tokens_per_s == 155.0
    assert found.cached_share == 0.4  # the one that did not say is left out
    assert (found.wasted_tokens, found.wasted_share) == (4, 4 / 60)
    assert found.metrics["TTFT"].count == 3
    assert "TPOT" not in found.metrics
    assert summarise([], 1.0, Load(rate=1.0)).failed_share == 1.0


def test_a_turn_as_figures() -> None:
    trace = Trace(started=10.0, sent=10.0, toolcall=10.02)
    for at, text in ((10.1, "Hi"), (10.15, " there"), (10.25, " friend. So")):
        trace.piece(text, at)
    trace.ended, trace.usage = 10.3, Usage(50, 40, 5)
    found = result_of(trace, "s", 0, begun=9.0, due=9.999)
    assert found.outcome == "completed"
    assert found.ttft_ms == pytest.approx(100)
    assert list(found.itl_ms) == pytest.approx([50, 100])
    assert found.e2el_ms == pytest.approx(300)
    assert found.tpot_ms == pytest.approx((300 - 100) / 4)
    assert found.toolcall_ms == pytest.approx(20)
    assert found.first_3_words_ms == pytest.approx(250)
    assert found.first_sentence_ms == pytest.approx(250)
    assert found.lag_ms == pytest.approx(1)
    assert (found.sent_s, found.pieces, found.output_tokens) == (1.0, 3, 5)


def test_a_cut_reply_has_no_end_to_end_latency() -> None:
    trace = Trace(started=10.0, sent=10.0, cancel_sent=10.2, cancelled=True, ended=10.23)
    for at in (10.1, 10.15, 10.21):  # the last one came after the barge-in
        trace.piece("x", at)
    trace.usage = Usage(50, 40, 6)
    found = result_of(trace, "s", 0, begun=10.0)
    assert found.outcome == "cancelled"
    assert found.ttft_ms == pytest.approx(100)
    assert found.e2el_ms is None and found.tpot_ms is None
    assert found.cancel_to_silence_ms == pytest.approx(30)
    assert found.wasted_tokens == 4  # six made, two heard


@pytest.mark.parametrize(
    ("pieces", "words", "sentence"),
    [
        (["One", " two", " three", " four"], 2, None),
        (["One two thr", "ee", " four."], 1, 2),
        (["It is 3", ".", "5 now", ".", " Yes."], 2, 3),
        (['She said: "no', '!"', " And"], 1, 1),
        (["Hm", "…", "\nWell", " then"], 3, 1),
        (["Hi."], None, 0),
    ],
)
def test_words_and_sentences(pieces: list[str], words: int | None, sentence: int | None) -> None:
    """The piece that makes the third word or the first sentence whole."""
    found = moments(pieces, array("d", range(len(pieces))))
    assert found == (words, sentence)


def test_sessions_have_their_turns_personas_and_barge_ins() -> None:
    mix = Mix(turns=3, think_s=1.0, cancel_rate=0.5, cancel_delay_s=(0.1, 0.2), personas=2)
    sessions = list(Workload(mix, random.Random(1)).sessions(1000))
    turns = [plan for session in sessions for plan in session.turns]
    assert [len(session.turns) for session in sessions[-2:]] == [3, 1]
    assert len(turns) == 1000 == len({plan.utterance for plan in turns})
    assert len({session.session_id for session in sessions}) == len(sessions)
    assert len({session.persona for session in sessions}) == 2
    delays = [plan.cancel_after_s for plan in turns if plan.cancel_after_s is not None]
    assert len(delays) == pytest.approx(500, abs=60)
    assert min(delays) >= 0.1 and max(delays) <= 0.2
    for session in sessions:
        assert session.turns[0].pause_s == 0
        for before, plan in pairwise(session.turns):
            assert (plan.pause_s == 0) == (before.cancel_after_s is not None)
    own = list(Workload(Mix(personas=0), random.Random(1)).sessions(50))
    assert len({session.persona for session in own}) == 50


async def test_a_prompt_is_fitted_to_its_length() -> None:
    """A tokenizer of 1.3 tokens a word, with 45 tokens around the persona."""
    asked = []

    async def prompt_tokens(words: int) -> int:
        asked.append(words)
        return 45 + round(1.3 * words)

    words = await words_for(500, prompt_tokens)
    assert abs(45 + round(1.3 * words) - 500) <= 1
    assert len(asked) <= 5
    with pytest.raises(CalibrationError, match="45 tokens"):
        await words_for(30, prompt_tokens)


def test_a_busy_client_is_told_of() -> None:
    quiet = Quantiles(100, 0.2, 0.2, 0.3, 0.4, 0.9, 3.0)
    late = Quantiles(100, 1.0, 0.4, 0.9, 2.0, 9.0, 30.0)
    assert Overhead(0.3, 1.0, quiet).warnings(20.0) == []
    assert len(Overhead(0.7, 1.0, quiet).warnings(20.0)) == 1
    assert len(Overhead(0.3, 1.0, late).warnings(20.0)) == 1
    assert Overhead(0.3, 1.0, late).warnings(200.0) == []  # 9 ms of 200 do not matter
    assert Overhead(0.3, 0.5, quiet, {7: 2.0}).per_token(1000).watched_us_per_token == {7: 2000}
