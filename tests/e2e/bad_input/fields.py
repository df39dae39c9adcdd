"""Fields of messages that are otherwise good, and the code that each of them is refused with."""

from __future__ import annotations

import json

from tests.e2e.bad_input.literals import (
    ABSENT,
    BOOLS,
    HUGE,
    INVISIBLE,
    LIMITS,
    LISTS,
    NOT_A_LIST,
    NOT_A_STRING,
    NOT_AN_OBJECT,
    NULL,
    NUMBERS,
    OBJECTS,
    STRINGS,
    Bad,
    each,
    list_of,
    message,
    object_of,
    text,
    words,
)
from tests.e2e.bad_input.sampling import IN_SAMPLING, SAMPLING_OBJECTS, SAMPLING_VALUES

# A refused `start` keeps the connection only where its session_id is at fault.
SESSION_IDS = (
    *each("session_id", "missing_session_id", ABSENT, NULL, "false", "0", "0.0", "-0.0", '""'),
    *each("session_id", "missing_session_id", "[]", "{}"),
    *each("session_id", "invalid_session_id", "true", '["x"]', '{"x": 1}', "[null]", "[[]]"),
    *each("session_id", "invalid_session_id", "NaN", "Infinity", "-Infinity", "1e400"),
    *each("session_id", "invalid_session_id", HUGE, text("x" * 1025)),
)

GENDERS = (
    *each("gender", "missing_gender", ABSENT, NULL),
    *each("gender", "invalid_gender", *NOT_A_STRING, *INVISIBLE),
    *each("gender", "invalid_gender", '"x"', '"null"', '"woman"', r'"female\u0000"', '["female"]'),
)

PERSONALITY_LEN = LIMITS.personality_max_len
PERSONALITY = (
    *each("personality", "missing_personality", ABSENT, NULL),
    *each("personality", "invalid_personality", *NOT_A_STRING, *INVISIBLE),
    *each("personality", "invalid_personality", text("a" * (PERSONALITY_LEN + 1)), '"two words"'),
    *each("personality", "invalid_personality", '"amélie"', r'"friendly\u0000"', '"r2d"'),
)
UNLISTED = tuple(each("personality", "personality_not_in_list", '"stranger"'))

