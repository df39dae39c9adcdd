"""Tells a measurement: tables for people, JSON for machines, CSV with a line for each turn."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.load.results import TurnResult
from tests.load.summary import Summary

_COLUMNS = ("count", "mean", "p50", "p90", "p95", "p99", "max")
_CSV = (
    "session_id",
    "turn",
    "sent_s",
    "outcome",
    "failure",
    "lag_ms",
    "ttft_ms",
    "tpot_ms",
    "e2el_ms",
    "toolcall_ms",
    "first_3_words_ms",
    "first_sentence_ms",
    "cancel_to_silence_ms",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "pieces",
    "wasted_tokens",
)


def show(console: Console, summary: Summary) -> None:
    """One measurement, as tables and sentences."""
    table = Table(title=f"{summary.load}, milliseconds", title_justify="left", box=box.SIMPLE)
    table.add_column("metric")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    rows = [
        *summary.metrics.items(),
        *((f"TTFT, turn {turn}", times) for turn, times in summary.ttft_by_turn.items()),
    ]
    for name, times in rows:
        figures = (times.mean, times.p50, times.p90, times.p95, times.p99, times.max)
        table.add_row(name, str(times.count), *(f"{figure:.2f}" for figure in figures))
    if rows:
        console.print(table)
    for line in sentences(summary):
        console.print(line, highlight=False, markup=False)
    for warning in summary.warnings:
        console.print(f"Warning: {warning}", style="yellow", highlight=False, markup=False)


def sentences(summary: Summary) -> list[str]:
    """What is no time, a line each."""
    lines = [_outcomes(summary), _throughput(summary), _lengths(summary)]
    if (goodput := summary.goodput) is not None:
        asked = " ".join(f"{name}:{most:g}" for name, most in goodput.objectives.items())
        lines.append(f"goodput ({asked}): {goodput.per_s:.2f} turns/s, {goodput.share:.1%} of all")
    if summary.cancelled or summary.too_late_to_cancel:
        lines.append(_barge_ins(summary))
    lines += _costs(summary)
    return [line for line in lines if line]


def show_sweep(console: Console, summaries: Sequence[Summary]) -> None:
    """Several loads, a line each."""
    table = Table(title="latency against load", title_justify="left", box=box.SIMPLE)
    columns = ("load", "turns/s", "tokens/s", "TTFT p50", "p95", "TPOT p50", "p95", "failed")
    for column in columns:
        table.add_column(column, justify="right")
    for summary in summaries:
        cells = [str(summary.load)]
        cells += [f"{summary.requests_per_s:.2f}", f"{summary.output_tokens_per_s:.1f}"]
        for name in ("TTFT", "TPOT"):
            times = summary.metrics.get(name)
            cells += [f"{times.p50:.2f}", f"{times.p95:.2f}"] if times else ["–", "–"]
        table.add_row(*cells, str(summary.failed))
    console.print(table)


def document(
    label: str, arguments: Mapping[str, Any], summaries: Sequence[Summary]
) -> dict[str, Any]:
    """Everything for a JSON file: what was asked, under what, and the figures."""
    return {
        "label": label,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "client": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "arguments": dict(arguments),
        "loads": [summary.plain() for summary in summaries],
    }


def write_json(found: Mapping[str, Any], path: Path) -> None:
    """To a file."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_csv(file: IO[str], turns: Sequence[tuple[Summary, Sequence[TurnResult]]]) -> None:
    """A line for each turn, in the order in which they ended; `file` has newline=""."""
    writer = csv.writer(file)
    writer.writerow(("load", *_CSV))
    for summary, results in turns:
        for result in results:
            cells = (getattr(result, name) for name in _CSV)
            writer.writerow(
                [
                    summary.load,
                    *(round(cell, 4) if isinstance(cell, float) else cell for cell in cells),
                ]
            )


def _outcomes(summary: Summary) -> str:
    line = (
        f"{summary.completed} completed, {summary.cancelled} cancelled, {summary.failed} failed "
        f"in {summary.seconds:.2f} s"
    )
    if summary.interrupted:
        line += ", stopped by hand"
    for code, count in summary.failures.items():
        line += f"\n  {count} x {code}: {summary.details.get(code, '')}".rstrip(": ")
    return line


def _throughput(summary: Summary) -> str:
    line = (
        f"{summary.requests_per_s:.2f} turns/s, {summary.output_tokens_per_s:.1f} output tokens/s"
    )
    if summary.total_tokens_per_s is not None:
        line += f", {summary.total_tokens_per_s:.1f} tokens/s with prompts"
    return line


def _lengths(summary: Summary) -> str:
    parts = []
    for name, lengths in (("prompt", summary.prompt_length), ("output", summary.output_length)):
        if lengths is not None:
            parts.append(f"{name} tokens {lengths.mean:.1f} on average (p50 {lengths.p50:.0f})")
    if summary.cached_share is not None:
        parts.append(f"{summary.cached_share:.1%} of the prompt tokens cached")
    return ", ".join(parts)


def _barge_ins(summary: Summary) -> str:
    line = f"barge-ins: {summary.cancelled} cut a reply off, {summary.too_late_to_cancel} too late"
    if summary.wasted_tokens is not None and summary.wasted_share is not None:
        line += f"; {summary.wasted_tokens} tokens wasted, {summary.wasted_share:.1%} of all"
    return line


def _costs(summary: Summary) -> list[str]:
    lines = []
    if summary.lag_ms is not None:
        lines.append(
            f"sent after due: p50 {summary.lag_ms.p50:.2f} ms, p99 {summary.lag_ms.p99:.2f}"
        )
    if (overhead := summary.overhead) is None:
        return lines
    line = f"this client: {overhead.cpu_share:.1%} of a core"
    if overhead.cpu_us_per_token is not None:
        line += f", {overhead.cpu_us_per_token:.0f} µs per token"
    if overhead.lag_ms is not None:
        line += f"; reads p50 {overhead.lag_ms.p50:.2f}, p99 {overhead.lag_ms.p99:.2f} ms late"
    lines.append(line)
    for pid, cost in overhead.watched_us_per_token.items():
        lines.append(f"process {pid}: {cost:.0f} µs of CPU per output token")
    return lines
