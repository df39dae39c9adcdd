"""A server whose latencies are known: it streams by a script, and notes when it wrote what.

It runs in a process of its own (`python -m tests.unit.load.scripted SCRIPT`), speaks all three
dialects on one port each, and prints the ports, then, when its standard input ends, its notes.
Monotonic clocks are one clock for all processes of a machine, so its notes are the truth that a
client's times are held against.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import websockets
from websockets.asyncio.server import ServerConnection, serve

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PIECES = ("Hi", " there", ",", " my", " friend", ".", " It", " is", " 3", ".5", " now", "!")


@dataclass(frozen=True)
class Script:
    """What happens in a turn, in milliseconds; the n-th turn takes the n-th TTFT, in a circle."""

    ttft_ms: Sequence[float] = (30,)
    itl_ms: float = 20
    tokens: int = 6
    toolcall_ms: float | None = None
    prompt_tokens: int = 100
    cached_tokens: int = 80
    # After a cancel: so much later it is silent, having made so many tokens that were not sent.
    silent_after_ms: float = 15
    unsent: int = 2
    fail_every: int = 0  # every so many turns an error ends it
    hang: bool = False  # no turn ends
    refuse: int = 0  # an HTTP status; over the WebSocket the server is full


@dataclass
class Note:
    """When a turn's request came and its pieces went, by `time.perf_counter`."""

    number: int
    utterance: str
    received: float
    toolcall: float | None = None
    pieces: list[float] = field(default_factory=list)
    ended: float = 0.0


class Stage:
    """Plays the script, the same for each dialect."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.notes: list[Note] = []

    def begin(self, utterance: str) -> Note:
        """A turn's request is there."""
        self.notes.append(Note(len(self.notes), utterance, perf_counter()))
        return self.notes[-1]

    async def play(self, note: Note) -> AsyncIterator[str | None]:
        """None for the screen decision, then the reply's pieces, each at its moment."""
        script = self.script
        if script.toolcall_ms is not None:
            await _until(note.received + script.toolcall_ms / 1000)
            note.toolcall = perf_counter()
            yield None
        first = note.received + script.ttft_ms[note.number % len(script.ttft_ms)] / 1000
        for index in range(script.tokens):
            await _until(first + index * script.itl_ms / 1000)
            note.pieces.append(perf_counter())
            yield PIECES[index % len(PIECES)]
        if script.hang:
            await asyncio.sleep(60)

    def fails(self, note: Note) -> bool:
        """Whether the script lets this turn fail."""
        every = self.script.fail_every
        return bool(every) and (note.number + 1) % every == 0

    def usage(self, completion: int) -> dict[str, int]:
        """As Yap tells it."""
        script = self.script
        return {
            "prompt_tokens": script.prompt_tokens,
            "cached_tokens": script.cached_tokens,
            "completion_tokens": completion,
        }


async def _until(moment: float) -> None:
    await asyncio.sleep(moment - perf_counter())


async def frames(stage: Stage, note: Note) -> AsyncIterator[dict[str, Any]]:
    """A turn as Yap's frames."""
    turn = {"turn_id": "t"}
    if stage.fails(note):
        yield {"type": "error", "error_code": "internal_error", "message": "As scripted.", **turn}
        yield {"type": "done", **turn, "finish_reason": "error"}
        return
    async for piece in stage.play(note):
        if piece is None:
            yield {"type": "toolcall", "status": "no", "raw": [], **turn}
        else:
            yield {"type": "token", "text": piece, **turn}
    note.ended = perf_counter()
    usage = stage.usage(len(note.pieces))
    yield {"type": "done", "usage": usage, **turn, "finish_reason": "stop"}


