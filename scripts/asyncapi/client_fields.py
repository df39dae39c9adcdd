"""What the server's validators do with the fields of a client's messages."""

from __future__ import annotations

from scripts.asyncapi.schemas import Schema, ref
from yap.chat.sampling import sampling_ranges
from yap.protocol.fields import (
    MAX_BREAKER_CHARS,
    MAX_BREAKERS,
    MAX_HISTORY_MESSAGES,
    WHOLE_NUMBERS,
)
from yap.protocol.steering import (
    MAX_BANNED_STRINGS,
    MAX_LOGIT_BIASES,
    MAX_PHRASE_CHARS,
)
from yap.settings import Settings

NUMERIC = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
WHOLE = r"^\s*[+-]?[0-9]+\s*$"
WORD = r"^\s*[A-Za-z]+\s*$"
VISIBLE = r"\S"


def client_fields(settings: Settings) -> dict[str, Schema]:
    """What the validators of `yap.protocol.fields` do with each field, by its name."""
    return {
        **identity_fields(),
        **persona_fields(settings),
        **sampling_fields(),
        **sampling_numbers(settings),
        **steering_fields(),
        **conversation_fields(settings),
        **screen_fields(settings),
        **cancel_fields(),
    }


def nullable(schema: Schema, description: str) -> Schema:
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def identity_fields() -> dict[str, Schema]:
    return {
        "session_id": {
            "not": {"enum": ["", 0]},
            "description": "Turns of one id under one API key share their history.",
        },
    }


def persona_fields(settings: Settings) -> dict[str, Schema]:
    return {
        "gender": {"description": "Of the persona."},
        "personality": {
            "pattern": WORD,
            "description": f"One word of ASCII letters, at most {longest_name(settings)} long; a "
            "name or synonym of `personalities` where that is given.",
        },
        "personalities": personalities(settings),
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
    }


def personalities(settings: Settings) -> Schema:
    names = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": WORD},
        "additionalProperties": {"type": "array", "items": {"type": "string", "minLength": 1}},
    }
    return nullable(
        names,
        "Names and their synonyms; required where the classifier is deployed. "
        f"1 to MAX_PERSONALITIES ({settings.max_personalities}) names, each one word of ASCII "
        f"letters, with at most MAX_SYNONYMS_PER_PERSONALITY "
        f"({settings.max_synonyms_per_personality}) synonyms; names and synonyms have at most "
        f"{longest_name(settings)} characters and are all different, whatever their case.",
    )


def longest_name(settings: Settings) -> str:
    return f"PERSONALITY_MAX_LEN ({settings.personality_max_len})"


def sampling_fields() -> dict[str, Schema]:
    sampling = ref("components", "schemas", "SamplingOptions")
    breakers = {
        "type": "array",
        "maxItems": MAX_BREAKERS,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_BREAKER_CHARS},
    }
    return {
        "sampling": {
            "allOf": [sampling],
            "description": "Ignored where no chat model is deployed.",
        },
        "sampling_params": {"allOf": [sampling], "description": "Older name of `sampling`."},
        "dry_sequence_breakers": nullable(
            breakers, "Texts that end a repetition for DRY; of each its last token counts."
        ),
        "sanitize_output": {"description": "false passes the reply through as it was written."},
    }


def sampling_numbers(settings: Settings) -> dict[str, Schema]:
    """The numbers of the sampling, which may come as text."""
    notes: dict[str, Schema] = {}
    for name, (low, high) in sampling_ranges(settings).items():
        whole = name in WHOLE_NUMBERS
        notes[name] = {
            "anyOf": [
                {"type": "integer" if whole else "number"},
                {"type": "string", "pattern": WHOLE if whole else NUMERIC},
                {"type": "null"},
            ],
            "description": f"From {low:g} to {high:g} unless the operator sets other bounds.",
        }
    return notes


def steering_fields() -> dict[str, Schema]:
    biases = {
        "type": "object",
        "maxProperties": MAX_LOGIT_BIASES,
        "propertyNames": {"pattern": VISIBLE, "maxLength": MAX_PHRASE_CHARS},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    }
    phrases = {
        "type": "array",
        "maxItems": MAX_BANNED_STRINGS,
        "items": {"type": "string", "pattern": VISIBLE, "maxLength": MAX_PHRASE_CHARS},
    }
    return {
        "logit_bias": nullable(
            biases,
            "What is added to the score of tokens: by token id, or by a text that "
            "the model has as one token. -100 for a text bans it, as `banned_strings` does.",
        ),
        "banned_strings": nullable(
            phrases,
            "Texts that the reply does not hold, in whatever case, inside of words "
            "too. The model says something else in their place.",
        ),
    }


def conversation_fields(settings: Settings) -> dict[str, Schema]:
    messages = {
        "type": "array",
        "maxItems": MAX_HISTORY_MESSAGES,
        "items": ref("components", "schemas", "HistoryMessage"),
    }
    return {
        "history": nullable(messages, "Replaces what the server remembers."),
        "history_text": {"description": "A transcript of `User:` and `Assistant:` lines."},
        "user_utterance": {
            "description": "What the user said. Its start is kept when it is over "
            f"USER_UTT_MAX_TOKENS ({settings.user_utt_max_tokens}) tokens."
        },
    }


def screen_fields(settings: Settings) -> dict[str, Schema]:
    limit = f"at most SCREEN_PREFIX_MAX_CHARS ({settings.screen_prefix_max_chars}) characters."
    return {
        "check_screen_prefix": {"description": f"Set before what needs the screen: {limit}"},
        "screen_checked_prefix": {"description": f"Set before a followup's text: {limit}"},
        "analysis_text": {"pattern": VISIBLE, "description": "What the client saw on the screen."},
    }


def cancel_fields() -> dict[str, Schema]:
    return {
        "request_id": {
            "description": "Of a cancel: comes back in its `done`. Read as text, whatever its type."
        },
        "heard_chars": nullable(
            {"type": "integer", "minimum": 0},
            "How many characters (Unicode code points) of the last reply's token "
            "texts the user heard; history keeps just those.",
        ),
        "heard_text": {
            "description": "The part of the last reply that the user heard, exactly as the token "
            "texts had it; goes before `heard_chars`."
        },
    }
