"""The whole AsyncAPI document: what each of its sections is made of."""

from __future__ import annotations

from scripts.asyncapi.channel import channel, operations, security_schemes, server
from scripts.asyncapi.client_schemas import client_schemas
from scripts.asyncapi.messages import client_messages, server_messages
from scripts.asyncapi.schemas import Schema
from scripts.asyncapi.server_schemas import server_schemas
from yap import __version__
from yap.settings import load_settings

DESCRIPTION = """\
A client opens one WebSocket and sends JSON objects as text messages. For each `start` the server
sends `toolcall` (should the client capture the screen), then streams the reply.

The schemas of client messages say what to send. The server reads more than they allow: unknown
fields are ignored, `type` may be in any case, `gender` and `personality` may be in any case and
have blanks around them, and an empty `sampling` of any type counts as none. Limits that operators
set are named by their setting, with its default. Texts are normalised (NFKC) and stripped of
control characters, bidirectional marks and surrounding blanks before they are used.

Server messages leave out what is absent; they never hold null. Fields may be added to them.
"""


def document() -> Schema:
    """The document as plain values."""
    settings = load_settings({}, serving=False)
    messages = {**client_messages(settings), **server_messages()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Yap",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"yap": server(settings)},
        "channels": {"ws": channel(settings, messages)},
        "operations": operations(messages),
        "components": {
            "messages": messages,
            "schemas": {**client_schemas(settings), **server_schemas()},
            "securitySchemes": security_schemes(),
        },
    }
