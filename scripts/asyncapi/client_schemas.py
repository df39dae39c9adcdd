"""The schemas of what a client sends: the models', and what is read before and beside them."""

from __future__ import annotations

from scripts.asyncapi.client_fields import client_fields
from scripts.asyncapi.messages import CONTROLS, MODELS, sentinels
from scripts.asyncapi.schemas import Schema, model_schemas, or_null
from yap.settings import Settings

# Schemas whose optional fields may be null, which is the same as not there.
NULL_IS_ABSENT = {"Start", "ChatPrompt", "WarmPersona", "Cancel", "SamplingOptions"}


def client_schemas(settings: Settings) -> Schema:
    schemas = model_schemas(MODELS)
    notes = client_fields(settings)
    for name, schema in schemas.items():
        properties = schema["properties"]
        for field, was in properties.items():
            was.pop("default", None)
            if field in notes:
                properties[field] = notes[field] if "$ref" in was else was | notes[field]
        if "type" in properties:
            schema["required"] = ["type", *schema.get("required", [])]
        if name in NULL_IS_ABSENT:
            for field in set(properties) - set(schema.get("required", [])):
                properties[field] = or_null(properties[field])
    add_persona_names(schemas, notes)
    add_flag(schemas["Cancel"], "cancel")
    for name, (kind, summary) in CONTROLS.items():
        schemas[name] = control_schema(kind, summary)
    for name, text in sentinels(settings).items():
        setting = f"WS_{name.removesuffix('Sentinel').upper()}_SENTINEL"
        schemas[name] = {"type": "string", "const": text, "description": f"Set by {setting}."}
    return schemas


def has_text(field: str) -> Schema:
    """Holds where `field` is there and not null."""
    return {"required": [field], "properties": {field: {"type": "string"}}}


def add_persona_names(schemas: Schema, notes: Schema) -> None:
    """Add the fields that the models' validators read before the models do."""
    for name in ("Start", "ChatPrompt", "WarmPersona"):
        properties = schemas[name]["properties"]
        for field in ("persona_text", "persona"):
            properties[field] = or_null(notes[field])
    start = schemas["Start"]
    start["properties"]["sampling_params"] = or_null(notes["sampling_params"])
    for field, schema in schemas["SamplingOptions"]["properties"].items():
        start["properties"][field] = schema
    for name in ("Start", "ChatPrompt"):
        required = schemas[name]["required"]
        schemas[name]["required"] = [f for f in required if f not in ("gender", "personality")]
        schemas[name]["anyOf"] = [has_text("persona"), {"required": ["gender", "personality"]}]
    for name in ("ChatPrompt", "WarmPersona"):
        prompts = [has_text(field) for field in ("chat_prompt", "persona_text", "persona")]
        schemas[name]["allOf"] = [{"anyOf": prompts}]


def control_schema(kind: str, summary: str) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": summary,
        "properties": {"type": {"type": "string", "const": kind}},
        "required": ["type"],
    }
    if kind == "end":
        schema["description"] += ' {"end": true} without a type is the same.'
        add_flag(schema, "end")
    return schema


def add_flag(schema: Schema, kind: str) -> None:
    """Allow `{kind: true}` in place of the type."""
    schema["properties"][kind] = {"const": True, "description": "In place of the type."}
    del schema["required"]
    schema["anyOf"] = [{"required": ["type"]}, {"required": [kind]}]