async def over_websocket(stage: Stage, websocket: ServerConnection) -> None:
    """One connection: `start` begins a turn, `cancel` ends it."""
    running: asyncio.Task[None] | None = None
    note: Note | None = None

    async def turn(note: Note) -> None:
        async for frame in frames(stage, note):
            await websocket.send(_compact(frame))

    if stage.script.refuse:
        refusal = {"type": "error", "error_code": "server_at_capacity", "message": "As scripted."}
        await websocket.send(_compact(refusal))
        await websocket.close(1013)
        return
    try:
        async for text in websocket:
            message = json.loads(text)
            if message["type"] == "start":
                note = stage.begin(message["user_utterance"])
                running = asyncio.create_task(turn(note))
            elif message["type"] == "cancel" and running is not None and note is not None:
                if running.done():
                    await websocket.send(_compact({"type": "done", "cancelled": True}))
                    continue
                running.cancel()
                await asyncio.sleep(stage.script.silent_after_ms / 1000)
                note.ended = perf_counter()
                usage = stage.usage(len(note.pieces) + stage.script.unsent)
                done = {"type": "done", "cancelled": True, "usage": usage, "turn_id": "t"}
                await websocket.send(_compact({**done, "finish_reason": "cancelled"}))
    except websockets.ConnectionClosed:
        pass
    finally:
        if running is not None:
            running.cancel()


async def over_http(
    stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One kept connection: POST /chat or /v1/chat/completions, answered in chunks."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if not head.startswith("POST "):
                _refuse(404, writer)
                return
            length = next(
                int(line.partition(":")[2])
                for line in head.split("\r\n")
                if line.lower().startswith("content-length:")
            )
            body = json.loads(await reader.readexactly(length))
            note = stage.begin(body["messages"][-1]["content"])
            if stage.script.refuse:
                _refuse(stage.script.refuse, writer)
                continue
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            if head.startswith("POST /chat "):
                async for frame in frames(stage, note):
                    _event(writer, _compact(frame))
            else:
                await _openai(stage, note, writer)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _refuse(status: int, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"error": {"message": "As scripted."}})
    writer.write(
        f"HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )


async def _openai(stage: Stage, note: Note, writer: asyncio.StreamWriter) -> None:
    def chunk(delta: dict[str, str]) -> None:
        _event(writer, json.dumps({"choices": [{"index": 0, "delta": delta}]}))

    chunk({"role": "assistant", "content": ""})
    async for piece in stage.play(note):
        if piece is not None:
            chunk({"content": piece})
    note.ended = perf_counter()
    usage: dict[str, Any] = stage.usage(len(note.pieces))
    usage["prompt_tokens_details"] = {"cached_tokens": usage.pop("cached_tokens")}
    _event(writer, json.dumps({"choices": [], "usage": usage}))
    _event(writer, "[DONE]")


def _event(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


def _compact(frame: dict[str, Any]) -> str:
    return json.dumps(frame, separators=(",", ":"))


async def run(script: Script) -> None:
    """Serve until standard input ends; then print the notes."""
    stage = Stage(script)
    http = await asyncio.start_server(
        lambda reader, writer: over_http(stage, reader, writer), "127.0.0.1", 0, backlog=512
    )
    async with serve(
        lambda websocket: over_websocket(stage, websocket),
        "127.0.0.1",
        0,
        compression=None,
        backlog=512,
    ) as ws:
        ports = [next(iter(server.sockets)).getsockname()[1] for server in (ws, http)]
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps([asdict(note) for note in stage.notes]), flush=True)
        # Not waited for: a client that is gone may have left a turn running.
        ws.close(close_connections=False)
        http.close()


class Scripted:
    """The process, as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.ws, self.http = json.loads(self._read())

    def address(self, kind: str) -> str:
        """host:port, or a base URL, for `Target`."""
        return f"127.0.0.1:{self.ws if kind == 'ws' else self.http}"

    def notes(self) -> list[Note]:
        """End it; what it noted."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return [Note(**note) for note in json.loads(self._read())]

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """The server, serving; gone afterwards."""
    command = [sys.executable, "-m", "tests.unit.load.scripted", json.dumps(asdict(script))]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Scripted(process)
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(run(Script(**json.loads(sys.argv[1]))))
