"""One WebSocket to the server, with typed frames and the times at which they came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import websockets

from tests.client.endpoint import Endpoint, Patience, open_websocket
from tests.client.errors import (
    ConnectionLostError,
    ErrorFrameError,
    InvalidFrameError,
    ServerRefusedError,
    SilentError,
    of_frame,
)
from tests.client.timing import first_sentence_ms, first_words_ms
from yap.protocol import (
    AnyServerFrame,
    ChatPromptAck,
    ConnectionClosed,
    Done,
    Error,
    Final,
    Pong,
    StartAck,
    Token,
    ToolCall,
    read_server_frame,
)

__all__ = [
    "Conversation",
    "OnFrame",
    "ServerRefusedError",
    "TurnRecord",
    "connect",
    "connect_to",
]

OnFrame = Callable[[AnyServerFrame], None]


@dataclass(slots=True)
class TurnRecord:
    """What came back in one turn. Times are milliseconds from the sending of its message."""

    ack: StartAck | None = None
    toolcall: ToolCall | None = None
    tokens: list[str] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    final: Final | None = None
    done: Done | None = None
    error: Error | None = None
    ack_ms: float | None = None
    toolcall_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float = 0.0

    @property
    def text(self) -> str:
        """The reply."""
        return "".join(self.tokens)

    @property
    def cancelled(self) -> bool:
        """Whether it was cut short."""
        return self.done is not None and self.done.cancelled is True

    @property
    def stream_ms(self) -> float | None:
        """From the first token to the last; None without tokens."""
        return self.token_ms[-1] - self.token_ms[0] if self.token_ms else None

    @property
    def first_3_words_ms(self) -> float | None:
        """When there were three words."""
        return first_words_ms(self.tokens, self.token_ms, 3)

    @property
    def first_sentence_ms(self) -> float | None:
        """When the first sentence was complete."""
        return first_sentence_ms(self.tokens, self.token_ms)


class Conversation:
    """Turns over one connection, one after the other.

    `timeout`, the longest silence of the server in seconds, may be changed at any time.
    """

    def __init__(self, websocket: websockets.ClientConnection, timeout: float) -> None:
        self._websocket = websocket
        self.timeout = timeout

    @property
    def is_open(self) -> bool:
        """Whether neither side has hung up, as far as is known."""
        return self._websocket.state is websockets.State.OPEN

    async def send(self, message: dict[str, Any]) -> None:
        """Send a client frame. If the server has hung up, `receive` says why."""
        with suppress(websockets.ConnectionClosed):
            await self._websocket.send(json.dumps(message))

    async def receive(self) -> AnyServerFrame:
        """The next server frame.

        Raises:
            ConnectionLostError: the server hung up.
            SilentError: it sent nothing for too long.
            InvalidFrameError: it sent something else.
        """
        try:
            async with asyncio.timeout(self.timeout):
                text = await self._websocket.recv()
        except TimeoutError:
            raise SilentError(f"the server sent nothing for {self.timeout:g} s") from None
        except websockets.ConnectionClosed as closed:
            raise _lost(closed) from None
        try:
            return read_server_frame(text)
        except ValueError as error:
            raise InvalidFrameError(
                f"the server sent what is no frame of this protocol: {text[:200]!r} ({error})"
            ) from None

    async def turn(self, start: dict[str, Any], on_frame: OnFrame | None = None) -> TurnRecord:
        """Send `start` and read until `done`.

        Raises:
            ServerRefusedError: the turn failed; the error holds what had come of it.
        """
        return await self._exchange({"type": "start", **start}, on_frame)

    async def followup(self, analysis_text: str, on_frame: OnFrame | None = None) -> TurnRecord:
        """Say what was seen on the screen and read until `done`; raises as `turn` does."""
        return await self._exchange({"type": "followup", "analysis_text": analysis_text}, on_frame)

    async def cancel(self, heard_chars: int | None = None) -> None:
        """Stop the running turn, which then ends with its `done`.

        Args:
            heard_chars: how many characters of the reply the user has heard.
        """
        heard = {} if heard_chars is None else {"heard_chars": heard_chars}
        await self.send({"type": "cancel", **heard})

    async def change_persona(self, gender: str, personality: str, prompt: str) -> ChatPromptAck:
        """Take another persona from the next turn on; the answer may be a refusal."""
        await self.send(
            {
                "type": "chat_prompt",
                "gender": gender,
                "personality": personality,
                "chat_prompt": prompt,
            }
        )
        while not isinstance(frame := await self.receive(), ChatPromptAck):
            _raise_error(frame)
        return frame

    async def ping(self) -> float:
        """Milliseconds to the server and back; raises where it refuses the connection."""
        begun = time.perf_counter()
        await self.send({"type": "ping"})
        while not isinstance(frame := await self.receive(), Pong):
            _raise_error(frame)
        return (time.perf_counter() - begun) * 1000

    async def end(self) -> None:
        """Say goodbye and wait until the server has hung up."""
        await self.send({"type": "end"})
        with suppress(ConnectionLostError):
            while not isinstance(await self.receive(), ConnectionClosed):
                pass
            async with asyncio.timeout(self.timeout):
                await self._websocket.wait_closed()

    async def close(self) -> None:
        """Hang up."""
        await self._websocket.close()

    async def _exchange(self, message: dict[str, Any], on_frame: OnFrame | None) -> TurnRecord:
        record = TurnRecord()
        begun = time.perf_counter()
        try:
            await self.send(message)
            while record.done is None:
                frame = await self.receive()
                if _is_of_another_turn(frame, record, message["type"] == "start"):
                    continue
                record.total_ms = (time.perf_counter() - begun) * 1000
                _note(record, frame)
                if on_frame is not None:
                    on_frame(frame)
        except ServerRefusedError as error:
            error.record = record
            raise record_failure(record) or error from None
        if failure := record_failure(record):
            raise failure
        return record


def record_failure(record: TurnRecord) -> ErrorFrameError | None:
    """The error that the server sent in this turn."""
    if record.error is None:
        return None
    failure = of_frame(record.error)
    failure.record = record
    return failure


def _is_of_another_turn(frame: AnyServerFrame, record: TurnRecord, has_ack: bool) -> bool:
    """Whether a frame belongs to a turn before, or answers a `cancel` that came too late."""
    if not isinstance(frame, Done) or not frame.cancelled:
        return False
    return record.ack is None if has_ack else frame.turn_id is None


def _note(record: TurnRecord, frame: AnyServerFrame) -> None:
    match frame:
        case StartAck():  # what came before it was of another turn
            record.tokens.clear()
            record.token_ms.clear()
            record.toolcall = record.toolcall_ms = record.ttft_ms = None
            record.ack = frame
            record.ack_ms = record.total_ms
        case ToolCall():
            record.toolcall = frame
            record.toolcall_ms = record.total_ms
        case Token():
            if record.ttft_ms is None:
                record.ttft_ms = record.total_ms
            record.tokens.append(frame.text)
            record.token_ms.append(record.total_ms)
        case Final():
            record.final = frame
        case Done():
            record.done = frame
        case Error():
            record.error = frame
            if frame.turn_id is None:  # no `done` follows
                raise of_frame(frame)


def _raise_error(frame: AnyServerFrame) -> None:
    if isinstance(frame, Error):
        raise of_frame(frame)


def _lost(closed: websockets.ConnectionClosed) -> ConnectionLostError:
    if closed.rcvd is None:
        return ConnectionLostError("the server closed the connection (no close frame)")
    reason = f": {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return ConnectionLostError(
        f"the server closed the connection ({closed.rcvd.code}{reason})", closed.rcvd.code
    )


@asynccontextmanager
async def connect(server: str, api_key: str, timeout: float = 60.0) -> AsyncIterator[Conversation]:
    """Open a conversation, in one attempt.

    Args:
        server: `host:port`, or a URL of the WebSocket.
        timeout: the longest silence of the server, in seconds.

    Raises:
        CannotConnectError: nobody answers there.
    """
    websocket = await open_websocket(Endpoint(server, api_key, timeout))
    try:
        yield Conversation(websocket, timeout)
    finally:
        await websocket.close()


@asynccontextmanager
async def connect_to(endpoint: Endpoint) -> AsyncIterator[Conversation]:
    """Open a conversation that the server has admitted, in as many attempts as there is time for.

    The server accepts a WebSocket before it refuses it, so a place is sure only once a `ping` has
    been answered.

    Raises:
        ServerRefusedError: the last attempt failed, or waiting would not help.
    """
    patience = Patience(endpoint.retry_s)
    while True:
        try:
            conversation = await _admitted(endpoint)
            break
        except ServerRefusedError as error:
            await patience.wait(error)
    try:
        yield conversation
    finally:
        await conversation.close()


async def _admitted(endpoint: Endpoint) -> Conversation:
    conversation = Conversation(await open_websocket(endpoint), endpoint.timeout)
    try:
        await conversation.ping()
    except BaseException:
        await conversation.close()
        raise
    return conversation
