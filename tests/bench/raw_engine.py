"""vLLM's AsyncLLM alone, in a process of its own: what the server's turns are compared with.

The engine is built and warmed up as the server does it, from the same variables; then requests go
to `AsyncLLM.generate` with no server around it. Rounds come as lines of JSON on stdin, results go
to stdout as lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any

from tests.e2e.harness import ROOT, STOP_S
from yap.chat.engine import ChatEngine
from yap.chat.prompt import Prompt
from yap.protocol import SamplingOptions
from yap.settings import load_settings

_GREEDY = SamplingOptions(temperature=0)


@dataclass(slots=True)
class Reply:
    """One reply: milliseconds from its request to its first token and to its end."""

    ttft_ms: float
    total_ms: float
    tokens: int

    @property
    def tpot_ms(self) -> float:
        """Time per output token after the first."""
        return (self.total_ms - self.ttft_ms) / max(1, self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Served:
    """One round: a reply for each utterance, in order, and how long all of it took."""

    replies: list[Reply]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Of all clients together."""
        return sum(reply.tokens for reply in self.replies) / self.seconds


class RawEngine:
    """The process, as its parent sees it."""

    def __init__(self, process: Popen[str]) -> None:
        self._process = process

    def wait_ready(self) -> None:
        """Wait until it is built and warmed up."""
        self._read()

    def serve(
        self,
        persona: str,
        utterances: Sequence[str],
        clients: int,
        pauses: Sequence[float] | None = None,
    ) -> Served:
        """One reply to each utterance, `clients` at a time.

        Args:
            pauses: seconds to wait before each utterance is said; none by default.
        """
        asked = {
            "persona": persona,
            "utterances": list(utterances),
            "clients": clients,
            "pauses": list(pauses or [0.0] * len(utterances)),
        }
        self._pipe(self._process.stdin).write(json.dumps(asked) + "\n")
        self._pipe(self._process.stdin).flush()
        answer = self._read()
        return Served([Reply(*reply) for reply in answer["replies"]], answer["seconds"])

    def _read(self) -> Any:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError("the raw engine ended by itself; its log says why")
        return json.loads(line)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("the raw engine was started without pipes")
        return pipe


@contextlib.contextmanager
def raw_engine(log: Path, **settings: str) -> Iterator[RawEngine]:
    """The process, loading; gone afterwards."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **settings}
    command = [sys.executable, "-m", "tests.bench.raw_engine"]
    with (
        log.open("wb") as stderr,
        Popen(
            command, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            yield RawEngine(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(STOP_S)
            finally:
                process.kill()


# In the process itself.


async def _serve(engine: ChatEngine, asked: dict[str, Any]) -> Served:
    utterances = asked["utterances"]
    prompts = [await engine.prepare(asked["persona"], (), text) for text in utterances]
    replies: list[Reply | None] = [None] * len(prompts)
    waiting = iter(enumerate(prompts))

    async def client() -> None:
        for number, prompt in waiting:
            await asyncio.sleep(asked["pauses"][number])
            replies[number] = await _reply(engine, prompt, f"raw-{number}")

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(asked["clients"])))
    seconds = time.perf_counter() - begun
    return Served([reply for reply in replies if reply is not None], seconds)


async def _reply(engine: ChatEngine, prompt: Prompt, request_id: str) -> Reply:
    from vllm.inputs import tokens_input

    llm = engine._require_llm()
    begun = time.perf_counter()
    ttft, tokens = 0.0, 0
    params = engine._sampling_params(_GREEDY, prompt.max_tokens)
    async for output in llm.generate(tokens_input(prompt.token_ids), params, request_id):
        if not tokens:
            ttft = time.perf_counter() - begun
        tokens += len(output.outputs[0].token_ids)
    return Reply(1000 * ttft, 1000 * (time.perf_counter() - begun), tokens)


async def _run(out: IO[str]) -> None:
    engine = ChatEngine(load_settings(serving=False))
    try:
        await engine.start()
        gc.collect()
        gc.freeze()
        print(json.dumps("ready"), file=out, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            served = await _serve(engine, json.loads(line))
            replies = [dataclasses.astuple(reply) for reply in served.replies]
            answer = {"replies": replies, "seconds": served.seconds}
            print(json.dumps(answer), file=out, flush=True)
    finally:
        await engine.close()


def main() -> None:
    """Serve rounds until stdin ends."""
    # What else is printed here must not come between the answers.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        asyncio.run(_run(out))


if __name__ == "__main__":
    main()
