"""One turn as figures. The definitions are those of docs/benchmarks.md."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Literal

from tests.load.trace import Trace

Outcome = Literal["completed", "cancelled", "failed"]

_THREE_WORDS = re.compile(r"\s*\S+\s+\S+\s+\S+")
_SENTENCE = re.compile(r"[.!?…]+[\"')\]”’»*]*(?=\s|$)")


@dataclass(slots=True)
class TurnResult:
    """One turn: times in milliseconds from when the user spoke; None for what did not happen.

    Attributes:
        turn: its number in the session, from 0.
        sent_s: when it was sent, in seconds from the start of the measurement.
        lag_ms: how much later than due it was sent.
        itl_ms: the gaps between one piece of the reply and the next.
        tpot_ms: from the first piece to the end, over the tokens after the first.
        cancel_to_silence_ms: from the barge-in until the server said that it is silent.
        wasted_tokens: made by the server, not heard before the barge-in.
        cancel_too_late: the reply was over before the barge-in reached the server.
    """

    session_id: str
    turn: int
    sent_s: float
    outcome: Outcome
    failure: str | None = None
    detail: str = ""
    lag_ms: float = 0.0
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2el_ms: float | None = None
    toolcall_ms: float | None = None
    first_3_words_ms: float | None = None
    first_sentence_ms: float | None = None
    cancel_to_silence_ms: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int = 0
    pieces: int = 0
    wasted_tokens: int | None = None
    cancel_too_late: bool = False
    itl_ms: array[float] = field(default_factory=lambda: array("d"))


def result_of(
    trace: Trace, session_id: str, turn: int, begun: float, due: float | None = None
) -> TurnResult:
    """The figures of a turn.

    Args:
        begun: when the measurement began.
        due: when the turn was to be sent; None where it was sent as soon as it could be.
    """
    result = TurnResult(session_id, turn, trace.sent - begun, _outcome(trace))
    if due is not None:
        result.lag_ms = max(0.0, 1000 * (trace.sent - due))
    result.failure, result.detail = trace.failure, trace.detail
    result.pieces = len(trace.arrivals)
    result.output_tokens = result.pieces
    if trace.usage.completion_tokens is not None:
        result.output_tokens = trace.usage.completion_tokens
    if result.outcome == "failed":
        return result
    result.prompt_tokens = trace.usage.prompt_tokens
    result.cached_tokens = trace.usage.cached_tokens
    result.toolcall_ms = _since(trace, trace.toolcall)
    _time_pieces(result, trace)
    if result.outcome == "completed":
        _time_whole(result, trace)
    if trace.cancel_sent is not None:
        _note_barge_in(result, trace, trace.cancel_sent)
    return result


def _outcome(trace: Trace) -> Outcome:
    if trace.failure is not None:
        return "failed"
    return "cancelled" if trace.cancelled else "completed"


def _since(trace: Trace, moment: float | None) -> float | None:
    return None if moment is None else 1000 * (moment - trace.started)


def _time_pieces(result: TurnResult, trace: Trace) -> None:
    if not trace.arrivals:
        return
    result.ttft_ms = _since(trace, trace.arrivals[0])
    result.itl_ms = array("d", (1000 * (b - a) for a, b in pairwise(trace.arrivals)))
    words, sentence = moments(trace.texts, trace.arrivals)
    result.first_3_words_ms = _since(trace, words)
    result.first_sentence_ms = _since(trace, sentence)


def _time_whole(result: TurnResult, trace: Trace) -> None:
    result.e2el_ms = _since(trace, trace.ended)
    if result.e2el_ms is not None and result.ttft_ms is not None and result.output_tokens > 1:
        result.tpot_ms = (result.e2el_ms - result.ttft_ms) / (result.output_tokens - 1)


def _note_barge_in(result: TurnResult, trace: Trace, cancel_sent: float) -> None:
    if not trace.cancelled:
        result.cancel_too_late = True
        return
    if trace.ended is not None and trace.ended > cancel_sent:
        result.cancel_to_silence_ms = 1000 * (trace.ended - cancel_sent)
    if trace.usage.completion_tokens is not None:
        heard = bisect_right(trace.arrivals, cancel_sent)
        result.wasted_tokens = max(0, trace.usage.completion_tokens - heard)


def moments(texts: Sequence[str], arrivals: Sequence[float]) -> tuple[float | None, float | None]:
    """When the third word was whole, and when the first sentence was; None for what never was.

    They are looked for in the whole text, so that a number like 3.5 cut after its point ends none.
    """
    whole = "".join(texts)
    ends = list(accumulate(len(text) for text in texts))  # of each piece, in characters

    def arrival(found: re.Match[str] | None) -> float | None:
        return None if found is None else arrivals[bisect_right(ends, found.end() - 1)]

    return arrival(_THREE_WORDS.match(whole)), arrival(_SENTENCE.search(whole))
