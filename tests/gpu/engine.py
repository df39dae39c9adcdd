"""What the server costs around vLLM on a GPU: bursts, staggered sessions, one session.

    python -m tests.gpu.engine [--json REPORT] [--model FOLDER] [--engine-args JSON] [--raw-only]

Serves a 12-billion-parameter shape with random weights (or --model) twice on the same GPU: vLLM's
AsyncLLM alone, and the server around it. Both are up at once and take turns, with the same engine
arguments, persona and kind of utterances. The engine is started first, so the server's own start is
one with warm compile caches. Needs a CUDA GPU with about 90 GiB free.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from tests.bench.chat import serve_over_websocket
from tests.bench.figures import Times
from tests.bench.raw_engine import Served, raw_engine
from tests.bench.texts import STORY, TRAIT
from tests.e2e.harness import ServerProcess
from tests.gpu.dummy_model import make
from tests.gpu.first_light import machine

READY_S = 400.0
CALLERS = 32
BURSTS = 3
ROUNDS = 5  # replies of each staggered session
PAUSE_S = 1.5  # at most, before each reply of a staggered session
ALONE = 6  # replies of the one session
# Of bfloat16: 32 sessions of 2,000 tokens and some, at 160 KiB a token. Given as bytes, so that
# the two engines do not take each other's weights for their own when they measure the memory.
KV_BYTES = 16 << 30
TARGET = 1.10  # at most: server over engine, of medians
PERSONA = TRAIT * 70
STORIES = 12

Serve = Callable[[str, Sequence[str], int, Sequence[float] | None], Served]


def stories() -> Iterator[str]:
    """Utterances of about 300 tokens, no two of which share a cached block."""
    for number in count():
        yield f"Story {number}: {STORY * STORIES}"


def measure(serve: dict[str, Serve]) -> dict[str, Any]:
    """Bursts, staggered sessions and one session, on each side in turn."""
    said = stories()
    found: dict[str, Any] = {"bursts": {}, "staggered": {}, "alone": {}}
    for side, ask in serve.items():
        ask(PERSONA, list(islice(said, 1)), 1, None)  # the persona goes into the cache
        found["bursts"][side] = [
            figures(ask(PERSONA, list(islice(said, CALLERS)), CALLERS, None)) for _ in range(BURSTS)
        ]
    dice = random.Random(0)
    pauses = [dice.random() * PAUSE_S for _ in range(CALLERS * ROUNDS)]
    rounds: dict[str, list[Served]] = {side: [] for side in serve}
    for side in (*serve, *reversed(serve)):
        said_now = list(islice(said, len(pauses)))
        rounds[side].append(serve[side](PERSONA, said_now, CALLERS, pauses))
    for side, ask in serve.items():
        found["staggered"][side] = figures(*rounds[side])
        found["alone"][side] = figures(ask(PERSONA, list(islice(said, ALONE)), 1, None))
    return found


def figures(*served: Served) -> dict[str, Any]:
    """Of one or more rounds together."""
    replies = [reply for one in served for reply in one.replies]
    return {
        "ttft_ms": asdict(Times.of([reply.ttft_ms for reply in replies])),
        "tpot_ms": asdict(Times.of([reply.tpot_ms for reply in replies])),
        "tokens": sum(reply.tokens for reply in replies),
        "tokens_per_second": round(sum(one.tokens_per_second for one in served) / len(served), 1),
    }


def run(model: Path, home: Path, settings: dict[str, str], *, raw_only: bool) -> dict[str, Any]:
    """Start both, the engine first; measure; stop both."""
    report: dict[str, Any] = {"machine": machine(), "settings": settings}
    with ExitStack() as stack:
        begun = time.monotonic()
        engine = stack.enter_context(raw_engine(home / "engine.log", **settings))
        engine.wait_ready()
        report["engine ready, cold caches, s"] = round(time.monotonic() - begun, 1)
        serve: dict[str, Serve] = {"engine": engine.serve}
        if not raw_only:
            begun = time.monotonic()
            server = ServerProcess(
                home,
                **settings,
                WS_MAX_MESSAGES_PER_WINDOW="0",
                CHAT_PROMPT_UPDATE_MAX_PER_WINDOW="0",
            )
            stack.callback(server.destroy)
            server.wait_ready(READY_S)
            report["server ready, warm caches, s"] = round(time.monotonic() - begun, 1)
            serve["server"] = partial(serve_over_websocket, server.address)
        report |= measure(serve)
    return report


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """Server over engine at the medians of the staggered sessions, and first over second burst."""
    found = {}
    if "server" in report["staggered"]:
        server, engine = (report["staggered"][side] for side in ("server", "engine"))
        for name in ("ttft_ms", "tpot_ms"):
            found[f"staggered {name}"] = round(server[name]["p50"] / engine[name]["p50"], 3)
    for side, bursts in report["bursts"].items():
        first, second, *_ = (burst["ttft_ms"]["p50"] for burst in bursts)
        found[f"first burst / second, {side}"] = round(first / second, 3)
    return found


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--model", type=Path, help="a model with its weights")
    parser.add_argument("--engine-args", type=json.loads, default={}, help="added to both")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--raw-only", action="store_true", help="no server: the engine's figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="yap-gpu-") as folder:
        home = Path(folder)
        model = arguments.model.resolve() if arguments.model else home / "nemo-12b-shape"
        engine_args = {"kv_cache_memory_bytes": KV_BYTES} | arguments.engine_args
        if arguments.model is None:
            make(model)
            engine_args = {"load_format": "dummy"} | engine_args
        settings = {
            "DEPLOY_MODELS": "chat",
            "CHAT_MODEL": str(model),
            "CHAT_ENGINE_ARGS": json.dumps(engine_args),
            "CHAT_GPU_FRAC": "0.45",
            "MAX_CONCURRENT_CONNECTIONS": str(CALLERS),
        } | dict(setting.split("=", 1) for setting in arguments.setting)
        try:
            report = run(model, home, settings, raw_only=arguments.raw_only)
        except (AssertionError, RuntimeError):
            for log in home.glob("*.log"):
                print(log.read_text(errors="replace")[-5000:], file=sys.stderr)
            raise
    report["ratios"] = ratios(report)
    print(json.dumps(report, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if all(v <= TARGET for k, v in report["ratios"].items() if "staggered" in k) else 1


if __name__ == "__main__":
    sys.exit(main())
