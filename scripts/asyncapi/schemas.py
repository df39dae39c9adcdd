"""JSON schemas of the protocol's models, as both sides' messages need them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

Schema = dict[str, Any]

# Descriptions of schemas, where the model's docstring speaks of Python.
DESCRIPTIONS = {
    "Cancel": 'Stop the running turn and the warm-ups that wait. {"cancel": true} without a type '
    "is the same.",
    "Start": "Begin a turn. It carries the whole configuration of the session every time; sampling "
    "fields may also stand at the top level, where the `sampling` object wins. Fields are checked "
    "in the order of their listing; the first failure is reported.",
    "SamplingOptions": "What a client may set of the sampling. Absent or null: the server's own.",
    "Timings": "Milliseconds from the receipt of the message; absent for what did not happen.",
}


def ref(*parts: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(parts)}


def model_schemas(models: tuple[type[BaseModel], ...]) -> Schema:
    """The schemas of `models` and of what they hold, by name, without titles."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    schemas: Schema = definitions["$defs"]
    for name, schema in schemas.items():
        del schema["title"]
        schema["description"] = DESCRIPTIONS.get(name, schema["description"])
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
    return schemas


def or_null(schema: Schema) -> Schema:
    choices = schema.get("anyOf", [{k: v for k, v in schema.items() if k != "description"}])
    if {"type": "null"} not in choices:
        choices = [*choices, {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k == "description"}
    return {"anyOf": choices, **rest}
