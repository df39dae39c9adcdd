"""The wire protocol: every frame in and out as a model, error codes, close codes.

Frames are JSON objects in WebSocket text messages. Clients are read leniently (unknown fields
are ignored, numbers may be strings) but typed strictly: a field of the wrong type is refused
with a code that names it. This module does no I/O and imports nothing of the service, so that
clients and tests can use it too.

Reading a client frame takes two steps, because rate limits apply between them:
`parse` finds out what kind of message it is, `read_start` and its kin validate it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, NoReturn

import pydantic_core
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from yap.text import clean_text


class ErrorCode(StrEnum):
    """`error_code` of an error frame. Codes are never renamed."""

    AUTHENTICATION_FAILED = "authentication_failed"
    SERVER_AT_CAPACITY = "server_at_capacity"
    SERVER_DRAINING = "server_draining"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_MESSAGE_TYPE = "unknown_message_type"
    MESSAGE_RATE_LIMITED = "message_rate_limited"
    CANCEL_RATE_LIMITED = "cancel_rate_limited"
    INTERNAL_ERROR = "internal_error"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    ENGINE_ERROR = "engine_error"
    TURN_TIMEOUT = "turn_timeout"
    PROMPT_TOO_LONG = "prompt_too_long"
    # start, in the order in which its fields are checked
    MISSING_SESSION_ID = "missing_session_id"
    INVALID_SESSION_ID = "invalid_session_id"
    MISSING_GENDER = "missing_gender"
    INVALID_GENDER = "invalid_gender"
    MISSING_PERSONALITY = "missing_personality"
    INVALID_PERSONALITY = "invalid_personality"
    MISSING_CHAT_PROMPT = "missing_chat_prompt"
    INVALID_CHAT_PROMPT = "invalid_chat_prompt"
    CHAT_PROMPT_TOO_LONG = "chat_prompt_too_long"
    INVALID_SAMPLING_PAYLOAD = "invalid_sampling_payload"
    INVALID_TEMPERATURE = "invalid_temperature"
    TEMPERATURE_OUT_OF_RANGE = "temperature_out_of_range"
    INVALID_TOP_P = "invalid_top_p"
    TOP_P_OUT_OF_RANGE = "top_p_out_of_range"
    INVALID_TOP_K = "invalid_top_k"
    TOP_K_OUT_OF_RANGE = "top_k_out_of_range"
    INVALID_MIN_P = "invalid_min_p"
    MIN_P_OUT_OF_RANGE = "min_p_out_of_range"
    INVALID_REPETITION_PENALTY = "invalid_repetition_penalty"
    REPETITION_PENALTY_OUT_OF_RANGE = "repetition_penalty_out_of_range"
    INVALID_PRESENCE_PENALTY = "invalid_presence_penalty"
    PRESENCE_PENALTY_OUT_OF_RANGE = "presence_penalty_out_of_range"
    INVALID_FREQUENCY_PENALTY = "invalid_frequency_penalty"
    FREQUENCY_PENALTY_OUT_OF_RANGE = "frequency_penalty_out_of_range"
    INVALID_SANITIZE_OUTPUT = "invalid_sanitize_output"
    INVALID_CHECK_SCREEN_PREFIX = "invalid_check_screen_prefix"
    INVALID_SCREEN_CHECKED_PREFIX = "invalid_screen_checked_prefix"
    MISSING_PERSONALITIES = "missing_personalities"
    INVALID_PERSONALITIES_FORMAT = "invalid_personalities_format"
    EMPTY_PERSONALITIES = "empty_personalities"
    TOO_MANY_PERSONALITIES = "too_many_personalities"
    INVALID_PERSONALITY_NAME = "invalid_personality_name"
    DUPLICATE_PERSONALITY = "duplicate_personality"
    INVALID_PERSONALITY_SYNONYMS = "invalid_personality_synonyms"
    TOO_MANY_SYNONYMS = "too_many_synonyms"
    INVALID_PERSONALITY_SYNONYM = "invalid_personality_synonym"
    DUPLICATE_PERSONALITY_SYNONYM = "duplicate_personality_synonym"
    PERSONALITY_NOT_IN_LIST = "personality_not_in_list"
    INVALID_HISTORY_TEXT = "invalid_history_text"
    INVALID_USER_UTTERANCE = "invalid_user_utterance"


_CODES = frozenset(code.value for code in ErrorCode)


class CloseCode(IntEnum):
    """Close codes that no setting changes. The others are `WS_CLOSE_*` settings."""

    INTERNAL_ERROR = 1011
    SLOW_CLIENT = 4001


SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


# A number as people write it. Python reads more ("1_0", "infinity").
_NUMERIC = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class ProtocolError(ValueError):
    """A client frame was refused. `code` is the wire code; `message` is for the client."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# --- client frames ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartRules:
    """What a `start` is checked against: the deploy mode and the operator's limits."""

    chat: bool = True
    tool: bool = True
    prompt_max_chars: int = 30_150
    personality_max_len: int = 20
    max_personalities: int = 50
    max_synonyms: int = 10
    prefix_max_chars: int = 30
    sampling_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def _refuse(code: ErrorCode, message: str) -> NoReturn:
    # pydantic formats the template with the context, so braces in a message are safe there.
    raise PydanticCustomError(code.value, "{message}", {"message": message})


