"""What a token and a turn cost the server's own process, in microseconds of CPU.

    python -m tests.bench.front_end                  the demo model on a CPU, about three minutes
    python -m tests.bench.front_end --clients 1 32 --rounds 6 --json figures.json

The real server is started with replies of 8 tokens and with replies of 64, and asked by the load
generator (`tests/bench.py`) with replies of exactly that length. Two lengths tell the two costs
apart. CPU is that of all processes but the engine core. It grows where other work runs beside, so
compare only what was measured one after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.conditions import conditions
from tests.bench.figures import markdown_table
from tests.bench.peers import END_TOKEN, PROMPT_TOKENS, front_ends
from tests.e2e.conftest import running
from tests.e2e.harness import API_KEY, ROOT

SHORT, LONG = 8, 64  # tokens of a reply
_TURNS_EACH = 10  # of a client, in a round
_SETTINGS = {
    "DEPLOY_MODELS": "chat",
    "WS_MAX_MESSAGES_PER_WINDOW": "0",
    "CHAT_PROMPT_UPDATE_MAX_PER_WINDOW": "0",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU: of each further token, of a turn beside its tokens, and of a token of
    a long reply, its share of the turn included."""

    token_us: float
    turn_us: float
    streamed_token_us: float

    @classmethod
    def of(cls, short_us: float, long_us: float) -> Cost:
        """From what a turn with a short reply costs, and one with a long reply."""
        token = (long_us - short_us) / (LONG - SHORT)
        return cls(token, short_us - SHORT * token, long_us / LONG)


def measure(address: str, pids: Sequence[int], clients: int, tokens: int) -> float:
    """One round of the load generator; microseconds of CPU for each turn."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, str(ROOT / "tests" / "bench.py"), "--server", address]
        command += ["-n", str(clients * _TURNS_EACH), "-c", str(clients), "--json", report.name]
        command += ["--prompt-tokens", str(PROMPT_TOKENS), "--output-tokens", str(tokens)]
        command += ["--ban-token", str(END_TOKEN), "--temperature", "0.7", "--api-key", API_KEY]
        command += ["--turns-per-connection", "0", "--watch-pid", *map(str, pids)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the load generator failed:\n{done.stdout}\n{done.stderr}")
        load = json.loads(Path(report.name).read_text(encoding="utf-8"))["loads"][0]
    return float(sum(load["overhead"]["watched_us_per_token"].values())) * tokens


def run(loads: Sequence[int], rounds: int) -> dict[int, Cost]:
    """Start the server with either length of reply, and take the median of its rounds."""
    turns: dict[tuple[int, int], float] = {}
    for tokens in (SHORT, LONG):
        with (
            tempfile.TemporaryDirectory(prefix="yap-bench-") as folder,
            running(Path(folder), CHAT_MAX_OUT=str(tokens), **_SETTINGS) as server,
        ):
            pids = front_ends(server.pid)
            for clients in loads:
                measure(server.address, pids, clients, tokens)  # what only the first one pays
                found = [measure(server.address, pids, clients, tokens) for _ in range(rounds)]
                turns[clients, tokens] = statistics.median(found)
        print(f"replies of {tokens} tokens are measured", flush=True)
    return {clients: Cost.of(turns[clients, SHORT], turns[clients, LONG]) for clients in loads}


def table(costs: dict[int, Cost]) -> str:
    """As Markdown."""
    rows = [
        [clients, f"{cost.token_us:.0f}", f"{cost.turn_us:.0f}", f"{cost.streamed_token_us:.0f}"]
        for clients, cost in costs.items()
    ]
    header = ("clients", "µs a token", "µs a turn", f"µs a token of {LONG}, turn included")
    return "\n" + markdown_table(header, rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--clients", type=int, nargs="+", default=[32])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("\n".join(f"{name}: {value}" for name, value in conditions().items()), flush=True)
    costs = run(arguments.clients, arguments.rounds)
    print(table(costs), flush=True)
    if arguments.json is not None:
        report = {"conditions": conditions(), "settings": _SETTINGS}
        found = {str(clients): asdict(cost) for clients, cost in costs.items()}
        text = json.dumps({**report, "costs": found}, indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
