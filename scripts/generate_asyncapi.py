"""Write docs/asyncapi.yaml from the protocol's models; with --check, fail if it is out of date.

python scripts/generate_asyncapi.py [--check]

The models say names and types. What their validators do beyond that, and the messages without a
model (ping, pong, end), is said in the tables below. Format: AsyncAPI 3.0.0, whose default
schema language is a superset of JSON Schema draft 7.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from pydantic.json_schema import models_json_schema  # noqa: E402

from scripts.generated import write_or_check  # noqa: E402
from yap import __version__, protocol  # noqa: E402
from yap.chat.sampling import sampling_ranges  # noqa: E402
from yap.protocol import ErrorCode, ServerFrame  # noqa: E402
from yap.protocol.fields import (  # noqa: E402
    MAX_BREAKER_CHARS,
    MAX_BREAKERS,
    MAX_HISTORY_MESSAGES,
    WHOLE_NUMBERS,
)
from yap.protocol.steering import (  # noqa: E402
    MAX_BANNED_STRINGS,
    MAX_LOGIT_BIASES,
    MAX_PHRASE_CHARS,
)
from yap.settings import Settings, load_settings  # noqa: E402

TARGET = ROOT / "docs" / "asyncapi.yaml"
HEADER = "# Written by scripts/generate_asyncapi.py from yap/protocol/. Edit those, not this.\n"

Schema = dict[str, Any]

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

NUMERIC = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
WORD = r"^\s*[A-Za-z]+\s*$"
PHRASE = r"\S"

TURN_ID = "d0055f5e6ac54e2f9a3b1c7d8e9f0a1b"
PERSONA = "You are Anna, a warm and friendly companion who talks with people by voice."

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

CLIENT_EXAMPLES: dict[str, list[Schema]] = {
    "Start": [
        {
            "type": "start",
            "session_id": "s1",
            "gender": "female",
            "personality": "friendly",
            "personalities": {"friendly": ["warm", "kind"], "calm": []},
            "chat_prompt": PERSONA,
            "sampling": {"temperature": 0.8, "top_k": "40"},
            "history": [{"role": "user", "content": "Good morning!"}],
            "user_utterance": "Can you look at my screen?",
        },
        {"type": "start", "session_id": 7, "persona": "anna", "user_utterance": "Hello!"},
    ],
    "Followup": [{"type": "followup", "analysis_text": "A half finished crossword puzzle."}],
    "ChatPrompt": [
        {"type": "chat_prompt", "gender": "female", "personality": "calm", "chat_prompt": PERSONA},
        {"type": "chat_prompt", "persona": "june"},
    ],
    "WarmPersona": [{"type": "warm_persona", "chat_prompt": PERSONA}],
    "WarmHistory": [{"type": "warm_history", "history_text": "User: Hi!\nAssistant: Hello!"}],
    "Cancel": [
        {"type": "cancel"},
        {"type": "cancel", "request_id": "r1", "heard_chars": 9},
        {"cancel": True},
    ],
    "Ping": [{"type": "ping"}],
    "ClientPong": [{"type": "pong"}],
    "End": [{"type": "end"}, {"end": True}],
}


def main() -> int:
    return write_or_check(TARGET, render(), purpose=__doc__)


class _Dumper(yaml.SafeDumper):
    """Writes shared values out each time; anchors are hard to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and text.endswith("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def render() -> str:
    """The whole document, as YAML."""
    text = yaml.dump(document(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + str(text)


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


def ref(*parts: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(parts)}


# --- server and channel -------------------------------------------------------------------


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


# --- messages -----------------------------------------------------------------------------


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


def server_examples() -> list[ServerFrame]:
    """Frames of one conversation, made by the models that the server sends."""
    full = protocol.Capacity(active=32, max=32, available=0, at_capacity=True)
    usage = protocol.Usage(prompt_tokens=53, cached_tokens=32, completion_tokens=12)
    timings = protocol.Timings(toolcall_ms=10.8, ttft_ms=28.9, total_ms=60.1)
    return [
        protocol.StartAck(
            session_id="s1",
            now="2026-11-22T11:48:56+00:00 (Morning)",
            gender="female",
            personality="friendly",
            chat_prompt=True,
            turn_id=TURN_ID,
        ),
        protocol.ToolCall(status="no", raw=[], turn_id=TURN_ID),
        protocol.ToolCall(
            status="yes", raw=[protocol.ControlFunction(name="take_screenshot")], turn_id=TURN_ID
        ),
        protocol.Token(text="Hi", turn_id=TURN_ID),
        protocol.Final(normalized_text="Hi there!", turn_id=TURN_ID),
        protocol.Done(usage=usage, turn_id=TURN_ID, finish_reason="stop", timings=timings),
        protocol.Done(cancelled=True, request_id="r1"),
        protocol.ChatPromptAck(
            ok=True, code=200, message="updated", gender="female", personality="calm"
        ),
        protocol.ChatPromptAck(ok=True, code=204, message="no change"),
        protocol.Warmed(segment="persona_static", bytes=len(PERSONA)),
        protocol.Error(error_code=ErrorCode.NO_SESSION, message="Send start first."),
        protocol.Error(
            error_code=ErrorCode.SERVER_AT_CAPACITY, message="The server is full.", capacity=full
        ),
        protocol.Error(
            error_code=ErrorCode.MESSAGE_RATE_LIMITED, message="Too many messages.", retry_in=12
        ),
        protocol.Pong(),
        protocol.ConnectionClosed(reason="client_request"),
    ]


def wire_type(model: type[BaseModel]) -> str:
    return str(model.model_fields["type"].default)


def first_line(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\n")[0]


def sentinels(settings: Settings) -> dict[str, str]:
    return {
        "CancelSentinel": settings.ws_cancel_sentinel,
        "EndSentinel": settings.ws_end_sentinel,
    }


# --- schemas ------------------------------------------------------------------------------


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


def client_schemas(settings: Settings) -> Schema:
    schemas = model_schemas(MODELS)
    notes = client_fields(settings)
    nullable = {
        "Start",
        "ChatPrompt",
        "WarmPersona",
        "Cancel",
        "SamplingOptions",
    }  # null: not there
    for name, schema in schemas.items():
        properties = schema["properties"]
        for field, was in properties.items():
            was.pop("default", None)
            if field in notes:
                properties[field] = notes[field] if "$ref" in was else was | notes[field]
        if "type" in properties:
            schema["required"] = ["type", *schema.get("required", [])]
        if name in nullable:
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


def or_null(schema: Schema) -> Schema:
    choices = schema.get("anyOf", [{k: v for k, v in schema.items() if k != "description"}])
    if {"type": "null"} not in choices:
        choices = [*choices, {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k == "description"}
    return {"anyOf": choices, **rest}


def client_fields(settings: Settings) -> dict[str, Schema]:
    """What the validators of `yap.protocol.fields` do with each field, by its name."""
    longest = f"PERSONALITY_MAX_LEN ({settings.personality_max_len})"
    prefix = f"at most SCREEN_PREFIX_MAX_CHARS ({settings.screen_prefix_max_chars}) characters."
    sampling = ref("components", "schemas", "SamplingOptions")
    names = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": WORD},
        "additionalProperties": {"type": "array", "items": {"type": "string", "minLength": 1}},
    }
    messages = {
        "type": "array",
        "maxItems": MAX_HISTORY_MESSAGES,
        "items": ref("components", "schemas", "HistoryMessage"),
    }
    notes: dict[str, Schema] = {
        "session_id": {
            "not": {"enum": ["", 0, False]},
            "description": "Turns of one id under one API key share their history. Booleans are "
            "for old clients.",
        },
        "gender": {"description": "Of the persona."},
        "personality": {
            "pattern": WORD,
            "description": f"One word of ASCII letters, at most {longest} long; a name or synonym "
            "of `personalities` where that is given.",
        },
        "chat_prompt": {
            "description": "The persona, the model's system prompt: at most PROMPT_MAX_CHARS "
            f"({settings.prompt_max_chars}) characters, and visible text. Required where a chat "
            "model is deployed; ignored elsewhere."
        },
        "persona_text": {"type": "string", "description": "Older name of `chat_prompt`."},
        "persona": {
            "type": "string",
            "description": "A persona of the server's library, which gives every field of the "
            "persona that the message leaves out.",
        },
        "sampling": {
            "allOf": [sampling],
            "description": "Ignored where no chat model is deployed.",
        },
        "sampling_params": {"allOf": [sampling], "description": "Older name of `sampling`."},
        "dry_sequence_breakers": {
            "anyOf": [
                {
                    "type": "array",
                    "maxItems": MAX_BREAKERS,
                    "items": {"type": "string", "minLength": 1, "maxLength": MAX_BREAKER_CHARS},
                },
                {"type": "null"},
            ],
            "description": "Texts that end a repetition for DRY; of each its last token counts.",
        },
        "sanitize_output": {"description": "false passes the reply through as it was written."},
        "logit_bias": {
            "anyOf": [
                {
                    "type": "object",
                    "maxProperties": MAX_LOGIT_BIASES,
                    "propertyNames": {"pattern": PHRASE, "maxLength": MAX_PHRASE_CHARS},
                    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                },
                {"type": "null"},
            ],
            "description": "What is added to the score of tokens: by token id, or by a text that "
            "the model has as one token. -100 for a text bans it, as `banned_strings` does.",
        },
        "banned_strings": {
            "anyOf": [
                {
                    "type": "array",
                    "maxItems": MAX_BANNED_STRINGS,
                    "items": {"type": "string", "pattern": PHRASE, "maxLength": MAX_PHRASE_CHARS},
                },
                {"type": "null"},
            ],
            "description": "Texts that the reply does not hold, in whatever case, inside of words "
            "too. The model says something else in their place.",
        },
        "check_screen_prefix": {"description": f"Set before what needs the screen: {prefix}"},
        "screen_checked_prefix": {"description": f"Set before a followup's text: {prefix}"},
        "personalities": {
            "anyOf": [names, {"type": "null"}],
            "description": "Names and their synonyms; required where the classifier is deployed. "
            f"1 to MAX_PERSONALITIES ({settings.max_personalities}) names, each one word of ASCII "
            f"letters, with at most MAX_SYNONYMS_PER_PERSONALITY "
            f"({settings.max_synonyms_per_personality}) synonyms; names and synonyms have at most "
            f"{longest} characters and are all different, whatever their case.",
        },
        "history": {
            "anyOf": [messages, {"type": "null"}],
            "description": "Replaces what the server remembers.",
        },
        "history_text": {"description": "A transcript of `User:` and `Assistant:` lines."},
        "user_utterance": {
            "description": "What the user said. Its start is kept when it is over "
            f"USER_UTT_MAX_TOKENS ({settings.user_utt_max_tokens}) tokens."
        },
        "analysis_text": {"pattern": r"\S", "description": "What the client saw on the screen."},
        "request_id": {
            "description": "Of a cancel: comes back in its `done`. Read as text, whatever its type."
        },
        "heard_chars": {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}],
            "description": "How many characters (Unicode code points) of the last reply's token "
            "texts the user heard; history keeps just those.",
        },
        "heard_text": {
            "description": "The part of the last reply that the user heard, exactly as the token "
            "texts had it; goes before `heard_chars`."
        },
    }
    for name, (low, high) in sampling_ranges(settings).items():
        whole = name in WHOLE_NUMBERS
        pattern = r"^\s*[+-]?[0-9]+\s*$" if whole else NUMERIC
        notes[name] = {
            "anyOf": [
                {"type": "integer" if whole else "number"},
                {"type": "string", "pattern": pattern},
                {"type": "null"},
            ],
            "description": f"From {low:g} to {high:g} unless the operator sets other bounds.",
        }
    return notes


if __name__ == "__main__":
    sys.exit(main())
