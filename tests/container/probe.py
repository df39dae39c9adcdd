"""Talk to a server as a client does, from wherever this runs; inside a container too.

    probe.py turns ADDRESS        a turn over the WebSocket, one over HTTP, a decision, no network
    probe.py streams ADDRESS      two replies that go on until the token limit: says "streaming"
                                  once both run, then how each ended

It prints JSON, and needs `websockets` and the standard library: it is given to a container's Python
on standard input. The key is in TEXT_API_KEY.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import websockets

Frame = dict[str, Any]
PERSONA = "You are Anna, a warm and friendly companion. Keep your answers short."
START: Frame = {
    "type": "start",
    "session_id": "probe",
    "gender": "female",
    "personality": "friendly",
    "personalities": {"friendly": ["warm"]},
    "chat_prompt": PERSONA,
}
MESSAGES = [
    {"role": "system", "content": PERSONA},
    {"role": "user", "content": "Tell me about your day!"},
]
# The demo model's end of text, which a long reply must not draw.
ENDLESS = {"temperature": 1.0, "logit_bias": {"2": -100}}
_TOKENS_FIRST = 5  # of each reply, before it counts as streaming
_NOWHERE = ("192.0.2.1", 443)  # RFC 5737: addresses for documentation
_TIMEOUT_S = 60


def key() -> str:
    """The key that the server asks for."""
    return os.environ["TEXT_API_KEY"]


async def websocket_turn(
    address: str, streaming: asyncio.Event | None = None, **fields: Any
) -> dict[str, Any]:
    """One turn; its frames in short, and how the connection was closed if the server closed it."""
    frames: list[Frame] = []
    tokens = 0
    async with websockets.connect(
        f"ws://{address}/ws", additional_headers={"X-API-Key": key()}
    ) as connection:
        begun = time.monotonic()
        await connection.send(json.dumps({**START, **fields}))
        async with asyncio.timeout(_TIMEOUT_S):
            while not frames or frames[-1]["type"] not in ("done", "error"):
                frames.append(json.loads(await connection.recv()))
                tokens += frames[-1]["type"] == "token"
                if streaming is not None and tokens >= _TOKENS_FIRST:
                    streaming.set()
            found = summary(frames, time.monotonic() - begun)
            if streaming is not None:
                await connection.wait_closed()
    return {**found, "close_code": connection.close_code}


def summary(frames: list[Frame], took_s: float) -> dict[str, Any]:
    """What a test wants to know of a turn."""
    kinds = [frame["type"] for frame in frames]
    return {
        "frames": [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind],
        "tokens": kinds.count("token"),
        "text": next((f.get("normalized_text", "") for f in frames if f["type"] == "final"), ""),
        "ended": frames[-1].get("finish_reason", frames[-1].get("error_code")),
        "ms": round(took_s * 1000),
        "ended_at": time.time(),
    }


def _post(address: str, path: str, body: Frame) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json", "X-API-Key": key()}
    connection.request("POST", path, json.dumps(body), headers)
    return connection.getresponse()


def _events(response: http.client.HTTPResponse) -> Iterator[Frame]:
    for line in response:
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


def http_turn(address: str, streaming: Any = None, **sampling: Any) -> dict[str, Any]:
    """One turn as server-sent events; `streaming` is called when some tokens have come."""
    begun = time.monotonic()
    response = _post(address, "/chat", {"messages": MESSAGES, "sampling": sampling})
    frames: list[Frame] = []
    tokens = 0
    for frame in _events(response):
        frames.append(frame)
        tokens += frame["type"] == "token"
        if streaming is not None and tokens == _TOKENS_FIRST:
            streaming()
    return {"status": response.status, **summary(frames, time.monotonic() - begun)}


def reaches_a_network() -> bool:
    """Whether any route leads out of here; nothing need answer."""
    try:
        with socket.create_connection(_NOWHERE, timeout=2):
            return True
    except TimeoutError:
        return True
    except OSError:
        return False


def turns(address: str) -> dict[str, Any]:
    """What each way in answers."""
    sampling = {"temperature": 0}
    utterance = "What is your name?"
    answer = _post(address, "/classify", {"utterance": "Can you look at my screen, please?"})
    return {
        "websocket": asyncio.run(
            websocket_turn(address, user_utterance=utterance, sampling=sampling)
        ),
        "http": http_turn(address, **sampling),
        "classify": json.loads(answer.read()),
        "network": reaches_a_network(),
    }


async def streams(address: str) -> dict[str, Any]:
    """Two long replies at once, one over each way in."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def heard() -> None:
        loop.call_soon_threadsafe(second.set)

    fields = {"user_utterance": "Tell me about your day!", "sampling": ENDLESS}
    talks = asyncio.create_task(websocket_turn(address, first, **fields))
    posts = asyncio.create_task(asyncio.to_thread(http_turn, address, heard, **ENDLESS))
    async with asyncio.timeout(_TIMEOUT_S):
        await asyncio.gather(first.wait(), second.wait())
    print("streaming", flush=True)
    return {"websocket": await talks, "http": await posts}


def main() -> None:
    what, address = sys.argv[1:3]
    print(json.dumps(turns(address) if what == "turns" else asyncio.run(streams(address))))


if __name__ == "__main__":
    main()
