"""docs/asyncapi.yaml is up to date, is well formed, and agrees with the code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from pydantic import BaseModel

from yap import states
from yap.protocol import (
    Cancel,
    ChatPrompt,
    CloseCode,
    ErrorCode,
    Followup,
    ProtocolError,
    ServerFrame,
    Start,
    StartRules,
    WarmHistory,
    WarmPersona,
    parse,
    read,
    read_server_frame,
    read_start,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text("utf-8"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
RECEIVED: dict[str, type[BaseModel]] = {
    "Start": Start,
    "Followup": Followup,
    "ChatPrompt": ChatPrompt,
}
RECEIVED |= {"WarmPersona": WarmPersona, "WarmHistory": WarmHistory, "Cancel": Cancel}
SERVER_FRAMES = {frame.__name__ for frame in ServerFrame.__subclasses__()}
EXAMPLES = [
    pytest.param(name, example["payload"], id=f"{name}-{number}")
    for name, message in MESSAGES.items()
    for number, example in enumerate(message["examples"])
]


def validator(schema: str) -> Draft7Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return Draft7Validator(root)


def is_accepted(name: str, frame: dict[str, Any]) -> bool:
    """Whether the server reads `frame`, with both models deployed."""
    envelope = parse(json.dumps(frame), cancel_sentinel="__CANCEL__", end_sentinel="__END__")
    try:
        if name == "Start":
            read_start(envelope, StartRules())
        else:
            read(RECEIVED[name], envelope, StartRules())  # type: ignore[type-var]
    except ProtocolError:
        return False
    return True


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def resolve(reference: str) -> Any:
    value: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        value = value[part]
    return value


def operation_types(action: str) -> set[str]:
    """The wire types of the JSON messages that the server's operations of this kind have."""
    messages = [
        resolve(resolve(entry["$ref"])["$ref"])
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == action
        for entry in operation["messages"]
    ]
    return {m["name"] for m in messages if m.get("contentType") != "text/plain"}


