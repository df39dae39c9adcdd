"""What kind of message a frame is, and how the server's frames look on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import JSON
from yap.protocol import (
    Capacity,
    ConnectionClosed,
    ControlFunction,
    Done,
    Envelope,
    Error,
    ErrorCode,
    Final,
    Pong,
    ProtocolError,
    ServerFrame,
    StartAck,
    Timings,
    Token,
    ToolCall,
    Usage,
    parse,
    read_server_frame,
    token_json,
)


def read(text: str) -> Envelope:
    return parse(text, cancel_sentinel="__CANCEL__", end_sentinel="__END__")


def refusal(text: str) -> ProtocolError:
    with pytest.raises(ProtocolError) as raised:
        read(text)
    return raised.value


# Client frames


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \t\r\n", id="blank"),
        pytest.param("hello", id="not JSON"),
        pytest.param('{"type":"ping"', id="cut off"),
        pytest.param('{"type":"ping"} {}', id="two values"),
        pytest.param("{'type':'ping'}", id="single quotes"),
        pytest.param("[]", id="array"),
        pytest.param('"ping"', id="string"),
        pytest.param("5", id="number"),
        pytest.param("null", id="null"),
        pytest.param("{}", id="no type"),
        pytest.param('{"type":null}', id="null type"),
        pytest.param('{"type":""}', id="empty type"),
        pytest.param('{"type":0}', id="zero type"),
        pytest.param('{"cancel":false}', id="false cancel"),
        pytest.param('{"end":0}', id="zero end"),
        pytest.param("__cancel__", id="sentinel in lower case"),
        pytest.param("__CANCEL__ now", id="sentinel and more"),
        pytest.param("[" * 100_000, id="deep array"),
        pytest.param('{"a":' * 5_000, id="deep object"),
        pytest.param('{"type":' + "9" * 5_000 + "}", id="huge whole number"),
        pytest.param(r'{"type":"ping","a":"\ud800"}', id="escaped lone surrogate"),
        pytest.param('{"type":"ping","a":"\ud800"}', id="raw lone surrogate"),
    ],
)
def test_what_is_no_message_is_an_invalid_message(text: str) -> None:
    error = refusal(text)
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.message.endswith(".")


def test_the_four_ways_to_be_no_message_are_told_apart() -> None:
    messages = {refusal(text).message for text in ("", "hello", "[]", "{}")}
    assert len(messages) == 4


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (r'{"type":"ping","a":"\ud800"}', "half of an emoji"),
        (r'{"type":"ping","a":"\ud83d and more"}', "half of an emoji"),
        ('{"type":"ping","a":"\ud800"}', "half of an emoji"),
        ("[" * 100_000, "nested too deeply"),
        ('{"type":"ping","a":' + "9" * 5_000 + "}", "too many digits"),
        ('{"type":"ping",}', "not valid JSON"),
    ],
    ids=["escaped surrogate", "surrogate and text", "raw surrogate", "depth", "digits", "comma"],
)
def test_json_that_only_this_server_refuses_is_not_called_invalid(text: str, what: str) -> None:
    assert what in refusal(text).message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"type":"start"}', "start"),
        ('{"type":" CANCEL "}', "cancel"),
        ('{"type":"Ping"}', "ping"),
        (' \n{"type":"ping"}\t', "ping"),
        ("__CANCEL__", "cancel"),
        ("  __CANCEL__\n", "cancel"),
        ("__END__", "end"),
        ("\t__END__ ", "end"),
        ('{"cancel":true}', "cancel"),
        ('{"cancel":"yes","type":null}', "cancel"),
        ('{"end":1}', "end"),
        ('{"cancel":1,"end":1}', "cancel"),
        ('{"type":"ping","cancel":true}', "ping"),
        ('{"type":5}', "5"),
        ('{"type":true}', "true"),
        ('{"type":["start"]}', "['start']"),
        ('{"type":"ping","type":"pong"}', "pong"),
        ('{"type":"ping","x":NaN}', "ping"),
        ('{"type":"ping","x":1e999}', "ping"),
    ],
)
def test_the_kind_of_a_message_is_found(text: str, kind: str) -> None:
    assert read(text).type == kind


def test_sentinels_can_be_others() -> None:
    assert parse("stop", cancel_sentinel="stop", end_sentinel="bye").type == "cancel"
    assert parse(" bye ", cancel_sentinel="stop", end_sentinel="bye").type == "end"


@pytest.mark.parametrize(
    ("request_id", "read_as"),
    [
        ('"r-1"', "r-1"),
        ("5", "5"),
        ("2.5", "2.5"),
        ("null", None),
        ('""', None),
        pytest.param("0", None, id="zero is absent, as it always was"),
        pytest.param("false", None, id="false is absent, as it always was"),
    ],
)
def test_a_request_id_is_read_as_text(request_id: str, read_as: str | None) -> None:
    assert read(f'{{"type":"cancel","request_id":{request_id}}}').request_id == read_as


def test_a_frame_without_request_id_has_none() -> None:
    assert read('{"type":"cancel"}').request_id is None
    assert read("__CANCEL__").request_id is None


def attempt(text: str) -> Envelope | ErrorCode:
    """The message, or the code of its refusal; anything else raised fails the test."""
    try:
        return read(text)
    except ProtocolError as error:
        return error.code


@given(st.text())
def test_any_text_is_a_message_or_refused(text: str) -> None:
    found = attempt(text)
    assert isinstance(found, Envelope) or found is ErrorCode.INVALID_MESSAGE


@given(JSON)
def test_any_json_is_a_message_or_refused(value: Any) -> None:
    found = attempt(json.dumps(value))
    assert isinstance(found, Envelope) or found is ErrorCode.INVALID_MESSAGE


@given(JSON, st.sampled_from(["type", "cancel", "end", "request_id"]))
def test_any_value_in_any_field_is_a_message_or_refused(value: Any, name: str) -> None:
    found = attempt(json.dumps({"type": "cancel", name: value}))
    assert isinstance(found, Envelope) or found is ErrorCode.INVALID_MESSAGE


# Server frames

ACK = StartAck(
    session_id="s-1",
    now="2025-12-12T19:53:31+00:00 (Early Evening)",
    gender="female",
    personality="friendly",
    chat_prompt=True,
    turn_id="t",
)

# The frame, how existing clients know it, and what has been added at its end.
FRAMES: list[tuple[ServerFrame, str, str]] = [
    (
        ACK,
        '{"type":"ack","for":"start","ok":true,"session_id":"s-1",'
        '"now":"2025-12-12T19:53:31+00:00 (Early Evening)","gender":"female",'
        '"personality":"friendly","chat_prompt":true',
        ',"turn_id":"t"',
    ),
    (ToolCall(status="no", raw=[], turn_id="t"), '{"type":"toolcall","status":"no","raw":[]', ""),
    (
        ToolCall(status="yes", raw=[ControlFunction(name="take_screenshot")], turn_id="t"),
        '{"type":"toolcall","status":"yes","raw":[{"name":"take_screenshot"}]',
        ',"turn_id":"t"',
    ),
    (
        ToolCall(
            status="yes", raw=[ControlFunction(name="switch_gender", param="male")], turn_id="t"
        ),
        '{"type":"toolcall","status":"yes","raw":[{"name":"switch_gender","param":"male"}]',
        ',"turn_id":"t"',
    ),
    (Token(text='a "b"\n', turn_id="t"), r'{"type":"token","text":"a \"b\"\n"', ',"turn_id":"t"'),
    (
        Final(normalized_text="", turn_id="t"),
        '{"type":"final","normalized_text":""',
        ',"turn_id":"t"',
    ),
    (
        Done(usage=Usage(), turn_id="t", finish_reason="stop", timings=Timings(total_ms=1.5)),
        '{"type":"done","usage":{"prompt_tokens":0,"cached_tokens":0,"completion_tokens":0}',
        ',"turn_id":"t","finish_reason":"stop","timings":{"total_ms":1.5}',
    ),
    (Done(cancelled=True), '{"type":"done","cancelled":true', ""),
    (
        Done(cancelled=True, request_id="5"),
        '{"type":"done","cancelled":true,"request_id":"5"',
        "",
    ),
    (
        Done(cancelled=True, request_id="5", usage=Usage(), turn_id="t", finish_reason="cancelled"),
        '{"type":"done","cancelled":true,"request_id":"5"',
        ',"usage":{"prompt_tokens":0,"cached_tokens":0,"completion_tokens":0}'
        ',"turn_id":"t","finish_reason":"cancelled"',
    ),
    (Pong(), '{"type":"pong"', ""),
    (
        ConnectionClosed(reason="client_request"),
        '{"type":"connection_closed","reason":"client_request"',
        "",
    ),
    (
        Error(error_code=ErrorCode.INVALID_MESSAGE, message="m"),
        '{"type":"error","error_code":"invalid_message","message":"m"',
        "",
    ),
    (
        Error(error_code=ErrorCode.MESSAGE_RATE_LIMITED, message="m", retry_in=60),
        '{"type":"error","error_code":"message_rate_limited","message":"m","retry_in":60',
        "",
    ),
    (
        Error(
            error_code=ErrorCode.SERVER_AT_CAPACITY,
            message="m",
            capacity=Capacity(active=3, max=3, available=0, at_capacity=True),
        ),
        '{"type":"error","error_code":"server_at_capacity","message":"m",'
        '"capacity":{"active":3,"max":3,"available":0,"at_capacity":true}',
        "",
    ),
    (
        Error(error_code=ErrorCode.ENGINE_ERROR, message="m", turn_id="t"),
        '{"type":"error","error_code":"engine_error","message":"m"',
        ',"turn_id":"t"',
    ),
]


@pytest.mark.parametrize(("frame", "known", "added"), FRAMES)
def test_a_frame_is_written_as_clients_know_it_with_additions_at_the_end(
    frame: ServerFrame, known: str, added: str
) -> None:
    text = frame.encode()
    assert text.startswith(known)
    assert text.endswith(added + "}")


@pytest.mark.parametrize("session_id", [42, 4.5, "42"])
def test_an_ack_gives_the_session_id_back_in_its_own_type(session_id: str | int | float) -> None:
    frame = ACK.model_copy(update={"session_id": session_id})
    returned = json.loads(frame.encode())["session_id"]
    assert returned == session_id
    assert type(returned) is type(session_id)


@pytest.mark.parametrize("frame", [frame for frame, _, _ in FRAMES])
def test_a_client_reads_what_the_server_wrote(frame: ServerFrame) -> None:
    assert read_server_frame(frame.encode()) == frame
    assert read_server_frame(frame.encode().encode()) == frame


@given(st.text())
def test_any_text_of_a_reply_survives_the_wire(text: str) -> None:
    assert read_server_frame(Token(text=text, turn_id="t").encode()) == Token(
        text=text, turn_id="t"
    )


@given(text=st.text(), turn_id=st.text())
def test_a_token_is_laid_out_by_hand_as_its_model_says(text: str, turn_id: str) -> None:
    assert token_json(text, turn_id) == Token(text=text, turn_id=turn_id).encode().encode()


@pytest.mark.parametrize("text", ['\x00\x1f\x7f"\\/\b\f\n\r\t', "\u2028é🙂\U0010ffff", ""])
def test_what_json_escapes_is_escaped_alike(text: str) -> None:
    assert token_json(text, "t") == Token(text=text, turn_id="t").encode().encode()


@pytest.mark.parametrize("text", ["", "hello", "{}", '{"type":"hello"}', '{"type":"token"}'])
def test_what_is_no_frame_of_the_server_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that is the promise
        read_server_frame(text)


def test_error_codes_are_lower_case_words() -> None:
    assert all(code == code.lower() and " " not in code for code in ErrorCode)
