"""Measures what the screen decision costs, with the demo models on CPUs.

    python -m tests.bench.screen classifier                  its process, pipe and batcher
    python -m tests.bench.screen turns --turns 60 --cycles 2   time to first token, real servers
    python -m tests.bench.screen all --json figures.json

What is compared is compared within one run, the two taking turns. Figures of a busy machine are
worth nothing: nothing else may run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.bench import classifier, turns
from tests.bench.conditions import conditions
from tests.bench.figures import Times, markdown_table

LONE_TARGET = 1.15  # at most: the service over the bare call, of medians
CROWD_TARGET = 2.5  # at least: throughput, 32 in flight over one
TURN_TARGET = 1.15  # at most: TTFT with the decision over the chat model alone, of medians
_LONE_HEADER = (
    "threads",
    "taking turns",
    "service",
    "in process",
    "stock",
    f"service / in process (≤ {LONE_TARGET})",
    f"service / stock (≤ {LONE_TARGET})",
)
_CROWD_HEADER = (
    "threads",
    "texts",
    "answers a second, one at a time",
    f"{classifier.IN_FLIGHT} in flight",
    f"gain (≥ {CROWD_TARGET})",
    "ms, each of those in flight",
)
_TURN_HEADER = (
    "mode",
    "toolcall",
    "first token",
    "p50 of each start",
    f"first token / chat (≤ {TURN_TARGET})",
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("classifier", "turns", "all"))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="TOOL_CPU_THREADS")
    parser.add_argument("--rounds", type=int, default=5, help="of 200 texts, each way")
    parser.add_argument("--turns", type=int, default=60, help="at each start of a server")
    parser.add_argument("--cycles", type=int, default=2, help="starts of every mode")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = parse_arguments(argv)
    found: dict[str, object] = {"conditions": conditions()}
    print("\n".join(f"{name}: {value}" for name, value in conditions().items()), flush=True)
    if arguments.what in ("classifier", "all"):
        measured = [
            asyncio.run(classifier.measure(threads, arguments.rounds))
            for threads in arguments.threads
        ]
        print(_lone_table(measured), _crowd_table(measured), sep="\n\n", flush=True)
        found["classifier"] = [dataclasses.asdict(figures) for figures in measured]
    if arguments.what in ("turns", "all"):
        with tempfile.TemporaryDirectory(prefix="yap-bench-") as home:
            served = turns.measure(Path(home), arguments.turns, arguments.cycles)
        print(_turn_table(served), flush=True)
        found["turns"] = dataclasses.asdict(served)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _lone_table(measured: Sequence[classifier.ClassifierFigures]) -> str:
    rows = []
    for figures in measured:
        for lone in figures.lone:
            ways = (lone.service, lone.in_process, lone.stock)
            ratios = (lone.over_in_process, lone.over_stock)
            taking_turns = "every call" if lone.block == 1 else f"every {lone.block} calls"
            rows.append([figures.threads, taking_turns, *map(_ms, ways), *ratios])
    return _held(measured[0]) + markdown_table(_LONE_HEADER, rows)


def _held(figures: classifier.ClassifierFigures) -> str:
    low, middle, high = figures.tokens
    return (
        f"\n{figures.texts} texts of {low} to {high} tokens, median {middle}; probabilities of the "
        f"three ways at most {figures.most_apart:.1e} apart. ms, p50 / p90 / p99.\n\n"
    )


def _crowd_table(measured: Sequence[classifier.ClassifierFigures]) -> str:
    rows = []
    for figures in measured:
        for crowd in figures.crowds:
            one, many = (f"{median(rates):.0f}" for rates in (crowd.one, crowd.many))
            gain = f"{crowd.gain:.2f}"
            rows.append([figures.threads, crowd.texts, one, many, gain, _ms(crowd.waited)])
    return markdown_table(_CROWD_HEADER, rows)


def _turn_table(figures: turns.TurnFigures) -> str:
    rows = []
    for name, mode in figures.modes.items():
        decision = _ms(Times.of(mode.toolcall_ms)) if mode.toolcall_ms else "–"
        starts = " ".join(f"{median:.1f}" for median in mode.starts)
        rows.append([name, decision, _ms(mode.ttft), starts, figures.over_chat.get(name, "–")])
    priority = "real-time" if figures.realtime else "ordinary"
    return (
        f"\n{figures.lines} turns at each start, one at a time; prompts of "
        f"{_range(figures.prompt_tokens)} tokens, {_range(figures.cached_tokens)} of them cached; "
        f"replies of at most {turns.MAX_OUT} tokens, greedy; client at {priority} priority. "
        f"Order: {'; '.join(figures.order)}. ms, p50 / p90 / p99.\n\n"
    ) + markdown_table(_TURN_HEADER, rows)


def _ms(times: Times) -> str:
    return f"{times.p50:.1f} / {times.p90:.1f} / {times.p99:.1f}"


def _range(pair: tuple[int, int]) -> str:
    return f"{pair[0]} to {pair[1]}"


if __name__ == "__main__":
    main()
