"""This server and vLLM's own OpenAI server, on the same model and machine, in one run.

    python -m tests.bench.peers                    the demo model on a CPU, about ten minutes
    python -m tests.bench.peers --clients 8 --rounds 1 --json figures.json

Both are up at the same time and take turns: ours, vLLM's, vLLM's, ours, measured by the load
generator (`tests/bench.py`) with the same persona, utterances and length of reply, and with the
engine arguments that ours decides for itself. Figures of a busy machine are worth nothing: nothing
else may run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.conditions import conditions
from tests.bench.figures import markdown_table
from tests.e2e.conftest import running
from tests.e2e.harness import API_KEY, READY_S, ROOT, STOP_S, free_port
from yap.chat.tuning import planning
from yap.settings import load_settings

OUTPUT_TOKENS = 64
PROMPT_TOKENS = 550
END_TOKEN = 2  # of the demo model; banned, so that every reply has its full length
_TURNS = {1: 24, 8: 96, 32: 320}  # in a round, by the number of clients
_TURNS_EACH = 10  # for other numbers of clients
_ORDER = ("yap", "vllm", "vllm", "yap")
_SETTINGS = {
    "DEPLOY_MODELS": "chat",
    "CHAT_MAX_OUT": str(OUTPUT_TOKENS),
    "WS_MAX_MESSAGES_PER_WINDOW": "0",
    "CHAT_PROMPT_UPDATE_MAX_PER_WINDOW": "0",
}
_MODEL_NAME = "demo"
# Decided for a server that ends its core by itself; vLLM's server has a deadline of its own.
_OURS_ALONE = ("model", "shutdown_timeout")


@dataclass(slots=True)
class Side:
    """One of the two under one load: a figure for each round."""

    ttft_ms: list[float] = field(default_factory=list)
    tpot_ms: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)
    cpu_us_per_token: list[float] = field(default_factory=list)  # all but the engine core
    failed: int = 0

    def add(self, load: dict[str, Any]) -> None:
        """Take a round of the load generator in."""
        self.ttft_ms.append(load["metrics"]["TTFT"]["p50"])
        self.tpot_ms.append(load["metrics"]["TPOT"]["p50"])
        self.tokens_per_second.append(load["output_tokens_per_s"])
        self.cpu_us_per_token.append(sum(load["overhead"]["watched_us_per_token"].values()))
        self.failed += load["failed"]


@contextlib.contextmanager
def vllm_server(log: Path, args: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """vLLM's OpenAI server with these engine arguments; its address and process id."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", args["model"]]
    command += ["--served-model-name", _MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enable-prompt-tokens-details"]
    for name, value in args.items():
        if name not in _OURS_ALONE:
            command += _flag(name, value)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _wait_ready(process, port, log)
        yield f"http://127.0.0.1:{port}/v1", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        finally:
            process.kill()


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{flag[2:]}"]
    return [flag, str(value)]


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        time.sleep(0.3)
    raise RuntimeError(f"vLLM's server did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def front_ends(pid: int) -> list[int]:
    """The process and its children, but for engine cores: what serves, not what computes."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return [
        each for each in found if b"EngineCore" not in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


def measure(target: Sequence[str], pids: Sequence[int], clients: int) -> dict[str, Any]:
    """One round of the load generator."""
    turns = _TURNS.get(clients, clients * _TURNS_EACH)
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, str(ROOT / "tests" / "bench.py"), *target]
        command += ["-n", str(turns), "-c", str(clients), "--json", report.name]
        command += ["--prompt-tokens", str(PROMPT_TOKENS), "--output-tokens", str(OUTPUT_TOKENS)]
        command += ["--ban-token", str(END_TOKEN), "--temperature", "0.7", "--api-key", API_KEY]
        command += ["--turns-per-connection", "0", "--watch-pid", *map(str, pids)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the load generator failed:\n{done.stdout}\n{done.stderr}")
        load: dict[str, Any] = json.loads(Path(report.name).read_text(encoding="utf-8"))["loads"][0]
    return load


def run(loads: Sequence[int], rounds: int) -> dict[int, dict[str, Side]]:
    """Start both, let them take turns, stop both."""
    found = {clients: {side: Side() for side in ("yap", "vllm")} for clients in loads}
    args = planning.decide_here(
        load_settings({**os.environ, **_SETTINGS}, serving=False)
    ).engine_args
    with tempfile.TemporaryDirectory(prefix="yap-bench-") as folder, ExitStack() as stack:
        url, pid = stack.enter_context(vllm_server(Path(folder) / "vllm.log", args))
        server = stack.enter_context(running(Path(folder), **_SETTINGS))
        targets = {
            "yap": ["--backend", "ws", "--server", server.address],
            "vllm": ["--backend", "openai", "--url", url, "--model", _MODEL_NAME],
        }
        pids = {"yap": front_ends(server.pid), "vllm": front_ends(pid)}
        for number in range(rounds):
            for clients in loads:
                for side in _ORDER:
                    found[clients][side].add(measure(targets[side], pids[side], clients))
            print(f"round {number + 1} of {rounds}", flush=True)
    return found


def table(found: dict[int, dict[str, Side]]) -> str:
    """Medians of rounds, ours and vLLM's, and the ratio of both."""
    rows = []
    for clients, sides in found.items():
        cells: list[object] = [clients]
        for name, digits in (("ttft_ms", 1), ("tpot_ms", 2), ("tokens_per_second", 0),
                             ("cpu_us_per_token", 0)):  # fmt: skip
            ours, theirs = (statistics.median(getattr(sides[s], name)) for s in ("yap", "vllm"))
            cells.append(f"{ours:.{digits}f} / {theirs:.{digits}f} = {ours / theirs:.2f}")
        rows.append(cells)
    header = ("clients", "TTFT, ms", "TPOT, ms", "tokens/s", "CPU a token, µs")
    return "\nYap / vLLM = ratio; medians of rounds\n\n" + markdown_table(header, rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3, help="two of each side in each")
    arguments = parser.parse_args()
    print("\n".join(f"{name}: {value}" for name, value in conditions().items()), flush=True)
    found = run(arguments.clients, arguments.rounds)
    print(table(found), flush=True)
    if arguments.json is not None:
        loads = {str(c): {s: asdict(side) for s, side in both.items()} for c, both in found.items()}
        report = {"conditions": conditions(), "settings": _SETTINGS, "loads": loads}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