def test_the_document_is_up_to_date() -> None:
    script = [sys.executable, "scripts/generate_asyncapi.py", "--check"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Its structure


def test_it_is_an_asyncapi_3_document_of_one_channel() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    (server,) = DOCUMENT["servers"].values()
    assert {"host", "protocol"} <= server.keys()
    (channel,) = DOCUMENT["channels"].values()
    assert channel["address"] == "/ws"
    assert channel["messages"].keys() == MESSAGES.keys()


def test_every_reference_leads_somewhere() -> None:
    assert all(resolve(reference) is not None for reference in references(DOCUMENT))


def test_operations_name_messages_of_their_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        for part in (operation, operation.get("reply", operation)):
            prefix = part["channel"]["$ref"] + "/messages/"
            assert all(entry["$ref"].startswith(prefix) for entry in part["messages"])


def test_there_are_three_ways_to_send_the_key() -> None:
    (server,) = DOCUMENT["servers"].values()
    schemes = [resolve(entry["$ref"]) for entry in server["security"]]
    keys = {(s["type"], s.get("in"), s.get("name") or s.get("scheme")) for s in schemes}
    assert keys == {
        ("httpApiKey", "header", "X-API-Key"),
        ("http", None, "bearer"),
        ("httpApiKey", "query", "api_key"),
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    Draft7Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["description"]


# It says all that the code does


def test_every_type_that_the_server_handles_is_received() -> None:
    assert set(states.MESSAGES) == operation_types("receive")


def test_every_server_frame_is_sent() -> None:
    sent = DOCUMENT["operations"]["sendFrames"]["messages"]
    assert {entry["$ref"].rpartition("/")[2] for entry in sent} == SERVER_FRAMES
    types = {str(f.model_fields["type"].default) for f in ServerFrame.__subclasses__()}
    assert operation_types("send") == types


def test_every_error_code_has_a_sentence() -> None:
    schema = SCHEMAS["ErrorCode"]
    assert schema["enum"] == list(schema["x-enum-descriptions"]) == [c.value for c in ErrorCode]
    assert all(sentence.endswith(".") for sentence in schema["x-enum-descriptions"].values())


def test_every_close_code_is_explained() -> None:
    codes = {
        entry["code"]: entry["meaning"] for entry in DOCUMENT["channels"]["ws"]["x-close-codes"]
    }
    assert {code.value for code in CloseCode} <= codes.keys()
    assert {1000, 1008, 1009, 1012, 1013, 4000} <= codes.keys()


@pytest.mark.parametrize("name", RECEIVED)
def test_every_field_of_a_client_message_is_explained(name: str) -> None:
    properties = SCHEMAS[name]["properties"]
    assert RECEIVED[name].model_fields.keys() <= properties.keys()
    assert all("description" in p for field, p in properties.items() if field != "type")


# Examples


@pytest.mark.parametrize(("name", "payload"), EXAMPLES)
def test_every_example_is_valid(name: str, payload: Any) -> None:
    validator(name).validate(payload)


@pytest.mark.parametrize(("name", "payload"), EXAMPLES)
def test_the_server_agrees_with_every_example(name: str, payload: Any) -> None:
    if name in SERVER_FRAMES:
        assert type(read_server_frame(json.dumps(payload))).__name__ == name
    elif name not in RECEIVED:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        envelope = parse(text, cancel_sentinel="__CANCEL__", end_sentinel="__END__")
        assert envelope.type == name.removesuffix("Sentinel").removeprefix("Client").lower()
    elif "persona" not in payload:  # a name is looked up before the model reads the message
        assert is_accepted(name, payload)


# Schemas and validators agree on what is in between

START: dict[str, Any] = {
    "type": "start",
    "session_id": "s",
    "gender": "male",
    "personality": "calm",
}
START |= {"personalities": {"calm": []}, "chat_prompt": "You are Marc."}


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        pytest.param({}, True, id="least"),
        pytest.param({"chat_prompt": None, "persona_text": "Marc."}, True, id="older name"),
        pytest.param({"temperature": " 1e0 ", "top_k": "40"}, True, id="numbers in strings"),
        pytest.param({"top_p": None, "history": None, "user_utterance": None}, True, id="nulls"),
        pytest.param({"sampling_params": {"top_k": 40.0}}, True, id="older sampling"),
        pytest.param({"something": "else"}, True, id="unknown field"),
        pytest.param({"session_id": 0}, False, id="session 0"),
        pytest.param({"session_id": ""}, False, id="no session"),
        pytest.param({"session_id": ["s"]}, False, id="session list"),
        pytest.param({"gender": None}, False, id="no gender"),
        pytest.param({"gender": "robot"}, False, id="gender"),
        pytest.param({"personality": "very calm"}, False, id="two words"),
        pytest.param({"sampling": [1]}, False, id="sampling list"),
        pytest.param({"sampling": {"temperature": True}}, False, id="true for a number"),
        pytest.param({"sampling": {"temperature": "1_0"}}, False, id="underscore"),
        pytest.param({"sampling": {"top_k": "1e1"}}, False, id="top_k with exponent"),
        pytest.param({"sampling": {"top_k": 1.5}}, False, id="top_k with fraction"),
        pytest.param({"sanitize_output": "no"}, False, id="text for a flag"),
        pytest.param({"logit_bias": {"5": 1, " so": -100}}, True, id="bias"),
        pytest.param({"logit_bias": {"5": 101}}, False, id="large bias"),
        pytest.param({"logit_bias": [5]}, False, id="list of biases"),
        pytest.param({"sampling": {"banned_strings": ["as an AI"]}}, True, id="banned string"),
        pytest.param({"sampling": {"banned_strings": [" "]}}, False, id="blank banned string"),
        pytest.param({"banned_strings": ["x"] * 65}, False, id="many banned strings"),
        pytest.param({"personalities": {}}, False, id="no names"),
        pytest.param({"personalities": {"calm": "soft"}}, False, id="synonyms as text"),
        pytest.param({"personalities": {"very calm": []}}, False, id="name of two words"),
        pytest.param({"history": [{"role": "system", "content": ""}]}, False, id="role"),
        pytest.param({"history": [START] * 1001}, False, id="long history"),
        pytest.param({"user_utterance": 5}, False, id="number for text"),
    ],
)
def test_schema_and_server_judge_a_start_alike(changes: dict[str, Any], good: bool) -> None:
    frame = START | changes
    assert validator("Start").is_valid(frame) is good
    assert is_accepted("Start", frame) is good


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        pytest.param("Cancel", {"type": "cancel", "heard_chars": -1}, id="heard less than none"),
        pytest.param("Cancel", {"type": "cancel", "heard_chars": "9"}, id="heard in a string"),
        pytest.param("Cancel", {"cancel": True, "heard_text": 9}, id="heard a number"),
        pytest.param("Followup", {"type": "followup"}, id="followup without text"),
        pytest.param("Followup", {"type": "followup", "analysis_text": " "}, id="blank followup"),
        pytest.param("WarmHistory", {"type": "warm_history"}, id="no history"),
        pytest.param("WarmPersona", {"type": "warm_persona"}, id="no persona"),
        pytest.param("WarmPersona", {"type": "warm_persona", "chat_prompt": None}, id="null"),
        pytest.param("ChatPrompt", {"type": "chat_prompt", "chat_prompt": "You."}, id="no gender"),
    ],
)
def test_schema_and_server_refuse_alike(name: str, frame: dict[str, Any]) -> None:
    assert not validator(name).is_valid(frame)
    assert not is_accepted(name, frame)
