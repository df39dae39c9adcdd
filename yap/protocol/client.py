"""Client frames.

Reading one takes two steps, because rate limits apply between them: `parse` finds out what kind of
message it is, `read_start` and its kin validate it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import pydantic_core
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from yap.protocol import fields, steering
from yap.protocol.codes import CODES, ErrorCode, ProtocolError
from yap.protocol.fields import Personalities, StartRules

# Numbers of the DRY and XTC samplers, by TabbyAPI's names.
SAMPLER_FIELDS = (
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_range",
    "xtc_probability",
    "xtc_threshold",
)
SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    *SAMPLER_FIELDS,
)
# What may stand at the top level of a `start` too.
_FLAT_FIELDS = (
    *SAMPLING_FIELDS,
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "sanitize_output",
    "logit_bias",
    "banned_strings",
)

M = TypeVar("M", bound="ClientModel")
Number = Annotated[float | None, BeforeValidator(fields.number)]
WholeNumber = Annotated[int | None, BeforeValidator(fields.number)]
SamplerSwitch = Annotated[float | None, BeforeValidator(fields.sampler_switch)]


class ClientModel(BaseModel):
    """Base of what clients send: unknown fields are ignored, values are not mutated."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class SamplingOptions(ClientModel):
    """What a client may set of the sampling. None means the server's default."""

    temperature: Number = None
    top_p: Number = None
    top_k: WholeNumber = None
    min_p: Number = None
    repetition_penalty: Number = None
    presence_penalty: Number = None
    frequency_penalty: Number = None
    dry_multiplier: SamplerSwitch = None
    dry_base: Number = None
    dry_allowed_length: WholeNumber = None
    dry_range: WholeNumber = None
    dry_sequence_breakers: Annotated[
        tuple[str, ...] | None, BeforeValidator(fields.sequence_breakers)
    ] = None
    xtc_probability: SamplerSwitch = None
    xtc_threshold: Number = None
    sanitize_output: Annotated[bool | None, BeforeValidator(fields.strict_bool)] = None
    logit_bias: Annotated[dict[str, float] | None, BeforeValidator(steering.logit_bias)] = None
    banned_strings: Annotated[tuple[str, ...] | None, BeforeValidator(steering.banned_strings)] = (
        None
    )

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, data: Any) -> Any:
        """Accept `dry_penalty_last_n` for `dry_range`, as TabbyAPI does."""
        if isinstance(data, dict) and data.get("dry_range") is None:
            return data | {"dry_range": data.get("dry_penalty_last_n")}
        return data


class HeardModel(ClientModel):
    """A message that may say how much of the last reply the user heard.

    `heard_chars` counts characters (Unicode code points) of the token texts; `heard_text` is the
    text itself, and goes before it.
    """

    heard_chars: Annotated[int | None, BeforeValidator(fields.heard_chars)] = None
    heard_text: Annotated[str | None, BeforeValidator(fields.heard_text)] = None


class HistoryMessage(ClientModel):
    """A message of the conversation so far, as a client sends it."""

    role: Literal["user", "assistant"]
    content: str


class Cancel(HeardModel):
    """Stop what runs."""

    type: Literal["cancel"] = "cancel"
    request_id: str | None = None


class Start(HeardModel):
    """Begin a turn. It carries the whole configuration of the session every time.

    Fields are declared in the order in which they are checked; the first failure is reported.
    """

    type: Literal["start"] = "start"
    session_id: str | int | float
    gender: Annotated[Literal["female", "male"], BeforeValidator(fields.gender)]
    personality: Annotated[str, BeforeValidator(fields.personality)]
    chat_prompt: Annotated[
        str | None, BeforeValidator(fields.chat_prompt), Field(validate_default=True)
    ] = None
    sampling: Annotated[SamplingOptions, BeforeValidator(fields.sampling_payload)] = (
        SamplingOptions()
    )
    check_screen_prefix: Annotated[str | None, BeforeValidator(fields.prefix)] = None
    screen_checked_prefix: Annotated[str | None, BeforeValidator(fields.prefix)] = None
    personalities: Annotated[
        Personalities | None, BeforeValidator(fields.personalities), Field(validate_default=True)
    ] = None
    history: Annotated[tuple[HistoryMessage, ...] | None, BeforeValidator(fields.history)] = None
    history_text: Annotated[str | None, BeforeValidator(fields.optional_text)] = None
    user_utterance: Annotated[str, BeforeValidator(fields.utterance)] = ""
    request_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _older_spellings(cls, data: Any) -> Any:
        """Accept aliases, and sampling fields at the top level (the `sampling` object wins)."""
        data = _persona_text_alias(data)
        if not isinstance(data, dict):
            return data
        sampling = data.get("sampling")
        if sampling is None:
            sampling = data.get("sampling_params")
        if not sampling or isinstance(sampling, dict):
            flat = {k: data[k] for k in _FLAT_FIELDS if k in data}
            sampling = {**flat, **(sampling or {})}
        data["sampling"] = sampling
        return data

    @model_validator(mode="after")
    def _is_listed(self) -> Start:
        if self.personalities is not None and not any(
            self.personality in (name, *synonyms) for name, synonyms in self.personalities.items()
        ):
            fields.refuse(
                ErrorCode.PERSONALITY_NOT_IN_LIST,
                "personality must be one of the names or synonyms in personalities.",
            )
        return self


