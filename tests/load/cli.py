"""Drives a streaming chat server with simulated users and tells how it served them.

    python tests/bench.py                                     16 turns, 8 at a time
    python tests/bench.py -n 400 -c 1 8 32 --plot load.png    a sweep, and a picture of it
    python tests/bench.py -n 300 --rate 2 4 8 --burstiness 0.5
    python tests/bench.py -n 200 -c 8 --turns 5 --think-time 2 --cancel-rate 0.2
    python tests/bench.py --goodput ttft:200 tpot:50 --json figures.json --csv turns.csv
    python tests/bench.py --backend openai --url http://127.0.0.1:8001 --model demo

Exit code 0 when the share of failed turns is within --max-failures, 1 when it is not, 2 for a bad
command line, 130 when it was stopped by hand. docs/benchmarks.md says what each figure means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.load.arguments import read_arguments
from tests.load.backends import Target
from tests.load.measurement import CalibrationError, Measured, Plan, measure
from tests.load.overhead import take_realtime_priority
from tests.load.plot import draw
from tests.load.report import document, show, show_sweep, write_csv, write_json
from tests.load.summary import Load
from tests.load.workload import Mix

_WIDTH = 110  # where nobody looks at a terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = read_arguments(__doc__ or "", argv)
    # People read standard error where standard output is for a machine.
    console = Console(stderr=arguments.json == "-")
    if not console.is_terminal:
        console.width = _WIDTH
    if arguments.realtime and not take_realtime_priority():
        console.print("Warning: --realtime is not permitted here.", style="yellow")
    target, plan = target_of(arguments), plan_of(arguments)
    console.print(f"{target.kind} {target.url}", highlight=False, markup=False)
    try:
        measured = asyncio.run(measure(plan, mix_of(arguments), target.dial(arguments.timeout)))
    except CalibrationError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    tell(console, arguments, measured)
    return exit_code(measured, arguments.max_failures)


def exit_code(measured: Measured, max_failures: float) -> int:
    """0 where few enough turns failed under every load."""
    if not measured or any(summary.interrupted for summary, _ in measured):
        return 130
    return int(any(summary.failed_share > max_failures for summary, _ in measured))


def tell(console: Console, arguments: argparse.Namespace, measured: Measured) -> None:
    """Print, and write what files were asked for."""
    summaries = [summary for summary, _ in measured]
    for summary in summaries:
        show(console, summary)
    if len(summaries) > 1:
        show_sweep(console, summaries)
    label = arguments.label or arguments.model or arguments.backend
    found = document(label, _told(arguments), summaries)
    if arguments.json == "-":
        print(json.dumps(found))
    elif arguments.json is not None:
        write_json(found, Path(arguments.json))
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            write_csv(file, measured)
    if arguments.plot is not None:
        draw([found, *arguments.overlay], arguments.plot)


def target_of(arguments: argparse.Namespace) -> Target:
    """The server that the command line names."""
    options = dict(arguments.extra_body)
    if arguments.output_tokens is not None:
        options["max_tokens"] = arguments.output_tokens
    if arguments.ignore_eos:
        options["ignore_eos"] = True
    key = arguments.api_key
    if key is None:
        openai = arguments.backend == "openai"
        key = os.environ.get("OPENAI_API_KEY" if openai else "TEXT_API_KEY", "")
    personality = arguments.personality.lower()
    return Target(
        kind=arguments.backend,
        address=arguments.url or arguments.server,
        api_key=key,
        model=arguments.model,
        start={
            "gender": arguments.gender,
            "personality": personality,
            "personalities": {"friendly": ["warm"], "playful": ["fun"], "calm": ["gentle"]}
            | {personality: []},
        },
        sampling=_sampling(arguments),
        options=options,
    )


def _sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty")
    given = {name: getattr(arguments, name) for name in (*names, "frequency_penalty")}
    found = {name: value for name, value in given.items() if value is not None}
    if arguments.ban_token:
        found["logit_bias"] = dict.fromkeys(map(str, arguments.ban_token), -100)
    if arguments.no_sanitize_output and arguments.backend != "openai":
        found["sanitize_output"] = False
    return found


def plan_of(arguments: argparse.Namespace) -> Plan:
    """How the command line drives it."""
    if arguments.rate is not None:
        loads = [Load(rate=rate) for rate in arguments.rate]
    else:
        loads = [Load(clients=clients) for clients in arguments.clients]
    return Plan(
        loads=loads,
        turns=arguments.requests,
        warm_up=arguments.warm_up,
        duration=arguments.duration,
        timeout=arguments.timeout,
        burstiness=arguments.burstiness,
        prompt_tokens=arguments.prompt_tokens,
        output_tokens=arguments.output_tokens,
        max_connections=arguments.max_connections,
        turns_each=arguments.turns_per_connection if arguments.backend == "ws" else 0,
        objectives=dict(arguments.goodput),
        watched=arguments.watch_pid,
        seed=arguments.seed,
    )


def mix_of(arguments: argparse.Namespace) -> Mix:
    """Which sessions the command line asks for."""
    persona = None
    if arguments.no_chat_prompt:
        persona = ""
    elif arguments.persona_file is not None:
        persona = arguments.persona_file.read_text(encoding="utf-8").strip()
    return Mix(
        turns=max(arguments.turns, 2) if arguments.double_ttfb else arguments.turns,
        think_s=arguments.think_time,
        cancel_rate=arguments.cancel_rate,
        cancel_delay_s=arguments.cancel_delay,
        personas=arguments.personas,
        persona=persona,
    )


def _told(arguments: argparse.Namespace) -> dict[str, Any]:
    """The command line for the record, without the key."""
    mix = asdict(mix_of(arguments))
    return {
        "backend": arguments.backend,
        "url": target_of(arguments).url.partition("?")[0],  # a query may hold the key
        "model": arguments.model,
        "sampling": _sampling(arguments),
        "options": dict(target_of(arguments).options),
        "mix": {name: value for name, value in mix.items() if name != "utterances"},
        "plan": {**asdict(plan_of(arguments)), "loads": None},
    }
