"""How the fields of client frames are read: leniently in spelling, strictly in type.

Each function here is a pydantic validator that takes what came over the wire and returns the value
to use, or refuses it with the error code of its field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from yap.protocol.codes import ErrorCode
from yap.text import clean_text

MAX_HISTORY_MESSAGES = 1000
MAX_BREAKERS = 16
MAX_BREAKER_CHARS = 16
WHOLE_NUMBERS = frozenset({"top_k", "dry_allowed_length", "dry_range"})
# A text of more than so many times its limit is not cleaned, to see whether it fits then.
_TOO_LONG = 8
# A number as people write it. Python reads more ("1_0", "infinity").
_NUMERIC = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


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
    utterance_max_chars: int = 5600
    sampling_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samplers: bool = True


def refuse(code: ErrorCode, message: str) -> NoReturn:
    # pydantic formats the template with the context, so braces in a message are safe there.
    raise PydanticCustomError(code.value, "{message}", {"message": message})


def rules_of(info: ValidationInfo) -> StartRules:
    return info.context if isinstance(info.context, StartRules) else StartRules()


def gender(value: object) -> object:
    if not isinstance(value, str):
        refuse(ErrorCode.INVALID_GENDER, "gender must be 'female' or 'male'.")
    folded = value.strip().casefold()
    if folded not in ("female", "male"):
        refuse(ErrorCode.INVALID_GENDER, "gender must be 'female' or 'male'.")
    return folded


def as_word(value: object, max_len: int) -> str | None:
    """`value` as a lower-case ASCII word of at most `max_len` letters, or None."""
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    return word if re.fullmatch(r"[a-z]+", word) and len(word) <= max_len else None


def personality(value: object, info: ValidationInfo) -> object:
    longest = rules_of(info).personality_max_len
    word = as_word(value, longest)
    if word is None:
        refuse(
            ErrorCode.INVALID_PERSONALITY,
            f"personality must be one word of ASCII letters, at most {longest} long.",
        )
    return word


def chat_prompt(value: object, info: ValidationInfo) -> object:
    rules = rules_of(info)
    if not rules.chat:
        return None
    if value is None:
        refuse(ErrorCode.MISSING_CHAT_PROMPT, "chat_prompt is required: send the persona's text.")
    if not isinstance(value, str):
        refuse(ErrorCode.INVALID_CHAT_PROMPT, "chat_prompt must be a string.")
    if len(value) > rules.prompt_max_chars:
        refuse(
            ErrorCode.INVALID_CHAT_PROMPT,
            f"chat_prompt has {len(value)} characters; at most {rules.prompt_max_chars} may be.",
        )
    text = clean_text(value)
    if not text:
        refuse(ErrorCode.INVALID_CHAT_PROMPT, "chat_prompt holds no visible text.")
    if len(text) > rules.prompt_max_chars:
        refuse(
            ErrorCode.INVALID_CHAT_PROMPT,
            f"chat_prompt has {len(text)} characters once its ligatures are written out; at most "
            f"{rules.prompt_max_chars} may be.",
        )
    return text


def prefix(value: object, info: ValidationInfo) -> object:
    name = info.field_name or "prefix"
    code = ErrorCode(f"invalid_{name}")
    if value is None:
        return None
    if not isinstance(value, str):
        refuse(code, f"{name} must be a string.")
    limit = rules_of(info).prefix_max_chars
    length = len(value)
    if length <= _TOO_LONG * limit:
        text = clean_text(value)
        length = len(text)
        if length <= limit:
            return text or None
    refuse(code, f"{name} has {length} characters; at most {limit} may be.")


def number(value: object, info: ValidationInfo) -> object:
    """A sampling number: JSON number or numeric string, inside the operator's range."""
    name = info.field_name or ""
    if value is None:
        return None
    invalid = ErrorCode(f"invalid_{name}")
    whole = name in WHOLE_NUMBERS
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        refuse(invalid, f"{name} must be {kind}.")
    if isinstance(value, str) and not _NUMERIC.fullmatch(value.strip()):
        refuse(invalid, f"{name} must be {kind}.")
    try:
        number = float(value)
        if whole and isinstance(value, str):
            int(value)  # "5.0" is no whole number, though 5.0 is one
    except (ValueError, OverflowError):
        refuse(invalid, f"{name} must be {kind}.")
    if not math.isfinite(number) or (whole and number != int(number)):
        refuse(invalid, f"{name} must be {kind}.")
    low, high = rules_of(info).sampling_ranges.get(name, (-math.inf, math.inf))
    if not low <= number <= high:
        refuse(ErrorCode(f"{name}_out_of_range"), f"{name} must be from {low:g} to {high:g}.")
    return int(number) if whole else number


def sampler_switch(value: object, info: ValidationInfo) -> object:
    """A number that turns a sampler on where it is not 0."""
    checked = number(value, info)
    if checked and not rules_of(info).samplers:
        refuse(
            ErrorCode.SAMPLERS_NOT_DEPLOYED,
            f"{info.field_name} must be 0 or absent: the engine here has no DRY and no XTC.",
        )
    return checked


def sequence_breakers(value: object) -> object:
    """A list of short texts, taken as they are: a line break is one of them."""
    code = ErrorCode.INVALID_DRY_SEQUENCE_BREAKERS
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) > MAX_BREAKERS:
        refuse(code, f"dry_sequence_breakers must be a list of at most {MAX_BREAKERS} strings.")
    if not all(is_breaker(item) for item in value):
        refuse(
            code,
            "each of dry_sequence_breakers must be a string of 1 to "
            f"{MAX_BREAKER_CHARS} characters.",
        )
    return tuple(value)


