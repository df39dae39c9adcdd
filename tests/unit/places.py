"""A server with scripted models, for tests that talk to it over a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.unit.stand_ins import Client, ScriptedChat
from yap.server import Server

START: dict[str, Any] = {
    "type": "start",
    "session_id": "s-1",
    "gender": "female",
    "personality": "friendly",
    "personalities": {"friendly": []},
    "chat_prompt": "You are Mira.",
    "user_utterance": "hi",
}
WHOLE_TURN = ["ack", "toolcall", "token", "token", "token", "final", "done"]


class Place:
    """A server with scripted models, and the clients that it has."""

    def __init__(self, server: Server, chat: ScriptedChat, *, direct: bool = False) -> None:
        """
        Args:
            direct: as in `Client`.
        """
        self.server = server
        self.chat = chat
        self.direct = direct
        self.clients: list[Client] = []

    def connect(self, *, query: str | None = None, headers: dict[str, str] | None = None) -> Client:
        client = Client(self.server, query=query, headers=headers, direct=self.direct)
        self.clients.append(client)
        return self.clients[-1]

    async def leave(self) -> None:
        for client in self.clients:
            client.reading.set()
            client.disconnect()
        await asyncio.gather(*(client.serving for client in self.clients), return_exceptions=True)
        assert self.server.admission.active == 0
        await self.chat.close()

    def refusals(self, code: str) -> float:
        return float(self.server.metrics.refusals.labels(code)._value.get())


MakePlace = Callable[..., Place]
