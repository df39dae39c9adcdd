"""What the warm-up is for: everybody speaks at once as soon as the server is ready, and again.

    python -m tests.gpu.bursts [--json REPORT] [--model FOLDER] [--callers 32]

Without --model it serves a 12-billion-parameter shape with random weights, which needs a CUDA GPU
with about 60 GiB free. The server is started with its warm-up and without, each time with an empty
kernel cache. Exit code 0 if the first burst after a warm-up takes no more than 1.5 of the second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.bench.figures import Times
from tests.bench.texts import STORY, TRAIT
from tests.client.conversation import Conversation, connect
from tests.e2e.harness import API_KEY, ServerProcess
from tests.gpu.dummy_model import make

READY_S = 500.0
BURSTS = 3
TARGET = 1.5  # at most: the first burst over the second, of medians
# What our warm-up says, and vLLM of each kernel that was compiled after its own.
_TOLD = re.compile(r"yap\.chat\.warmup|jit_monitor")
PERSONA = TRAIT * 70
STORIES = 12


async def bursts(address: str, callers: int) -> list[dict[str, float]]:
    """Several bursts, each of so many turns that are sent at once."""
    async with AsyncExitStack() as stack:
        conversations = [
            await stack.enter_async_context(connect(address, API_KEY)) for _ in range(callers)
        ]
        await conversations[0].send({"type": "warm_persona", "chat_prompt": PERSONA})
        await conversations[0].receive()
        return [await _burst(conversations, number) for number in range(BURSTS)]


async def _burst(conversations: list[Conversation], burst: int) -> dict[str, float]:
    begun = time.perf_counter()
    records = await asyncio.gather(
        *(
            conversation.turn(
                {
                    "session_id": f"{burst}-{caller}",
                    "gender": "female",
                    "personality": "friendly",
                    "chat_prompt": PERSONA,
                    "user_utterance": f"Burst {burst}, caller {caller}: {STORY * STORIES}",
                }
            )
            for caller, conversation in enumerate(conversations)
        )
    )
    seconds = time.perf_counter() - begun
    times = Times.of([record.ttft_ms for record in records if record.ttft_ms is not None])
    usages = [record.done.usage for record in records if record.done and record.done.usage]
    return {
        "ttft_p50_ms": times.p50,
        "ttft_p99_ms": times.p99,
        "seconds": round(seconds, 3),
        "prompt_tokens": max(usage.prompt_tokens for usage in usages),
        "cached_tokens": max(usage.cached_tokens for usage in usages),
        "completion_tokens": sum(usage.completion_tokens for usage in usages),
    }


def serve(model: Path, home: Path, callers: int, *, warm_up: bool, dummy: bool) -> dict[str, Any]:
    """Start a server, let everybody speak at once a few times, stop it."""
    kernels = home / f"kernels-{warm_up}"
    begun = time.monotonic()
    server = ServerProcess(
        home,
        DEPLOY_MODELS="chat",
        CHAT_MODEL=str(model),
        CHAT_ENGINE_ARGS=json.dumps(
            {"jit_monitor_verbose": True} | ({"load_format": "dummy"} if dummy else {})
        ),
        CHAT_WARM_UP=str(int(warm_up)),
        CHAT_PROMPT_UPDATE_MAX_PER_WINDOW="0",
        MAX_CONCURRENT_CONNECTIONS=str(callers),
        TRITON_CACHE_DIR=str(kernels),
    )
    try:
        server.wait_ready(READY_S)
        ready_s = round(time.monotonic() - begun, 1)
        found = asyncio.run(bursts(server.address, callers))
        server.stop()
        ours = [line for line in server.tail(100_000).splitlines() if _TOLD.search(line)]
        return {"warm_up": warm_up, "ready_s": ready_s, "bursts": found, "log": ours}
    finally:
        server.destroy()


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--model", type=Path, help="a model with its weights")
    parser.add_argument("--callers", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="yap-bursts-") as folder:
        home = Path(folder)
        model = arguments.model.resolve() if arguments.model else home / "nemo-12b-shape"
        dummy = arguments.model is None
        if dummy:
            make(model)
        results = [
            serve(model, home, arguments.callers, warm_up=warm_up, dummy=dummy)
            for warm_up in (True, False)
        ]
    print(json.dumps(results, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    first, second, *_ = (burst["ttft_p50_ms"] for burst in results[0]["bursts"])
    print(f"first burst / second, after a warm-up: {first / second:.2f} (at most {TARGET})")
    return 0 if first <= TARGET * second else 1


if __name__ == "__main__":
    sys.exit(main())