LONG_PROMPT = text("x" * (LIMITS.prompt_max_chars + 1))
MANY_TOKENS = text("so long " * (LIMITS.prompt_max_chars // 8))
PROMPTS = (
    *each("chat_prompt", "missing_chat_prompt", ABSENT, NULL),
    *each("chat_prompt", "invalid_chat_prompt", *NOT_A_STRING, *INVISIBLE, LONG_PROMPT),
    *each("chat_prompt", "chat_prompt_too_long", MANY_TOKENS),
)
PERSONA_TEXTS = (
    *each("persona_text", "missing_chat_prompt", NULL),
    *each("persona_text", "invalid_chat_prompt", *NOT_A_STRING, *INVISIBLE, LONG_PROMPT),
    *each("persona_text", "chat_prompt_too_long", MANY_TOKENS),
)
PERSONAS = tuple(
    each("persona", "unknown_persona", *NOT_A_STRING, *INVISIBLE, '"nobody"', r'"anna\u0000"')
)

TEXTS = (
    *each("user_utterance", "invalid_user_utterance", *NOT_A_STRING),
    *each("history_text", "invalid_history_text", *NOT_A_STRING),
)
HEARD = (
    *each("heard_chars", "invalid_heard_chars", *BOOLS, *STRINGS, *LISTS, *OBJECTS, '"5"'),
    *each("heard_chars", "invalid_heard_chars", "-1", "-" + HUGE, "2.5", "5.0", "NaN", "1e400"),
    *each("heard_text", "invalid_heard_text", *NOT_A_STRING),
)
PREFIXES = tuple(
    bad
    for field in ("check_screen_prefix", "screen_checked_prefix")
    for bad in each(
        field, f"invalid_{field}", *NOT_A_STRING, text("x" * (LIMITS.screen_prefix_max_chars + 1))
    )
)

MANY_MESSAGES = list_of('{"role":"user","content":"x"}', 1001)
HISTORIES = (
    *each("history", "invalid_history", *NOT_A_LIST, *LISTS[1:], "[{}]", MANY_MESSAGES),
    *each("history", "invalid_history", '[{"role": "user"}]', '[{"content": "x"}]'),
    *each("history", "invalid_history", *(message(r) for r in (NULL, '"system"', '"x"'))),
    *each("history", "invalid_history", *(message(r) for r in ('"User"', '""', *NOT_A_STRING))),
    *each("history", "invalid_history", *(message('"user"', c) for c in (NULL, *NOT_A_STRING))),
)

NAMES = LIMITS.max_personalities
SYNONYMS = LIMITS.max_synonyms_per_personality
PERSONALITIES = (
    *each("personalities", "missing_personalities", ABSENT, NULL),
    *each("personalities", "invalid_personalities_format", *NOT_AN_OBJECT),
    *each("personalities", "empty_personalities", "{}"),
    *each("personalities", "too_many_personalities", object_of(words(NAMES + 1))),
    *each(
        "personalities",
        "invalid_personality_name",
        *(object_of([name]) for name in ("", " ", "two words", "amélie", "r2d", "a\0")),
        object_of(["a" * (PERSONALITY_LEN + 1)]),
    ),
    *each("personalities", "duplicate_personality", object_of(["a", "A"])),
    *each("personalities", "duplicate_personality", '{"a": ["b"], "b": []}'),
    *each(
        "personalities",
        "invalid_personality_synonyms",
        *(object_of(["friendly"], literal) for literal in (NULL, *NOT_A_LIST)),
    ),
    *each(
        "personalities",
        "too_many_synonyms",
        object_of(["friendly"], json.dumps(words(SYNONYMS + 1))),
    ),
    *each(
        "personalities",
        "invalid_personality_synonym",
        *(object_of(["friendly"], f"[{item}]") for item in (NULL, *NOT_A_STRING, *INVISIBLE)),
        object_of(["friendly"], json.dumps(["x" * (PERSONALITY_LEN + 1)])),
    ),
    *each("personalities", "duplicate_personality_synonym", '{"friendly": ["b", "B"]}'),
    *each("personalities", "duplicate_personality_synonym", '{"friendly": ["friendly"]}'),
    *each("personalities", "duplicate_personality_synonym", r'{"friendly": ["b", "b\u0000"]}'),
)

START_FIELDS: dict[str, tuple[Bad, ...]] = {
    "gender": GENDERS,
    "personality": PERSONALITY + UNLISTED,
    "chat_prompt": PROMPTS,
    "persona_text": PERSONA_TEXTS,
    "persona": PERSONAS,
    "texts": TEXTS,
    "history": HISTORIES,
    "heard": HEARD,
    "prefixes": PREFIXES,
    "personalities": PERSONALITIES,
    "sampling": SAMPLING_OBJECTS,
    "sampling_values": IN_SAMPLING,
    "sampling_at_the_top_level": SAMPLING_VALUES,
}

FOLLOWUP_FIELDS = (
    *each("analysis_text", "missing_analysis_text", ABSENT, *INVISIBLE),
    *each("analysis_text", "invalid_analysis_text", NULL, *NOT_A_STRING),
)
WARM_HISTORY_FIELDS = (
    *each("history_text", "missing_history_text", ABSENT),
    *each("history_text", "invalid_history_text", NULL, *NOT_A_STRING),
)
REQUEST_IDS = (
    NULL,
    *BOOLS,
    *NUMBERS,
    *STRINGS,
    *LISTS,
    *OBJECTS,
    r'"\u0000\u001b"',
    text("x" * 9999),
)
