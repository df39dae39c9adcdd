"""All turns of a measurement as the figures that are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.load.overhead import Overhead
from tests.load.quantiles import Quantiles
from tests.load.results import TurnResult

# Names as in the tables, and the fields of TurnResult, all in milliseconds.
METRICS = {
    "TTFT": "ttft_ms",
    "TPOT": "tpot_ms",
    "ITL": "itl_ms",
    "E2EL": "e2el_ms",
    "toolcall": "toolcall_ms",
    "first 3 words": "first_3_words_ms",
    "first sentence": "first_sentence_ms",
    "cancel to silence": "cancel_to_silence_ms",
}
# What `--goodput` may name.
OBJECTIVES = {
    "ttft": "ttft_ms",
    "tpot": "tpot_ms",
    "e2el": "e2el_ms",
    "toolcall": "toolcall_ms",
    "first_3_words": "first_3_words_ms",
    "first_sentence": "first_sentence_ms",
}


@dataclass(frozen=True, slots=True)
class Load:
    """How hard the server was driven: clients of a closed loop, or arrivals a second."""

    clients: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        return f"c = {self.clients}" if self.clients is not None else f"{self.rate:g} sessions/s"

    @property
    def value(self) -> float:
        """The number."""
        return float(self.clients if self.clients is not None else self.rate or 0)


@dataclass(frozen=True, slots=True)
class Goodput:
    """Turns that met every objective. `share` is of those that completed or failed."""

    objectives: dict[str, float]
    per_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A measurement under one load.

    Attributes:
        seconds: from the first request to the end of the last reply.
        failures: how many of each kind; `details` has what the first of a kind said.
        metrics: milliseconds, by the keys of METRICS; a metric without values is left out.
        ttft_by_turn: TTFT by the turn's number in its session, from 1, where there are several.
        cached_share: of the prompt tokens, those from the prefix cache; None where not told.
        wasted_tokens, wasted_share: made, but not heard before a barge-in; share of all tokens.
    """

    load: Load
    seconds: float
    interrupted: bool
    completed: int
    cancelled: int
    failed: int
    too_late_to_cancel: int
    failures: dict[str, int]
    details: dict[str, str]
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float | None
    output_tokens: int
    prompt_length: Quantiles | None
    output_length: Quantiles | None
    cached_share: float | None
    wasted_tokens: int | None
    wasted_share: float | None
    metrics: dict[str, Quantiles]
    ttft_by_turn: dict[int, Quantiles]
    lag_ms: Quantiles | None
    goodput: Goodput | None
    overhead: Overhead | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def failed_share(self) -> float:
        """Of all turns that were tried; 1 where there was none."""
        tried = self.completed + self.cancelled + self.failed
        return self.failed / tried if tried else 1.0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def summarise(
    results: Sequence[TurnResult],
    seconds: float,
    load: Load,
    *,
    objectives: Mapping[str, float] | None = None,
    overhead: Overhead | None = None,
    interrupted: bool = False,
) -> Summary:
    """The figures of one measurement.

    Args:
        objectives: for the goodput: the most milliseconds, by the keys of OBJECTIVES.
    """
    completed = [r for r in results if r.outcome == "completed"]
    cancelled = [r for r in results if r.outcome == "cancelled"]
    failed = [r for r in results if r.outcome == "failed"]
    served = completed + cancelled
    output = sum(r.output_tokens for r in served)
    prompts = [r.prompt_tokens for r in served if r.prompt_tokens is not None]
    wasted = [r.wasted_tokens for r in cancelled if r.wasted_tokens is not None]
    told = len(prompts) == len(served) and bool(served)
    metrics = _metrics(served)
    return Summary(
        load=load,
        seconds=seconds,
        interrupted=interrupted,
        completed=len(completed),
        cancelled=len(cancelled),
        failed=len(failed),
        too_late_to_cancel=sum(r.cancel_too_late for r in completed),
        failures=dict(Counter(r.failure or "" for r in failed).most_common()),
        details={r.failure or "": r.detail for r in reversed(failed)},
        requests_per_s=len(completed) / seconds,
        output_tokens_per_s=output / seconds,
        total_tokens_per_s=(output + sum(prompts)) / seconds if told else None,
        output_tokens=output,
        prompt_length=Quantiles.of(prompts),
        output_length=Quantiles.of(r.output_tokens for r in completed),
        cached_share=_cached_share(served),
        wasted_tokens=sum(wasted) if wasted else None,
        wasted_share=sum(wasted) / output if wasted and output else None,
        metrics=metrics,
        ttft_by_turn=_by_turn(served),
        lag_ms=Quantiles.of(r.lag_ms for r in results) if load.rate is not None else None,
        goodput=goodput(completed, len(failed), seconds, objectives) if objectives else None,
        overhead=overhead,
        warnings=overhead.warnings(_typical_ms(metrics)) if overhead and served else [],
    )


def goodput(
    completed: Sequence[TurnResult], failed: int, seconds: float, objectives: Mapping[str, float]
) -> Goodput:
    """Completed turns a second that met every objective; a missing time meets none.

    A turn of one token has no TPOT to miss. Turns that the user cut off are not counted: there is
    no saying what they would have met.
    """

    def met(result: TurnResult) -> bool:
        for name, most in objectives.items():
            value = getattr(result, OBJECTIVES[name])
            if value is None and name == "tpot" and result.output_tokens <= 1:
                continue
            if value is None or value > most:
                return False
        return True

    good = sum(map(met, completed))
    tried = len(completed) + failed
    return Goodput(dict(objectives), good / seconds, good / tried if tried else 0.0)


def _metrics(served: Sequence[TurnResult]) -> dict[str, Quantiles]:
    found = {}
    for name, attribute in METRICS.items():
        values: list[float] = []
        for result in served:
            value = getattr(result, attribute)
            if value is not None:
                values.extend(value if name == "ITL" else (value,))
        if (quantiles := Quantiles.of(values)) is not None:
            found[name] = quantiles
    return found


def _typical_ms(metrics: Mapping[str, Quantiles]) -> float | None:
    """What lateness is held against."""
    return metrics["TTFT"].p50 if "TTFT" in metrics else None


def _cached_share(served: Sequence[TurnResult]) -> float | None:
    told = [r for r in served if r.prompt_tokens and r.cached_tokens is not None]
    prompt = sum(r.prompt_tokens or 0 for r in told)
    return sum(r.cached_tokens or 0 for r in told) / prompt if prompt else None


def _by_turn(served: Sequence[TurnResult]) -> dict[int, Quantiles]:
    numbers = sorted({r.turn for r in served})
    if len(numbers) < 2:
        return {}
    times = {
        n: [r.ttft_ms for r in served if r.turn == n and r.ttft_ms is not None] for n in numbers
    }
    return {n + 1: q for n, values in times.items() if (q := Quantiles.of(values)) is not None}
