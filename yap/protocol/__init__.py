"""The wire protocol: every frame in and out as a model, error codes, close codes.

Frames are JSON objects in WebSocket text messages. Clients are read leniently (unknown fields are
ignored, numbers may be strings) but typed strictly: a field of the wrong type is refused with a
code that names it. This package does no I/O and imports nothing of the service but `yap.text`, so
that clients and tests can use it too.
"""

from yap.protocol.client import (
    SAMPLER_FIELDS,
    SAMPLING_FIELDS,
    Cancel,
    ChatPrompt,
    Envelope,
    Followup,
    HistoryMessage,
    SamplingOptions,
    Start,
    WarmHistory,
    WarmPersona,
    first_problem,
    parse,
    read,
    read_start,
)
from yap.protocol.codes import CloseCode, ErrorCode, ProtocolError
from yap.protocol.fields import Personalities, StartRules
from yap.protocol.server import (
    AnyServerFrame,
    Capacity,
    ChatPromptAck,
    ConnectionClosed,
    ControlFunction,
    Done,
    Error,
    Final,
    Pong,
    ServerFrame,
    StartAck,
    Timings,
    Token,
    ToolCall,
    Usage,
    Warmed,
    read_server_frame,
    token_json,
)

__all__ = [
    "SAMPLER_FIELDS",
    "SAMPLING_FIELDS",
    "AnyServerFrame",
    "Cancel",
    "Capacity",
    "ChatPrompt",
    "ChatPromptAck",
    "CloseCode",
    "ConnectionClosed",
    "ControlFunction",
    "Done",
    "Envelope",
    "Error",
    "ErrorCode",
    "Final",
    "Followup",
    "HistoryMessage",
    "Personalities",
    "Pong",
    "ProtocolError",
    "SamplingOptions",
    "ServerFrame",
    "Start",
    "StartAck",
    "StartRules",
    "Timings",
    "Token",
    "ToolCall",
    "Usage",
    "WarmHistory",
    "WarmPersona",
    "Warmed",
    "first_problem",
    "parse",
    "read",
    "read_server_frame",
    "read_start",
    "token_json",
]
