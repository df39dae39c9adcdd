"""Serves a 12-billion-parameter shape with random weights on a GPU, one turn in each mode.

    python -m tests.gpu.first_light [REPORT.json [MODE ...]]

Needs a CUDA GPU with about 60 GiB free and the serving requirements. Prints a table; the report
has the frames too. docs/benchmarks.md holds the last results.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.client.conversation import TurnRecord, connect
from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import start
from tests.gpu.dummy_model import make

READY_S = 420.0
TURNS = 3


async def talk(address: str) -> list[TurnRecord]:
    """A few turns of one conversation."""
    message = start("Can you take a screenshot and look at my screen?")
    async with connect(address, API_KEY) as conversation:
        return [await conversation.turn(message) for _ in range(TURNS)]


def serve(mode: str, model: Path, home: Path) -> dict[str, Any]:
    """Start a server in `mode`, talk to it, stop it."""
    begun = time.monotonic()
    server = ServerProcess(
        home,
        DEPLOY_MODELS=mode,
        CHAT_MODEL=str(model),
        CHAT_ENGINE_ARGS=json.dumps({"load_format": "dummy"}),
    )
    try:
        server.wait_ready(READY_S)
        ready_s = time.monotonic() - begun
        records = asyncio.run(talk(server.address))
        stopping = time.monotonic()
        exit_code = server.stop()
        server.wait_until_gone(20)
        return {
            "mode": mode,
            "ready_s": round(ready_s, 1),
            "stop_s": round(time.monotonic() - stopping, 1),
            "exit_code": exit_code,
            "turns": [_numbers(record) for record in records],
        }
    except AssertionError as error:
        return {"mode": mode, "error": str(error)[-6000:]}
    finally:
        server.destroy()


def _numbers(record: TurnRecord) -> dict[str, Any]:
    done = record.done
    return {
        "toolcall": record.toolcall.status if record.toolcall else None,
        "toolcall_ms": record.toolcall_ms,
        "ttft_ms": record.ttft_ms,
        "total_ms": record.total_ms,
        "finish_reason": done.finish_reason if done else None,
        "usage": done.usage.model_dump() if done and done.usage else None,
        "text": "".join(record.tokens)[:80],
    }


def machine() -> dict[str, str]:
    """What it ran on."""
    import torch
    import vllm

    return {
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "vllm": vllm.__version__,
        "python": platform.python_version(),
    }


def main() -> int:
    """Run all modes; 0 if each served its turns."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "nemo-12b-shape"
        make(model)
        modes = sys.argv[2:] or ("both", "chat", "tool")
        results = [serve(mode, model, Path(folder)) for mode in modes]
    for result in results:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    report = {"machine": machine(), "results": results}
    print(json.dumps(report["machine"]))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(report, indent=1, ensure_ascii=False))
    return 0 if all(_served(result) for result in results) else 1


def _served(result: dict[str, Any]) -> bool:
    reasons = [turn["finish_reason"] for turn in result.get("turns", [])]
    return len(reasons) == TURNS and "error" not in reasons and result["exit_code"] == 0


if __name__ == "__main__":
    sys.exit(main())
