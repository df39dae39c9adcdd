"""Quantizes models of real shapes on a GPU by the project's own commands, and times them.

    python -m tests.gpu.quantize [--shapes llama-8b nemo-12b] [--methods fp8 awq]
                                 [--samples 32] [--sequence-length 1024] [--json REPORT]

The weights are random: time, memory and speed are those of a real model of the shape, and what is
lost in accuracy says nothing. Speeds are the gauge's, of vLLM as a library; the floor is the time
in which the GPU's memory can be read that every token needs. Needs a CUDA GPU, a quantizer's
environment that can be made or is there, and disk for three times the model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.figures import markdown_table
from tests.e2e.harness import ROOT
from tests.gpu.dummy_model import SHAPES, make
from tests.gpu.first_light import machine
from tests.gpu.single_stream import bytes_a_token

METHODS = {"fp8": 8, "int8": 8, "awq": 4, "gptq": 4}
CALIBRATED = ("awq", "gptq")
# Random weights are nearly indifferent between tokens, so that no bound on what is lost holds.
UNBOUNDED = ("--max-kl", "1000", "--max-perplexity-ratio", "1000", "--min-agreement", "0")
GIB = 1 << 30


class GpuMemory:
    """The memory in use on the GPU, looked at twice a second."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> GpuMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def peak_gib(self, until: float) -> float:
        """The most of it until this time of time.monotonic()."""
        return round(max((mib for at, mib in self._seen if at <= until), default=0) / 1024, 1)

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self._ended.wait(0.5):
            said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
            self._seen.append((time.monotonic(), int(said.stdout.split()[0])))


def write(folder: Path, shape: str) -> None:
    """A model of this shape with weights; this process keeps none of the GPU's memory."""
    make(folder, SHAPES[shape])
    code = "import sys, pathlib; from tests.gpu import dummy_model as d; "
    code += "d.write_weights(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)


def copy_speed() -> float:
    """The GPU's bandwidth in bytes a second, measured by a process of its own."""
    code = "from tests.gpu.single_stream import bandwidth; print(bandwidth())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(said.stdout)


def quantize(model: Path, method: str, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of the command; its times, memory and what the export says of itself."""
    command = [sys.executable, "-m", "quantization", "run", str(model), "--method", method]
    command += ["--out", str(out), "--offline", *UNBOUNDED]
    if method in CALIBRATED:
        command += ["--samples", str(arguments.samples)]
        command += ["--sequence-length", str(arguments.sequence_length)]
    begun = time.monotonic()
    with GpuMemory() as memory:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # with what its own children took
    ended = time.monotonic()
    code = os.waitstatus_to_exitcode(status)
    if code:
        return {"exit_code": code, "wall_s": round(ended - begun, 1)}
    metadata = json.loads((out / "quantization_metadata.json").read_text(encoding="utf-8"))
    gauge, seconds = metadata["gauge"] or {}, metadata["seconds"]
    return {
        "wall_s": round(ended - begun, 1),
        "step_s": {step: round(took, 1) for step, took in seconds.items()},
        # Before vLLM is started, which takes what it is given.
        "gpu_peak_gib": memory.peak_gib(ended - seconds.get("serve", 0.0) - 1),
        "host_peak_gib": round(usage.ru_maxrss / (1 << 20), 1),
        "weight_gib": round(metadata["weight_bytes"] / GIB, 2),
        "kl": gauge.get("kl"),
        "served": gauge.get("served"),
    }


def tpot_ms(served: dict[str, Any] | None, which: str) -> dict[str, float]:
    """Milliseconds a token, by how many replies are made at once."""
    speeds = (served or {}).get(which, {}).get("decode_per_second", {})
    return {at_once: round(1e3 * int(at_once) / speed, 2) for at_once, speed in speeds.items()}


def row(shape: str, method: str, found: dict[str, Any]) -> tuple[Any, ...]:
    """A line of the table."""
    if "exit_code" in found:
        return (shape, method, f"failed ({found['exit_code']})", *[""] * 7)
    tpot, before = found["tpot_ms"], found["tpot_ms_original"]
    return (
        shape,
        method,
        found["wall_s"],
        found["step_s"].get("quantize"),
        found["weight_gib"],
        found["gpu_peak_gib"],
        found["host_peak_gib"],
        f"{tpot.get('1')} (bf16 {before.get('1')})",
        f"{tpot.get('8')} (bf16 {before.get('8')})",
        found["floor_ms"],
    )


HEADER = (
    "shape",
    "method",
    "wall, s",
    "quantize, s",
    "weights, GiB",
    "GPU peak, GiB",
    "host peak, GiB",
    "TPOT, ms",
    "TPOT of 8, ms",
    "floor, ms",
)


def measure(arguments: argparse.Namespace, keep: Callable[[dict[str, Any]], None]) -> None:
    """Every shape by every method; `keep` is given the report after each."""
    speed = copy_speed()
    report: dict[str, Any] = {"machine": machine(), "copy_bytes_per_second": speed, "runs": []}
    with tempfile.TemporaryDirectory(prefix="yap-gpu-") as folder:
        for shape in arguments.shapes:
            model = Path(folder) / shape
            begun = time.monotonic()
            write(model, shape)
            print(f"{shape} written in {time.monotonic() - begun:.0f} s", flush=True)
            for method in arguments.methods:
                out = Path(folder) / f"{shape}-{method}"
                found = quantize(model, method, out, arguments)
                found["tpot_ms"] = tpot_ms(found.get("served"), "quantized")
                found["tpot_ms_original"] = tpot_ms(found.get("served"), "original")
                weight_bytes = METHODS[method] / 8
                floor = bytes_a_token(weight_bytes, SHAPES[shape]) / speed * 1e3
                found["floor_ms"] = round(floor, 2)
                report["runs"].append({"shape": shape, "method": method, **found})
                keep(report)
                shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(model)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["fp8", "awq"])
    parser.add_argument("--samples", type=int, default=32, help="calibration rows")
    parser.add_argument("--sequence-length", type=int, default=1024, help="tokens of a row")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    rows: list[tuple[Any, ...]] = []
    failed = False

    def keep(report: dict[str, Any]) -> None:
        nonlocal failed
        found = report["runs"][-1]
        failed = failed or "exit_code" in found
        rows.append(row(found["shape"], found["method"], found))
        print(markdown_table(HEADER, rows), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    measure(arguments, keep)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
