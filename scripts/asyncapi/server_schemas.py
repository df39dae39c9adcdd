"""The schemas of what the server sends."""

from __future__ import annotations

from scripts.asyncapi.schemas import Schema, model_schemas
from yap.protocol import ErrorCode, ServerFrame


def server_schemas() -> Schema:
    """What goes out: absent instead of null, and what has a default is always there."""
    schemas = model_schemas(tuple(ServerFrame.__subclasses__()))
    notes = {
        "turn_id": "The turn that the frame belongs to.",
        "retry_in": "Seconds to wait before trying again; with rate limits only.",
        "request_id": "The id of the `cancel` that this answers.",
    }
    for name, schema in schemas.items():
        properties = schema.get("properties", {})
        required = [
            field for field, was in properties.items() if was.pop("default", "") is not None
        ]
        for field, was in properties.items():
            properties[field] = was if field in required else without_null(was)
            if field in notes:
                properties[field] |= {"description": notes[field]}
        if properties:
            schema["required"] = required
        if name == "ErrorCode":
            schema["x-enum-descriptions"] = {code.value: code.meaning for code in ErrorCode}
    return schemas


def without_null(schema: Schema) -> Schema:
    rest = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    only: Schema = rest[0] if len(rest) == 1 else {"anyOf": rest}
    if "$ref" in only:  # what stands beside a $ref is not read
        only = {"allOf": [only]}
    return only
