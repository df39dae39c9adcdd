"""What a screen decision costs on a GPU, alone and beside a chat model that streams.

    python -m tests.gpu.screen [REPORT.json]

A Longformer of base size (149 million parameters, random weights) decides for 32 sessions that a
12-billion-parameter shape (random weights) answers at the same time. Needs a CUDA GPU with about
70 GiB free and the serving requirements. docs/benchmarks.md holds the last results.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.client.conversation import Conversation, connect
from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import start
from tests.gpu.dummy_model import make
from tests.gpu.first_light import machine

DEMO = Path(__file__).resolve().parent.parent.parent / "models" / "yap-screen-demo"
PROBE = DEMO.parent / "training" / "screen" / "probe_lines.jsonl"
READY_S = 420.0
SESSIONS = 32
TURNS = 8
# Decisions on their own, and the pause between two of them.
DECISIONS = 100
PAUSE_S = 0.05


def make_longformer(out: Path) -> None:
    """A checkpoint of base size with random weights, and the demo's tokenizer."""
    import torch
    from transformers import LongformerConfig, LongformerForSequenceClassification

    config = LongformerConfig(
        attention_window=512,
        max_position_embeddings=4098,
        vocab_size=50265,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        sep_token_id=2,
        type_vocab_size=1,
        id2label={0: "no_screenshot", 1: "screenshot"},
        label2id={"no_screenshot": 0, "screenshot": 1},
    )
    torch.manual_seed(0)
    model = LongformerForSequenceClassification(config)
    print(f"classifier: {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters")
    model.half().save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, out / name)


def lines() -> list[str]:
    """What users say, from the probe."""
    rows = [json.loads(line) for line in PROBE.read_text(encoding="utf-8").splitlines()]
    return [row["lines"][-1] for row in rows]


async def session(conversation: Conversation, number: int, said: list[str]) -> list[dict[str, Any]]:
    """Turns of one session, a little apart from the others'."""
    dice = random.Random(number)
    turns = []
    await asyncio.sleep(dice.random() * 1.5)
    for _ in range(TURNS):
        record = await conversation.turn(start(dice.choice(said), session_id=f"s{number}"))
        assert record.done is not None
        assert record.done.timings is not None
        turns.append({"toolcall": record.toolcall_ms, "ttft": record.ttft_ms,
                      "server_toolcall": record.done.timings.toolcall_ms})  # fmt: skip
        await asyncio.sleep(dice.random() * 0.4)
    return turns


async def talk(address: str, sessions: int) -> list[dict[str, Any]]:
    """`sessions` at a time; the turns of all."""
    said = lines()

    async def one(number: int) -> list[dict[str, Any]]:
        async with connect(address, API_KEY) as conversation:
            return await session(conversation, number, said)

    return [turn for turns in await asyncio.gather(*map(one, range(sessions))) for turn in turns]


def decisions(address: str) -> list[float]:
    """Milliseconds of decisions that no reply of their own competes with, one after the other."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    took = []
    for line in random.Random(0).sample(lines(), DECISIONS):
        body = json.dumps({"utterance": line, "earlier": []})
        sent = time.perf_counter()
        connection.request("POST", "/classify", body, headers(API_KEY))
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - sent) * 1e3)
        assert answer.status == HTTPStatus.OK
        time.sleep(PAUSE_S)
    connection.close()
    return took


async def talk_and_decide(address: str) -> tuple[list[dict[str, Any]], list[float]]:
    """Sessions that talk, and decisions beside them."""
    talking = asyncio.create_task(talk(address, SESSIONS))
    await asyncio.sleep(2 * PAUSE_S)
    took = await asyncio.to_thread(decisions, address)
    return await talking, took


def headers(key: str) -> dict[str, str]:
    """Of a request with a JSON body."""
    return {"Content-Type": "application/json", "X-API-Key": key}


def figures(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and tails, in milliseconds: as the client sees them, and as the server says."""
    out: dict[str, Any] = {"turns": len(turns)}
    for name in ("toolcall", "server_toolcall", "ttft"):
        out[name] = tails([turn[name] for turn in turns if turn[name] is not None])
    return out


def tails(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[int(0.95 * len(ordered))], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
    }


def main() -> int:
    """Measure; 0 if every turn was served."""
    report: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        chat, screen = Path(folder) / "nemo-12b-shape", Path(folder) / "longformer-base"
        make(chat)
        make_longformer(screen)
        server = ServerProcess(
            Path(folder),
            CHAT_MODEL=str(chat),
            CHAT_ENGINE_ARGS=json.dumps({"load_format": "dummy"}),
            TOOL_MODEL=str(screen),
            TOOL_DECISION_THRESHOLD="1",  # random weights; every answer is no, and is spoken
            TOOL_LANGUAGE_FILTER="0",
            WS_MAX_MESSAGES_PER_WINDOW="0",
        )
        try:
            server.wait_ready(READY_S)
            report["first burst"] = figures(asyncio.run(talk(server.address, SESSIONS)))
            report["alone"] = figures(asyncio.run(talk(server.address, 1)))
            report["decisions alone"] = tails(decisions(server.address))
            turns, took = asyncio.run(talk_and_decide(server.address))
            report[f"{SESSIONS} sessions"] = figures(turns)
            report["decisions beside them"] = tails(took)
            report["decisions"] = server.metric("yap_router_decisions_total")
            server.stop()
        except AssertionError as error:
            report["error"] = str(error)[-6000:]
        finally:
            report["log"] = server.tail(60) if "error" in report else ""
            server.destroy()
    print(json.dumps(report, indent=1))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(report, indent=1))
    return 1 if "error" in report else 0


if __name__ == "__main__":
    sys.exit(main())