class Followup(ClientModel):
    """What the client saw on the user's screen; the reply to it is a turn without a decision."""

    type: Literal["followup"] = "followup"
    analysis_text: Annotated[str, BeforeValidator(fields.full_text)]


class PersonaModel(ClientModel):
    """A message that brings a persona's text, as `chat_prompt` or `persona_text`."""

    chat_prompt: Annotated[
        str | None, BeforeValidator(fields.chat_prompt), Field(validate_default=True)
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _older_spellings(cls, data: Any) -> Any:
        return _persona_text_alias(data)


class ChatPrompt(PersonaModel):
    """Another persona, from the next turn on."""

    type: Literal["chat_prompt"] = "chat_prompt"
    gender: Annotated[Literal["female", "male"], BeforeValidator(fields.gender)]
    personality: Annotated[str, BeforeValidator(fields.personality)]


class WarmPersona(PersonaModel):
    """Read a persona into the prefix cache."""

    type: Literal["warm_persona"] = "warm_persona"


class WarmHistory(ClientModel):
    """Read a transcript into the prefix cache, behind the session's persona."""

    type: Literal["warm_history"] = "warm_history"
    history_text: Annotated[str, BeforeValidator(fields.text)]


def _persona_text_alias(data: Any) -> Any:
    """Accept `persona_text` for `chat_prompt`. null is how some clients say "not there"."""
    if not isinstance(data, dict):
        return data
    data = {key: value for key, value in data.items() if value is not None}
    if "chat_prompt" not in data and "persona_text" in data:
        data["chat_prompt"] = data["persona_text"]
    return data


MAX_ID_CHARS = 1024


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
    except (ValueError, TypeError) as error:
        raise ProtocolError(ErrorCode.INVALID_MESSAGE, _why_unread(error)) from None
    if not isinstance(data, dict):
        raise ProtocolError(ErrorCode.INVALID_MESSAGE, "The frame must be a JSON object.")
    kind = data.get("type")
    if not kind:
        kind = next((word for word in ("cancel", "end") if data.get(word)), None)
    if not kind:
        raise ProtocolError(
            ErrorCode.INVALID_MESSAGE, 'The frame has no type; add one, such as "start".'
        )
    return Envelope(str(kind).strip().lower(), data, _request_id(data.get("request_id")))


def _why_unread(error: Exception) -> str:
    """What is wrong with a frame that the JSON parser refuses; never in the parser's words."""
    said = str(error)
    if isinstance(error, TypeError) or "hex escape" in said:  # TypeError: a surrogate, unescaped
        return r"The frame has a \u escape that is no character, such as half of an emoji."
    if "recursion" in said:
        return "The frame is nested too deeply."
    if "out of range" in said:
        return "The frame has a number of too many digits."
    return "The frame is not valid JSON."


def _request_id(value: object) -> str | None:
    """What is echoed: a string or a number. Anything else, and what is too long, is ignored."""
    if not value or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, int) and value.bit_length() > MAX_ID_CHARS:
        return None
    text = str(value)
    return text if len(text) <= MAX_ID_CHARS else None


def read_start(envelope: Envelope, rules: StartRules) -> Start:
    """Validate a `start`.

    Raises:
        ProtocolError: with the code of the first field that is not acceptable.
    """
    session_id = envelope.data.get("session_id")
    if not session_id:
        raise ProtocolError(ErrorCode.MISSING_SESSION_ID, "start needs a session_id.")
    if (
        isinstance(session_id, bool)
        or not isinstance(session_id, str | int | float)
        or session_id != session_id
        or (session_id in (math.inf, -math.inf))
    ):
        raise ProtocolError(
            ErrorCode.INVALID_SESSION_ID, "session_id must be a string or a number."
        )
    length = session_id.bit_length() if isinstance(session_id, int) else len(str(session_id))
    if length > MAX_ID_CHARS:
        raise ProtocolError(
            ErrorCode.INVALID_SESSION_ID,
            f"session_id is too long; at most {MAX_ID_CHARS} characters may be.",
        )
    return read(Start, envelope, rules)


def read(model: type[M], envelope: Envelope, rules: StartRules) -> M:
    """Validate the frame as a `model`.

    Raises:
        ProtocolError: with the code of the first field that is not acceptable.
    """
    data = {**envelope.data, "type": envelope.type, "request_id": envelope.request_id}
    try:
        return model.model_validate(data, context=rules)
    except ValidationError as error:
        raise first_problem(error) from None


def first_problem(error: ValidationError) -> ProtocolError:
    """The first problem of a frame as a wire error; never shows the client's own input."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in CODES:
        return ProtocolError(ErrorCode(first["type"]), first["msg"])
    name = str(first["loc"][-1]) if first["loc"] else "message"
    missing = first["type"] == "missing"
    code = f"missing_{name}" if missing else f"invalid_{name}"
    reason = "is required" if missing else "is not of the right type"
    return ProtocolError(
        ErrorCode(code) if code in CODES else ErrorCode.INVALID_MESSAGE, f"{name} {reason}."
    )