def is_breaker(value: object) -> bool:
    """Whether it is a short text. Lone surrogates are none: tokenizers cannot read them."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_BREAKER_CHARS:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)


def strict_bool(value: object) -> object:
    if value is not None and not isinstance(value, bool):
        refuse(ErrorCode.INVALID_SANITIZE_OUTPUT, "sanitize_output must be true or false.")
    return value


def text(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        name = info.field_name or "text"
        refuse(ErrorCode(f"invalid_{name}"), f"{name} must be a string.")
    return clean_text(value)


def utterance(value: object, info: ValidationInfo) -> object:
    """A text whose start is kept where it is too long."""
    if not isinstance(value, str):
        return text(value, info)
    return clean_text(value, rules_of(info).utterance_max_chars)


def full_text(value: object, info: ValidationInfo) -> object:
    """A text with something in it, of which the start is kept where it is too long."""
    cleaned = utterance(value, info)
    if not cleaned:
        name = info.field_name or "text"
        refuse(ErrorCode(f"missing_{name}"), f"{name} holds no visible text.")
    return cleaned


def history(value: object) -> object:
    """A list of messages, each with a role of user or assistant and a text."""
    if not isinstance(value, list) or len(value) > MAX_HISTORY_MESSAGES:
        refuse(
            ErrorCode.INVALID_HISTORY,
            f"history must be a list of at most {MAX_HISTORY_MESSAGES} messages.",
        )
    for message in value:
        if (
            not isinstance(message, dict)
            or message.get("role") not in ("user", "assistant")
            or not isinstance(message.get("content"), str)
        ):
            refuse(
                ErrorCode.INVALID_HISTORY,
                'each message of history must be {"role": "user" or "assistant", "content": text}.',
            )
    return [{"role": m["role"], "content": clean_text(m["content"])} for m in value]


def heard_chars(value: object) -> object:
    """A count of characters, or nothing."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        refuse(ErrorCode.INVALID_HEARD_CHARS, "heard_chars must be a whole number from 0.")
    return value


def heard_text(value: object) -> object:
    """A text exactly as it was sent, or nothing. It is not cleaned: it is compared."""
    if value is not None and not isinstance(value, str):
        refuse(ErrorCode.INVALID_HEARD_TEXT, "heard_text must be a string.")
    return value


def optional_text(value: object, info: ValidationInfo) -> object:
    return None if value is None else text(value, info)


def sampling_payload(value: object, info: ValidationInfo) -> object:
    if not rules_of(info).chat or not value:
        return {}
    if not isinstance(value, dict):
        refuse(ErrorCode.INVALID_SAMPLING_PAYLOAD, "sampling must be an object.")
    return value


Personalities = dict[str, tuple[str, ...]]


def personalities(value: object, info: ValidationInfo) -> object:
    rules = rules_of(info)
    if value is None:
        if rules.tool:
            refuse(
                ErrorCode.MISSING_PERSONALITIES,
                "personalities is required: an object of name to list of synonyms.",
            )
        return None
    if not isinstance(value, dict):
        refuse(
            ErrorCode.INVALID_PERSONALITIES_FORMAT,
            "personalities must be an object of name to list of synonyms.",
        )
    if not value:
        refuse(ErrorCode.EMPTY_PERSONALITIES, "personalities must name at least one.")
    if len(value) > rules.max_personalities:
        refuse(
            ErrorCode.TOO_MANY_PERSONALITIES,
            f"personalities has {len(value)} names; at most {rules.max_personalities} may be.",
        )
    return _personality_table(value, rules)


def _personality_table(value: Mapping[Any, Any], rules: StartRules) -> Personalities:
    table: Personalities = {}
    seen: set[str] = set()
    for raw_name, raw_synonyms in value.items():
        name = as_word(raw_name, rules.personality_max_len)
        if name is None:
            refuse(
                ErrorCode.INVALID_PERSONALITY_NAME,
                "each name in personalities must be one word of ASCII letters, at most "
                f"{rules.personality_max_len} long.",
            )
        if name in seen:
            refuse(ErrorCode.DUPLICATE_PERSONALITY, f"personalities names '{name}' twice.")
        seen.add(name)
        table[name] = _synonyms(name, raw_synonyms, rules, seen)
    return table


def _synonyms(name: str, raw: object, rules: StartRules, seen: set[str]) -> tuple[str, ...]:
    if not isinstance(raw, list):
        refuse(ErrorCode.INVALID_PERSONALITY_SYNONYMS, f"the synonyms of '{name}' must be a list.")
    if len(raw) > rules.max_synonyms:
        refuse(
            ErrorCode.TOO_MANY_SYNONYMS,
            f"'{name}' has {len(raw)} synonyms; at most {rules.max_synonyms} may be.",
        )
    synonyms = []
    for item in raw:
        readable = isinstance(item, str) and len(item) <= _TOO_LONG * rules.personality_max_len
        synonym = clean_text(item).lower() if readable else ""
        if not 0 < len(synonym) <= rules.personality_max_len:
            refuse(
                ErrorCode.INVALID_PERSONALITY_SYNONYM,
                f"each synonym of '{name}' must be a string of 1 to "
                f"{rules.personality_max_len} characters.",
            )
        if synonym in seen:
            refuse(
                ErrorCode.DUPLICATE_PERSONALITY_SYNONYM,
                f"a synonym of '{name}' is used twice in personalities.",
            )
        seen.add(synonym)
        synonyms.append(synonym)
    return tuple(synonyms)
