"""Server frames. Key order on the wire is field order; additions come last."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from yap.protocol.codes import ErrorCode


class ServerFrame(BaseModel):
    """Base of what the server sends. Key order on the wire is field order."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def encode(self) -> str:
        """The frame as JSON text, absent fields left out."""
        return self.model_dump_json(exclude_none=True, by_alias=True)


class ControlFunction(BaseModel):
    """One thing that the router asks the client to do."""

    model_config = ConfigDict(frozen=True)

    name: Literal[
        "take_screenshot",
        "start_freestyle",
        "stop_freestyle",
        "switch_gender",
        "switch_personality",
    ]
    param: str | None = None


class Usage(BaseModel):
    """Token counts of a turn. All zero when no chat model ran."""

    model_config = ConfigDict(frozen=True)

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Timings(BaseModel):
    """Milliseconds from the receipt of `start`; None for what did not happen."""

    model_config = ConfigDict(frozen=True)

    toolcall_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float = 0.0


class StartAck(ServerFrame):
    """A `start` was accepted. `now` is when the session began: UTC, and the part of the day."""

    type: Literal["ack"] = "ack"
    for_: Literal["start"] = Field("start", alias="for")
    ok: Literal[True] = True
    session_id: str | int | float
    now: str
    gender: Literal["female", "male"]
    personality: str
    chat_prompt: bool
    turn_id: str


class ChatPromptAck(ServerFrame):
    """The answer to a `chat_prompt`; `code` is as in HTTP."""

    type: Literal["ack"] = "ack"
    for_: Literal["chat_prompt"] = Field("chat_prompt", alias="for")
    ok: bool
    code: Literal[200, 204, 400, 413, 429, 500]
    message: str
    gender: Literal["female", "male"] | None = None
    personality: str | None = None
    error_code: ErrorCode | None = None
    retry_in: int | None = None


class Warmed(ServerFrame):
    """A warm-up is done. `bytes` is the number of characters, as it always was."""

    type: Literal["warmed"] = "warmed"
    segment: Literal["persona_static", "history"]
    bytes: int


class ToolCall(ServerFrame):
    """The router's decision. `raw` is empty exactly when `status` is "no"."""

    type: Literal["toolcall"] = "toolcall"
    status: Literal["yes", "no"]
    raw: list[ControlFunction]
    turn_id: str


class Token(ServerFrame):
    """The next piece of the reply."""

    type: Literal["token"] = "token"
    text: str
    turn_id: str


def token_json(text: str, turn_id: str) -> bytes:
    """`Token(...).encode()` in UTF-8, in a fifth of the time: there is one for every token."""
    return b'{"type":"token","text":%b,"turn_id":%b}' % (to_json(text), to_json(turn_id))


class Final(ServerFrame):
    """The whole reply: exactly the token texts, joined."""

    type: Literal["final"] = "final"
    normalized_text: str
    turn_id: str


class Done(ServerFrame):
    """The end of a turn, once for every turn; also the answer to a cancel when none runs."""

    type: Literal["done"] = "done"
    cancelled: Literal[True] | None = None
    request_id: str | None = None
    usage: Usage | None = None
    turn_id: str | None = None
    finish_reason: Literal["stop", "length", "cancelled", "error"] | None = None
    timings: Timings | None = None


class Capacity(BaseModel):
    """How full the server is."""

    model_config = ConfigDict(frozen=True)

    active: int
    max: int
    available: int
    at_capacity: bool


class Error(ServerFrame):
    """Something was refused or failed. `message` tells what to do about it."""

    type: Literal["error"] = "error"
    error_code: ErrorCode
    message: str
    retry_in: int | None = None
    capacity: Capacity | None = None
    turn_id: str | None = None
    request_id: str | None = None
    session_id: str | int | float | None = None


class Pong(ServerFrame):
    """The answer to a ping."""

    type: Literal["pong"] = "pong"


class ConnectionClosed(ServerFrame):
    """The server is about to close this connection."""

    type: Literal["connection_closed"] = "connection_closed"
    reason: str


Ack = Annotated[StartAck | ChatPromptAck, Field(discriminator="for_")]
AnyServerFrame = Annotated[
    Ack | ToolCall | Token | Final | Done | Error | Pong | Warmed | ConnectionClosed,
    Field(discriminator="type"),
]
_SERVER_FRAMES: TypeAdapter[AnyServerFrame] = TypeAdapter(AnyServerFrame)


def read_server_frame(text: str | bytes) -> AnyServerFrame:
    """A server frame as a client gets it.

    Raises:
        ValueError: it is not one of this protocol's frames.
    """
    return _SERVER_FRAMES.validate_json(text)
