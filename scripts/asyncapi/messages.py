"""The messages of both sides: their names, summaries and examples."""

from __future__ import annotations

import inspect
import json

from pydantic import BaseModel

from scripts.asyncapi.examples import CLIENT_EXAMPLES, server_examples
from scripts.asyncapi.schemas import Schema, ref
from yap import protocol
from yap.protocol import ServerFrame
from yap.settings import Settings

MODELS: tuple[type[BaseModel], ...] = (
    protocol.Start,
    protocol.Followup,
    protocol.ChatPrompt,
    protocol.WarmPersona,
    protocol.WarmHistory,
    protocol.Cancel,
)
# Client messages that carry nothing a model could check.
CONTROLS: dict[str, tuple[str, str]] = {
    "Ping": ("ping", "Answered by `pong`. It counts as a sign of life, not towards rate limits."),
    "ClientPong": ("pong", "A sign of life that needs no answer."),
    "End": ("end", "Stop the running turn, then close the connection."),
}


def message(schema: str, name: str, summary: str, examples: list[Schema]) -> Schema:
    return {
        "name": name,
        "title": schema,
        "summary": summary,
        "payload": ref("components", "schemas", schema),
        "examples": [{"payload": example} for example in examples],
    }


def client_messages(settings: Settings) -> Schema:
    summaries = {m.__name__: (wire_type(m), first_line(m)) for m in MODELS} | CONTROLS
    found = {
        name: message(name, kind, summary, CLIENT_EXAMPLES[name])
        for name, (kind, summary) in summaries.items()
    }
    for name, text in sentinels(settings).items():
        kind = name.removesuffix("Sentinel").lower()
        found[name] = {
            "name": text,
            "title": name,
            "summary": f"The bare text {text}, not JSON: the same as `{kind}`.",
            "contentType": "text/plain",
            "payload": ref("components", "schemas", name),
            "examples": [{"payload": text}],
        }
    return found


def server_messages() -> Schema:
    examples: dict[str, list[Schema]] = {}
    for frame in server_examples():
        examples.setdefault(type(frame).__name__, []).append(json.loads(frame.encode()))
    return {
        model.__name__: message(
            model.__name__, wire_type(model), first_line(model), examples[model.__name__]
        )
        for model in ServerFrame.__subclasses__()
    }


def wire_type(model: type[BaseModel]) -> str:
    return str(model.model_fields["type"].default)


def first_line(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\n")[0]


def sentinels(settings: Settings) -> dict[str, str]:
    return {
        "CancelSentinel": settings.ws_cancel_sentinel,
        "EndSentinel": settings.ws_end_sentinel,
    }
