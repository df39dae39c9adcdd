"""A WebSocket server that answers as it is told to, to make faults happen on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import websockets

Frame = dict[str, Any]
HANG_UP = "hang up"
TURN = "t1"
ACK: Frame = {
    "type": "ack",
    "for": "start",
    "ok": True,
    "session_id": "s",
    "now": "2026-11-22T12:00:00+00:00 (Noon)",
    "gender": "female",
    "personality": "friendly",
    "chat_prompt": True,
    "turn_id": TURN,
}
TOOLCALL_NO: Frame = {"type": "toolcall", "status": "no", "raw": [], "turn_id": TURN}


def token(text: str) -> Frame:
    """A piece of the reply."""
    return {"type": "token", "text": text, "turn_id": TURN}


def ending(text: str, **fields: Any) -> list[Frame]:
    """`final` and `done`."""
    usage = {"prompt_tokens": 9, "cached_tokens": 0, "completion_tokens": 3}
    done = {"type": "done", "usage": usage, "turn_id": TURN, "finish_reason": "stop", **fields}
    return [{"type": "final", "normalized_text": text, "turn_id": TURN}, done]


class ScriptedServer:
    """Plays the steps of `script` at each `start` and `followup`: frames, texts as they are,
    pauses in seconds, and HANG_UP. A `cancel` ends them with a `done`.

    Attributes:
        received: all messages of all clients.
    """

    def __init__(self, script: Sequence[Frame | str | float]) -> None:
        self.script = script
        self.received: list[Frame] = []
        self.address = ""

    async def handle(self, websocket: websockets.ServerConnection) -> None:
        """One connection."""
        playing: asyncio.Task[None] | None = None
        async for text in websocket:
            message = json.loads(text)
            self.received.append(message)
            match message["type"]:
                case "ping":
                    await websocket.send('{"type": "pong"}')
                case "start" | "followup":
                    playing = asyncio.create_task(self._play(websocket))
                case "cancel":
                    if playing is not None and not playing.done():
                        playing.cancel()
                        stopped = {"cancelled": True, "turn_id": TURN}
                        await websocket.send(json.dumps({"type": "done", **stopped}))

    async def _play(self, websocket: websockets.ServerConnection) -> None:
        for step in self.script:
            if step == HANG_UP:
                websocket.transport.abort()
            elif isinstance(step, dict):
                await websocket.send(json.dumps(step))
            elif isinstance(step, str):
                await websocket.send(step)
            else:
                await asyncio.sleep(step)


@asynccontextmanager
async def scripted(*script: Frame | str | float) -> AsyncIterator[ScriptedServer]:
    """The server, listening."""
    server = ScriptedServer(script)
    async with websockets.serve(server.handle, "127.0.0.1", 0) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.address = f"127.0.0.1:{port}"
        yield server