def _rules(info: ValidationInfo) -> StartRules:
    return info.context if isinstance(info.context, StartRules) else StartRules()


def _gender(value: object) -> object:
    if not isinstance(value, str):
        _refuse(ErrorCode.INVALID_GENDER, "gender must be 'female' or 'male'.")
    folded = value.strip().casefold()
    if folded not in ("female", "male"):
        _refuse(ErrorCode.INVALID_GENDER, "gender must be 'female' or 'male'.")
    return folded


def _word(value: object, max_len: int) -> str | None:
    """`value` as a lower-case ASCII word of at most `max_len` letters, or None."""
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    return word if re.fullmatch(r"[a-z]+", word) and len(word) <= max_len else None


def _personality(value: object, info: ValidationInfo) -> object:
    longest = _rules(info).personality_max_len
    word = _word(value, longest)
    if word is None:
        _refuse(
            ErrorCode.INVALID_PERSONALITY,
            f"personality must be one word of ASCII letters, at most {longest} long.",
        )
    return word


def _chat_prompt(value: object, info: ValidationInfo) -> object:
    rules = _rules(info)
    if not rules.chat:
        return None
    if value is None:
        _refuse(ErrorCode.MISSING_CHAT_PROMPT, "chat_prompt is required: send the persona's text.")
    if not isinstance(value, str):
        _refuse(ErrorCode.INVALID_CHAT_PROMPT, "chat_prompt must be a string.")
    if len(value) > rules.prompt_max_chars:
        _refuse(
            ErrorCode.INVALID_CHAT_PROMPT,
            f"chat_prompt has {len(value)} characters; at most {rules.prompt_max_chars} may be.",
        )
    text = clean_text(value)
    if not text:
        _refuse(ErrorCode.INVALID_CHAT_PROMPT, "chat_prompt holds no visible text.")
    return text


def _prefix(value: object, info: ValidationInfo) -> object:
    name = info.field_name or "prefix"
    code = ErrorCode(f"invalid_{name}")
    if value is None:
        return None
    if not isinstance(value, str):
        _refuse(code, f"{name} must be a string.")
    text = clean_text(value)
    limit = _rules(info).prefix_max_chars
    if len(text) > limit:
        _refuse(code, f"{name} has {len(text)} characters; at most {limit} may be.")
    return text or None


def _number(value: object, info: ValidationInfo) -> object:
    """A sampling number: JSON number or numeric string, inside the operator's range."""
    name = info.field_name or ""
    if value is None:
        return None
    invalid = ErrorCode(f"invalid_{name}")
    whole = name == "top_k"
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        _refuse(invalid, f"{name} must be {kind}.")
    if isinstance(value, str) and not _NUMERIC.fullmatch(value.strip()):
        _refuse(invalid, f"{name} must be {kind}.")
    try:
        number = int(value) if whole and isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        _refuse(invalid, f"{name} must be {kind}.")
    if not math.isfinite(number) or (whole and number != int(number)):
        _refuse(invalid, f"{name} must be {kind}.")
    low, high = _rules(info).sampling_ranges.get(name, (-math.inf, math.inf))
    if not low <= number <= high:
        _refuse(ErrorCode(f"{name}_out_of_range"), f"{name} must be from {low:g} to {high:g}.")
    return int(number) if whole else number


