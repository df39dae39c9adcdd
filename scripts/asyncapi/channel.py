"""The server, its one channel, and what is received and sent there."""

from __future__ import annotations

from scripts.asyncapi.schemas import Schema, ref
from yap import protocol
from yap.protocol import ServerFrame
from yap.settings import Settings

# The frames that answer a message. An error may answer any of them but pong and end.
TURN = ["Token", "Final", "Done", "Error"]
REPLIES = {
    "Start": ["StartAck", "ToolCall", *TURN],
    "Followup": TURN,
    "ChatPrompt": ["ChatPromptAck", "Error"],
    "WarmPersona": ["Warmed", "Error"],
    "WarmHistory": ["Warmed", "Error"],
    "Cancel": ["Done", "Error"],
    "CancelSentinel": ["Done", "Error"],
    "Ping": ["Pong"],
    "ClientPong": [],
    "End": ["ConnectionClosed"],
    "EndSentinel": ["ConnectionClosed"],
}


def server(settings: Settings) -> Schema:
    return {
        "host": f"{{host}}:{settings.port}",
        "protocol": "ws",
        "protocolVersion": "13",
        "description": "The server itself speaks ws; behind a proxy that ends TLS it is wss.",
        "variables": {"host": {"default": "127.0.0.1", "description": "Where the server runs."}},
        "security": [ref("components", "securitySchemes", name) for name in security_schemes()],
    }


def security_schemes() -> Schema:
    return {
        "header": {
            "type": "httpApiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "The API key. It goes before a bearer token.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "The API key as `Authorization: Bearer`.",
        },
        "query": {
            "type": "httpApiKey",
            "in": "query",
            "name": "api_key",
            "description": "The API key in the URL, for clients that cannot set headers. It goes "
            "before the headers, and ends up in proxies' logs; prefer a header.",
        },
    }


def channel(settings: Settings, messages: Schema) -> Schema:
    return {
        "address": "/ws",
        "title": "The WebSocket",
        "description": "Frames are text messages of at most WS_MAX_FRAME_BYTES "
        f"({settings.ws_max_frame_bytes} by default) bytes. A refused client is told why in an "
        "`error` frame before the close.",
        "servers": [ref("servers", "yap")],
        "messages": {name: ref("components", "messages", name) for name in messages},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        "x-close-codes": close_codes(settings),
    }


def close_codes(settings: Settings) -> list[Schema]:
    """How connections end. Those with a `setting` are an operator's choice; shown is the default.

    1009 and 1012 come from the WebSocket server underneath.
    """
    fixed = protocol.CloseCode
    chosen = (
        ("ws_close_client_request_code", "The client sent `end`.", ""),
        ("ws_close_unauthorized_code", "The key is missing or wrong, or a `start` is refused.", ""),
        ("ws_close_busy_code", "The server is full or stopping; connect again later.", ""),
        (
            "ws_close_idle_code",
            f"Nothing was received for WS_IDLE_TIMEOUT_S ({settings.ws_idle_timeout_s:g} s).",
            settings.ws_close_idle_reason,
        ),
    )
    codes: list[Schema] = [
        {
            "code": getattr(settings, field),
            "setting": field.upper(),
            "meaning": meaning,
            **({"reason": reason} if reason else {}),
        }
        for field, meaning, reason in chosen
    ]
    codes += [
        {"code": 1009, "meaning": "A frame is longer than WS_MAX_FRAME_BYTES."},
        {"code": int(fixed.INTERNAL_ERROR), "meaning": "The connection failed; connect again."},
        {"code": 1012, "meaning": "The server restarts; connect again."},
        {
            "code": int(fixed.SLOW_CLIENT),
            "meaning": f"A frame could not be sent in WS_SEND_TIMEOUT_S "
            f"({settings.ws_send_timeout_s:g} s).",
            "reason": "slow_client",
        },
    ]
    return sorted(codes, key=lambda entry: int(entry["code"]))


def operations(messages: Schema) -> Schema:
    """From the server's side: one `receive` for each client message, one `send` for all frames."""

    def of_channel(names: list[str]) -> list[dict[str, str]]:
        return [ref("channels", "ws", "messages", name) for name in names]

    here = ref("channels", "ws")
    found: Schema = {}
    for name, replies in REPLIES.items():
        found[f"receive{name}"] = {
            "action": "receive",
            "channel": here,
            "summary": messages[name]["summary"],
            "messages": of_channel([name]),
        }
        if replies:
            found[f"receive{name}"]["reply"] = {"channel": here, "messages": of_channel(replies)}
    found["sendFrames"] = {
        "action": "send",
        "channel": here,
        "summary": "Every frame that the server sends.",
        "messages": of_channel([frame.__name__ for frame in ServerFrame.__subclasses__()]),
    }
    return found
