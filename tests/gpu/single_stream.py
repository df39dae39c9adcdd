"""How fast one reply streams on a GPU, with several ways to store and multiply FP8 weights.

    python -m tests.gpu.single_stream [--json REPORT]

Each variant is an engine of its own (a 12-billion-parameter shape, random weights); all are up at
once, and one at a time is asked. The floor is the time in which the GPU's memory can be read that
every token needs: all weights but the embeddings, at the bandwidth of a large copy. Needs a CUDA
GPU with about 110 GiB free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.figures import Times, markdown_table
from tests.bench.raw_engine import RawEngine, raw_engine
from tests.bench.texts import TRAIT
from tests.gpu.dummy_model import NEMO_12B, make
from tests.gpu.first_light import machine

KV_BYTES = 2 << 30
REPLIES = 8
ROUNDS = 2
PERSONA = TRAIT * 30
_KERNELS = {"custom_ops": ["+quant_fp8", "+rms_norm", "+silu_and_mul"]}
# By name: the setting, and engine arguments on top.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bf16": ("none", {}),
    "FP8": ("fp8", {}),
    "FP8, Marlin": ("fp8", {"linear_backend": "marlin"}),
    "FP8, fused kernels": ("fp8", {"compilation_config": _KERNELS}),
}


def bandwidth() -> float:
    """Bytes a second, read and written, of a copy of 4 GiB within the GPU."""
    import torch

    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    times: list[float] = []
    for _ in range(10):
        begin, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return 2 * source.numel() / statistics.median(times)


def bytes_a_token(weight_bytes: float, shape: Mapping[str, Any] = NEMO_12B) -> float:
    """What is read for one token: the layers in `weight_bytes` a weight, the head in two."""
    hidden, heads, kv_heads = (
        shape[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    attention = hidden * shape["head_dim"] * (2 * heads + 2 * kv_heads)
    mlp = 3 * hidden * shape["intermediate_size"]
    layers: int = shape["num_hidden_layers"] * (attention + mlp)
    head: int = hidden * shape["vocab_size"]
    return layers * weight_bytes + 2.0 * head


def measure(engines: dict[str, RawEngine]) -> dict[str, dict[str, Any]]:
    """Every engine in turn, a few rounds of replies one after the other."""
    found: dict[str, list[Any]] = {name: [] for name in engines}
    for round_ in range(ROUNDS + 1):
        for name, engine in engines.items():
            said = [f"{round_}.{number}: how was your day?" for number in range(REPLIES)]
            served = engine.serve(PERSONA, said, 1)
            if round_:  # the first one warms up
                found[name] += served.replies
    return {
        name: {
            "tpot_ms": Times.of([reply.tpot_ms for reply in replies]).p50,
            "tpot_p99_ms": Times.of([reply.tpot_ms for reply in replies]).p99,
            "ttft_ms": Times.of([reply.ttft_ms for reply in replies]).p50,
            "tokens": sum(reply.tokens for reply in replies),
        }
        for name, replies in found.items()
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    speed = bandwidth()
    report: dict[str, Any] = {"machine": machine(), "copy_bytes_per_second": speed}
    with tempfile.TemporaryDirectory(prefix="yap-gpu-") as folder, ExitStack() as stack:
        model = Path(folder) / "nemo-12b-shape"
        make(model)
        engines, refused, begun = {}, {}, time.monotonic()
        for number, (name, (quantization, args)) in enumerate(VARIANTS.items()):
            log = Path(folder) / f"{number}.log"
            engine_args = {"load_format": "dummy", "kv_cache_memory_bytes": KV_BYTES} | args
            engines[name] = stack.enter_context(
                raw_engine(
                    log,
                    DEPLOY_MODELS="chat",
                    CHAT_MODEL=str(model),
                    CHAT_GPU_FRAC="0.2",
                    CHAT_QUANTIZATION=quantization,
                    CHAT_ENGINE_ARGS=json.dumps(engine_args),
                )
            )
        for number, name in enumerate(VARIANTS):
            try:
                engines[name].wait_ready()
            except RuntimeError:
                refused[name] = (Path(folder) / f"{number}.log").read_text(errors="replace")[-3000:]
                del engines[name]
        report["all ready, s"] = round(time.monotonic() - begun, 1)
        report["variants"] = measure(engines)
        report["refused"] = refused
    floors = {bits: bytes_a_token(bits / 8) / speed * 1e3 for bits in (16, 8, 4)}
    report["floor_ms"] = {f"{bits} bits": round(floor, 2) for bits, floor in floors.items()}
    print(json.dumps(report, indent=1))
    rows = [(name, *figures.values()) for name, figures in report["variants"].items()]
    print(markdown_table(("variant", "TPOT p50", "TPOT p99", "TTFT p50", "tokens"), rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
