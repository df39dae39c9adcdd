"""A bare WebSocket client for the tests: JSON in, JSON out, nothing hidden."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets

from tests.e2e.harness import API_KEY, ServerProcess

Frame = dict[str, Any]
PERSONA = "You are Anna, a warm and friendly companion. Keep your answers short."


def start(utterance: str, **fields: Any) -> Frame:
    """A start frame as existing clients send it."""
    return {
        "type": "start",
        "session_id": "s1",
        "gender": "female",
        "personality": "friendly",
        "personalities": {"friendly": ["warm"], "playful": ["fun"]},
        "chat_prompt": PERSONA,
        "history_text": "",
        "user_utterance": utterance,
        **fields,
    }


class Talk:
    """One connection."""

    def __init__(self, websocket: websockets.ClientConnection) -> None:
        self.websocket = websocket

    async def send(self, frame: Frame | str | bytes) -> None:
        """Send a frame; text and bytes go as they are."""
        await self.websocket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def receive(self, timeout: float = 30) -> Frame:
        """The next frame."""
        async with asyncio.timeout(timeout):
            frame: Frame = json.loads(await self.websocket.recv())
            return frame

    async def until(self, kind: str) -> list[Frame]:
        """All frames up to the first of this type, that one included."""
        frames = [await self.receive()]
        while frames[-1]["type"] != kind:
            frames.append(await self.receive())
        return frames

    async def turn(self, utterance: str, **fields: Any) -> list[Frame]:
        """Start a turn and return its frames."""
        await self.send(start(utterance, **fields))
        return await self.until("done")

    async def closed(self) -> tuple[int, str]:
        """Wait for the server to close; its code and reason."""
        async with asyncio.timeout(30):
            await self.websocket.wait_closed()
        assert self.websocket.close_code is not None
        return self.websocket.close_code, self.websocket.close_reason or ""


@asynccontextmanager
async def talk(
    server: ServerProcess, query: str = f"?api_key={API_KEY}", **headers: str
) -> AsyncIterator[Talk]:
    """Connect the way existing clients do, with the key in the query."""
    async with websockets.connect(
        f"ws://{server.address}/ws{query}", additional_headers=headers
    ) as websocket:
        yield Talk(websocket)


def kinds(frames: list[Frame]) -> list[str]:
    """The frame types, runs of tokens written once."""
    names: list[str] = []
    for frame in frames:
        if not (frame["type"] == "token" and names and names[-1] == "token"):
            names.append(frame["type"])
    return names