def _strict_bool(value: object) -> object:
    if value is not None and not isinstance(value, bool):
        _refuse(ErrorCode.INVALID_SANITIZE_OUTPUT, "sanitize_output must be true or false.")
    return value


def _text(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        name = info.field_name or "text"
        _refuse(ErrorCode(f"invalid_{name}"), f"{name} must be a string.")
    return clean_text(value)


def _optional_text(value: object, info: ValidationInfo) -> object:
    return None if value is None else _text(value, info)


def _sampling_payload(value: object, info: ValidationInfo) -> object:
    if not _rules(info).chat or not value:
        return {}
    if not isinstance(value, dict):
        _refuse(ErrorCode.INVALID_SAMPLING_PAYLOAD, "sampling must be an object.")
    return value


Number = Annotated[float | None, BeforeValidator(_number)]


class ClientModel(BaseModel):
    """Base of what clients send: unknown fields are ignored, values are not mutated."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class SamplingOptions(ClientModel):
    """What a client may set of the sampling. None means the server's default."""

    temperature: Number = None
    top_p: Number = None
    top_k: Annotated[int | None, BeforeValidator(_number)] = None
    min_p: Number = None
    repetition_penalty: Number = None
    presence_penalty: Number = None
    frequency_penalty: Number = None
    sanitize_output: Annotated[bool | None, BeforeValidator(_strict_bool)] = None


Personalities = dict[str, tuple[str, ...]]


def _personalities(value: object, info: ValidationInfo) -> object:
    rules = _rules(info)
    if value is None:
        if rules.tool:
            _refuse(
                ErrorCode.MISSING_PERSONALITIES,
                "personalities is required: an object of name to list of synonyms.",
            )
        return None
    if not isinstance(value, dict):
        _refuse(
            ErrorCode.INVALID_PERSONALITIES_FORMAT,
            "personalities must be an object of name to list of synonyms.",
        )
    if not value:
        _refuse(ErrorCode.EMPTY_PERSONALITIES, "personalities must name at least one.")
    if len(value) > rules.max_personalities:
        _refuse(
            ErrorCode.TOO_MANY_PERSONALITIES,
            f"personalities has {len(value)} names; at most {rules.max_personalities} may be.",
        )
    return _personality_table(value, rules)


def _personality_table(value: Mapping[Any, Any], rules: StartRules) -> Personalities:
    table: Personalities = {}
    seen: set[str] = set()
    for raw_name, raw_synonyms in value.items():
        name = _word(raw_name, rules.personality_max_len)
        if name is None:
            _refuse(
                ErrorCode.INVALID_PERSONALITY_NAME,
                "each name in personalities must be one word of ASCII letters, at most "
                f"{rules.personality_max_len} long.",
            )
        if name in seen:
            _refuse(ErrorCode.DUPLICATE_PERSONALITY, f"personalities names '{name}' twice.")
        seen.add(name)
        table[name] = _synonyms(name, raw_synonyms, rules, seen)
    return table


def _synonyms(name: str, raw: object, rules: StartRules, seen: set[str]) -> tuple[str, ...]:
    if not isinstance(raw, list):
        _refuse(ErrorCode.INVALID_PERSONALITY_SYNONYMS, f"the synonyms of '{name}' must be a list.")
    if len(raw) > rules.max_synonyms:
        _refuse(
            ErrorCode.TOO_MANY_SYNONYMS,
            f"'{name}' has {len(raw)} synonyms; at most {rules.max_synonyms} may be.",
        )
    synonyms = []
    for item in raw:
        synonym = clean_text(item).lower() if isinstance(item, str) else ""
        if not 0 < len(synonym) <= rules.personality_max_len:
            _refuse(
                ErrorCode.INVALID_PERSONALITY_SYNONYM,
                f"each synonym of '{name}' must be a string of 1 to "
                f"{rules.personality_max_len} characters.",
            )
        if synonym in seen:
            _refuse(
                ErrorCode.DUPLICATE_PERSONALITY_SYNONYM,
                f"a synonym of '{name}' is used twice in personalities.",
            )
        seen.add(synonym)
        synonyms.append(synonym)
    return tuple(synonyms)


class Start(ClientModel):
    """Begin a turn. It carries the whole configuration of the session every time.

    Fields are declared in the order in which they are checked; the first failure is reported.
    """

    type: Literal["start"] = "start"
    session_id: str | int | float | bool
    gender: Annotated[Literal["female", "male"], BeforeValidator(_gender)]
    personality: Annotated[str, BeforeValidator(_personality)]
    chat_prompt: Annotated[
        str | None, BeforeValidator(_chat_prompt), Field(validate_default=True)
    ] = None
    sampling: Annotated[SamplingOptions, BeforeValidator(_sampling_payload)] = SamplingOptions()
    check_screen_prefix: Annotated[str | None, BeforeValidator(_prefix)] = None
    screen_checked_prefix: Annotated[str | None, BeforeValidator(_prefix)] = None
    personalities: Annotated[
        Personalities | None, BeforeValidator(_personalities), Field(validate_default=True)
    ] = None
    history_text: Annotated[str | None, BeforeValidator(_optional_text)] = None
    user_utterance: Annotated[str, BeforeValidator(_text)] = ""
    request_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _older_spellings(cls, data: Any) -> Any:
        """Accept aliases, and sampling fields at the top level (the `sampling` object wins)."""
        if not isinstance(data, dict):
            return data
        # null is how some clients say that a field is not there.
        data = {key: value for key, value in data.items() if value is not None}
        if data.get("chat_prompt") is None and "persona_text" in data:
            data["chat_prompt"] = data["persona_text"]
        sampling = data.get("sampling")
        if sampling is None:
            sampling = data.get("sampling_params")
        if not sampling or isinstance(sampling, dict):
            flat = {k: data[k] for k in (*SAMPLING_FIELDS, "sanitize_output") if k in data}
            sampling = {**flat, **(sampling or {})}
        data["sampling"] = sampling
        return data

    @model_validator(mode="after")
    def _is_listed(self) -> Start:
        if self.personalities is not None and not any(
            self.personality in (name, *synonyms) for name, synonyms in self.personalities.items()
        ):
            _refuse(
                ErrorCode.PERSONALITY_NOT_IN_LIST,
                "personality must be one of the names or synonyms in personalities.",
            )
        return self


@dataclass(frozen=True, slots=True)
class Envelope:
    """A client frame whose kind is known and whose fields are not checked yet."""

    type: str
    data: Mapping[str, Any]
    request_id: str | None = None


def parse(text: str, *, cancel_sentinel: str, end_sentinel: str) -> Envelope:
    """Read a text frame as far as its kind.

    Raises:
        ProtocolError: `invalid_message`; the frame is blank, not a JSON object, or has no type.
    """
    stripped = text.strip()
    if not stripped:
        raise ProtocolError(ErrorCode.INVALID_MESSAGE, "The frame is blank; send a JSON object.")
    if stripped == cancel_sentinel:
        return Envelope("cancel", {})
    if stripped == end_sentinel:
        return Envelope("end", {})
    try:
        data = pydantic_core.from_json(stripped)
    except (ValueError, TypeError):  # TypeError: a lone surrogate, which is no text
        raise ProtocolError(ErrorCode.INVALID_MESSAGE, "The frame is not valid JSON.") from None
    if not isinstance(data, dict):
        raise ProtocolError(ErrorCode.INVALID_MESSAGE, "The frame must be a JSON object.")
    kind = data.get("type")
    if not kind:
        kind = next((word for word in ("cancel", "end") if data.get(word)), None)
    if not kind:
        raise ProtocolError(
            ErrorCode.INVALID_MESSAGE, 'The frame has no type; add one, such as "start".'
        )
    request_id = data.get("request_id")
    return Envelope(str(kind).strip().lower(), data, str(request_id) if request_id else None)


def read_start(envelope: Envelope, rules: StartRules) -> Start:
    """Validate a `start`.

    Raises:
        ProtocolError: with the code of the first field that is not acceptable.
    """
    session_id = envelope.data.get("session_id")
    if not session_id:
        raise ProtocolError(ErrorCode.MISSING_SESSION_ID, "start needs a session_id.")
    if (
        not isinstance(session_id, str | int | float)
        or session_id != session_id
        or (session_id in (math.inf, -math.inf))
    ):
        raise ProtocolError(
            ErrorCode.INVALID_SESSION_ID, "session_id must be a string or a number."
        )
    try:
        return Start.model_validate(
            {**envelope.data, "type": "start", "request_id": envelope.request_id}, context=rules
        )
    except ValidationError as error:
        raise first_problem(error) from None


def first_problem(error: ValidationError) -> ProtocolError:
    """The first problem of a frame as a wire error; never shows the client's own input."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in _CODES:
        return ProtocolError(ErrorCode(first["type"]), first["msg"])
    name = str(first["loc"][-1]) if first["loc"] else "message"
    missing = first["type"] == "missing"
    code = f"missing_{name}" if missing else f"invalid_{name}"
    reason = "is required" if missing else "is not of the right type"
    return ProtocolError(
        ErrorCode(code) if code in _CODES else ErrorCode.INVALID_MESSAGE, f"{name} {reason}."
    )


# --- server frames ----------------------------------------------------------------------------


class ServerFrame(BaseModel):
    """Base of what the server sends. Key order on the wire is field order."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def encode(self) -> str:
        """The frame as JSON text, absent fields left out."""
        return self.model_dump_json(exclude_none=True, by_alias=True)


class ControlFunction(BaseModel):
    """One thing that the router asks the client to do."""

    model_config = ConfigDict(frozen=True)

    name: Literal[
        "take_screenshot",
        "start_freestyle",
        "stop_freestyle",
        "switch_gender",
        "switch_personality",
    ]
    param: str | None = None


class Usage(BaseModel):
    """Token counts of a turn. All zero when no chat model ran."""

    model_config = ConfigDict(frozen=True)

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Timings(BaseModel):
    """Milliseconds from the receipt of `start`; None for what did not happen."""

    model_config = ConfigDict(frozen=True)

    toolcall_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float = 0.0


class StartAck(ServerFrame):
    """A `start` was accepted. `now` is when the session began: UTC, and the part of the day."""

    type: Literal["ack"] = "ack"
    for_: Literal["start"] = Field("start", alias="for")
    ok: Literal[True] = True
    session_id: str | int | float | bool
    now: str
    gender: Literal["female", "male"]
    personality: str
    chat_prompt: bool
    turn_id: str


class ToolCall(ServerFrame):
    """The router's decision. `raw` is empty exactly when `status` is "no"."""

    type: Literal["toolcall"] = "toolcall"
    status: Literal["yes", "no"]
    raw: list[ControlFunction]
    turn_id: str


class Token(ServerFrame):
    """The next piece of the reply."""

    type: Literal["token"] = "token"
    text: str
    turn_id: str


class Final(ServerFrame):
    """The whole reply: exactly the token texts, joined."""

    type: Literal["final"] = "final"
    normalized_text: str
    turn_id: str


class Done(ServerFrame):
    """The end of a turn, once for every turn; also the answer to a cancel when none runs."""

    type: Literal["done"] = "done"
    cancelled: Literal[True] | None = None
    request_id: str | None = None
    usage: Usage | None = None
    turn_id: str | None = None
    finish_reason: Literal["stop", "length", "cancelled", "error"] | None = None
    timings: Timings | None = None


class Capacity(BaseModel):
    """How full the server is."""

    model_config = ConfigDict(frozen=True)

    active: int
    max: int
    available: int
    at_capacity: bool


class Error(ServerFrame):
    """Something was refused or failed. `message` tells what to do about it."""

    type: Literal["error"] = "error"
    error_code: ErrorCode
    message: str
    retry_in: int | None = None
    capacity: Capacity | None = None
    turn_id: str | None = None
    request_id: str | None = None


class Pong(ServerFrame):
    """The answer to a ping."""

    type: Literal["pong"] = "pong"


class ConnectionClosed(ServerFrame):
    """The server is about to close this connection."""

    type: Literal["connection_closed"] = "connection_closed"
    reason: str


AnyServerFrame = Annotated[
    StartAck | ToolCall | Token | Final | Done | Error | Pong | ConnectionClosed,
    Field(discriminator="type"),
]
_SERVER_FRAMES: TypeAdapter[AnyServerFrame] = TypeAdapter(AnyServerFrame)


def read_server_frame(text: str | bytes) -> AnyServerFrame:
    """A server frame as a client gets it.

    Raises:
        ValueError: it is not one of this protocol's frames.
    """
    return _SERVER_FRAMES.validate_json(text)
