"""Measures what the server costs around vLLM: a turn over the WebSocket, and the engine alone.

    python -m tests.bench.chat                       the demo model on a CPU, about five minutes
    python -m tests.bench.chat --clients 1 8 --starts 1 --rounds 1 --json figures.json

Both are there at the same time and take turns: engine, server, server, engine, each with the same
persona, which is cached, and the same utterances, which are not. Clients ask for the next reply
when they have the last one. Figures of a busy machine are worth nothing: nothing else may run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import websockets
from tokenizers import Tokenizer

from tests.bench.conditions import conditions
from tests.bench.figures import Ratio, Times, markdown_table, ratio_of_medians
from tests.bench.raw_engine import Reply, Served, raw_engine
from tests.bench.texts import TRAIT, small_talk
from tests.e2e.conftest import running
from tests.e2e.harness import API_KEY, ROOT

PERSONA_TOKENS = 500
TTFT_TARGETS = {1: 1.25}  # at most: TTFT over the engine's, of medians
TTFT_TARGET = 1.10
RATE_TARGET = 0.95  # at least: tokens a second over the engine's
_REPLIES = {1: 24, 8: 64, 32: 160}  # in a round, by the number of clients
_REPLIES_EACH = 5  # for other numbers of clients
SIDES = ("engine", "server")
_ORDER = ("engine", "server", "server", "engine")
_SETTINGS = {
    "DEPLOY_MODELS": "chat",
    "CHAT_MAX_OUT": "64",
    "WS_MAX_MESSAGES_PER_WINDOW": "0",
    "CHAT_PROMPT_UPDATE_MAX_PER_WINDOW": "0",
}
_DONE, _TOKEN = '{"type":"done"', '{"type":"token"'

Serve = Callable[[str, Sequence[str], int], Served]


@dataclass(slots=True)
class Side:
    """One of the two, with so many clients: TTFT as [utterance][round], tokens/s of each round."""

    ttft_ms: list[list[float]]
    rates: list[float] = field(default_factory=list)
    tokens: int = 0

    def add(self, served: Served) -> None:
        """Take a round in."""
        for times, reply in zip(self.ttft_ms, served.replies, strict=True):
            times.append(round(reply.ttft_ms, 3))
        self.rates.append(round(served.tokens_per_second, 1))
        self.tokens += sum(reply.tokens for reply in served.replies)

    @property
    def ttft(self) -> Times:
        """Over all replies."""
        return Times.of([time for times in self.ttft_ms for time in times])


@dataclass(slots=True)
class ChatFigures:
    """Both sides, with so many clients."""

    clients: int
    sides: dict[str, Side]

    @property
    def ttft_ratio(self) -> Ratio:
        """Server over engine; the bootstrap draws utterances."""
        return ratio_of_medians(self.sides["server"].ttft_ms, self.sides["engine"].ttft_ms)

    @property
    def rate_ratio(self) -> Ratio:
        """Server over engine; the bootstrap draws rounds."""
        server, engine = ([[rate] for rate in self.sides[s].rates] for s in ("server", "engine"))
        return ratio_of_medians(server, engine)

    @property
    def ttft_target(self) -> float:
        """The most that `ttft_ratio` may be."""
        return TTFT_TARGETS.get(self.clients, TTFT_TARGET)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--starts", type=int, default=2, help="of engine and server")
    parser.add_argument("--rounds", type=int, default=4, help="at each start, two on each side")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = parse_arguments(argv)
    print("\n".join(f"{name}: {value}" for name, value in conditions().items()), flush=True)
    figures = [
        ChatFigures(clients, {side: Side([[] for _ in range(_replies(clients))]) for side in SIDES})
        for clients in arguments.clients
    ]
    for start in range(arguments.starts):
        print(f"start {start + 1} of {arguments.starts}", flush=True)
        with tempfile.TemporaryDirectory(prefix="yap-bench-") as home:
            measure(Path(home), figures, arguments.rounds)
    print(_table(figures), flush=True)
    if arguments.json is not None:
        found = {
            "conditions": conditions(),
            "settings": _SETTINGS,
            "chat": [
                {
                    **dataclasses.asdict(one),
                    "ttft_ratio": dataclasses.asdict(one.ttft_ratio),
                    "rate_ratio": dataclasses.asdict(one.rate_ratio),
                }
                for one in figures
            ],
        }
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(home: Path, figures: Sequence[ChatFigures], rounds: int) -> None:
    """Start both and let them take turns.

    Args:
        home: a folder for logs.
        figures: where the results go.
    """
    persona = persona_of(PERSONA_TOKENS)
    with (
        raw_engine(home / "engine.log", **_SETTINGS) as engine,
        running(home, **_SETTINGS) as server,
    ):
        engine.wait_ready()
        serve: dict[str, Serve] = {
            "engine": engine.serve,
            "server": partial(serve_over_websocket, server.address),
        }
        utterances = fresh_utterances()
        for one in figures:
            for side in SIDES:
                serve[side](persona, list(islice(utterances, _replies(one.clients))), one.clients)
        for number in range(rounds):
            for one in figures:
                for side in _ORDER:
                    said = list(islice(utterances, _replies(one.clients)))
                    one.sides[side].add(serve[side](persona, said, one.clients))
            print(f"round {number + 1} of {rounds}", flush=True)


def _replies(clients: int) -> int:
    return _REPLIES.get(clients, clients * _REPLIES_EACH)


def persona_of(tokens: int) -> str:
    """A system prompt of about so many tokens of the demo model."""
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "yap-chat-demo" / "tokenizer.json"))
    return TRAIT * round(tokens / len(tokenizer.encode(TRAIT).ids))


def fresh_utterances() -> Iterator[str]:
    """Lines of ordinary talk, over and over, each with a number that makes it new to the cache."""
    for number, line in enumerate(cycle(small_talk())):
        yield f"{number}: {line}"


def serve_over_websocket(
    address: str,
    persona: str,
    utterances: Sequence[str],
    clients: int,
    pauses: Sequence[float] | None = None,
) -> Served:
    """One turn for each utterance, each in a session of its own; as `RawEngine.serve`."""
    waits = pauses or [0.0] * len(utterances)
    return asyncio.run(_serve(address, persona, utterances, clients, waits))


async def _serve(
    address: str, persona: str, utterances: Sequence[str], clients: int, pauses: Sequence[float]
) -> Served:
    replies: list[Reply | None] = [None] * len(utterances)
    waiting = iter(enumerate(utterances))

    async def client(websocket: websockets.ClientConnection) -> None:
        for number, utterance in waiting:
            await asyncio.sleep(pauses[number])
            replies[number] = await _turn(websocket, persona, utterance)

    url, headers = f"ws://{address}/ws", {"X-API-Key": API_KEY}
    async with AsyncExitStack() as stack:
        connected = [
            await stack.enter_async_context(
                websockets.connect(url, additional_headers=headers, compression=None)
            )
            for _ in range(clients)
        ]
        begun = time.perf_counter()
        await asyncio.gather(*(client(websocket) for websocket in connected))
        seconds = time.perf_counter() - begun
    return Served([reply for reply in replies if reply is not None], seconds)


async def _turn(websocket: websockets.ClientConnection, persona: str, utterance: str) -> Reply:
    """One turn. Frames are not parsed but for the last: the client shares the server's cores."""
    start = {
        "type": "start",
        "session_id": utterance,
        "gender": "female",
        "personality": "friendly",
        "chat_prompt": persona,
        "user_utterance": utterance,
        "sampling": {"temperature": 0},
    }
    begun = time.perf_counter()
    await websocket.send(json.dumps(start))
    ttft: float | None = None
    while not (frame := str(await websocket.recv())).startswith(_DONE):
        if ttft is None and frame.startswith(_TOKEN):
            ttft = time.perf_counter() - begun
    total = time.perf_counter() - begun
    done = json.loads(frame)
    if ttft is None or done["finish_reason"] not in ("stop", "length"):
        raise RuntimeError(f"{utterance!r} was not answered as it must be: {frame}")
    return Reply(1000 * ttft, 1000 * total, done["usage"]["completion_tokens"])


def _table(figures: Sequence[ChatFigures]) -> str:
    header = (
        "clients",
        "TTFT, engine",
        "TTFT, server",
        "server / engine",
        "tokens/s, engine",
        "tokens/s, server",
        f"server / engine (≥ {RATE_TARGET})",
    )
    rows = []
    for one in figures:
        engine, server = (one.sides[side] for side in SIDES)
        rows.append(
            [
                one.clients,
                _ms(engine.ttft),
                _ms(server.ttft),
                f"{one.ttft_ratio} (≤ {one.ttft_target})",
                f"{median(engine.rates):.0f}",
                f"{median(server.rates):.0f}",
                one.rate_ratio,
            ]
        )
    return (
        f"\npersona of about {PERSONA_TOKENS} tokens, cached; replies greedy, of at most "
        f"{_SETTINGS['CHAT_MAX_OUT']} tokens. ms, p50 / p90 / p99; tokens/s: median of rounds.\n\n"
    ) + markdown_table(header, rows)


def _ms(times: Times) -> str:
    return f"{times.p50:.1f} / {times.p90:.1f} / {times.p99:.1f}"


if __name__ == "__main__":
    main()
