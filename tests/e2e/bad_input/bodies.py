"""Bodies for the HTTP endpoints."""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.bad_input.fields import MANY_TOKENS
from tests.e2e.bad_input.large import MARKS, MESSAGE, UNFOLDING, Large
from tests.e2e.bad_input.literals import (
    ABSENT,
    BOOLS,
    DEPTH,
    ENDLESS,
    FRAME_BYTES,
    LISTS,
    NOT_A_LIST,
    NOT_A_STRING,
    NULL,
    NUMBERS,
    STRINGS,
    Bad,
    each,
    list_of,
    message,
    text,
)
from tests.e2e.bad_input.sampling import SAMPLING_VALUES

USER = '{"role":"user","content":"Hi!"}'
NO_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half an object": b'{"messages":[',
    "NUL": b"\0",
    "invalid UTF-8": b'{"utterance":"\xff","messages":[{"role":"user","content":"\xff"}]}',
    "brackets": b"[" * DEPTH,
    "braces": b'{"x":' * DEPTH,
    "an endless number": f'{{"messages":{ENDLESS},"utterance":{ENDLESS}}}'.encode(),
    **{literal: literal.encode() for literal in (NULL, "true", "5", '"x"', "[]", "{}", "NaN")},
}
CHAT_BODIES: tuple[Bad, ...] = (
    *each("messages", "invalid_message", NULL, *NOT_A_LIST, *LISTS, "[{}]"),
    *each("messages", "invalid_message", list_of(USER, 1001)),
    *each("messages", "invalid_message", '[{"role": "user"}]', '[{"content": "x"}]'),
    *each("messages", "invalid_message", *(message(r) for r in (NULL, '"x"', *NOT_A_STRING))),
    *each("messages", "invalid_message", *(message('"user"', c) for c in (NULL, *NOT_A_STRING))),
    *each("messages", "invalid_message", message('"user"', text("x" * 1_000_001))),
    *each("messages", "invalid_message", message('"user"', r'"\ud800"')),
    *each("messages", "invalid_message", message('"assistant"'), message('"system"')),
    *each(
        "messages",
        "invalid_message",
        f'[{USER},{{"role":"system","content":"x"}},{USER}]',
        f'[{{"role":"system","content":"x"}},{{"role":"system","content":"x"}},{USER}]',
    ),
    *each(
        "messages",
        "chat_prompt_too_long",
        f'[{{"role":"system","content":{MANY_TOKENS}}},{USER}]',
    ),
    *each("sampling", "invalid_message", *BOOLS, *NUMBERS, *STRINGS, *LISTS),
    *(Bad("sampling", f"{{{text(b.field)}:{b.literal}}}", b.code) for b in SAMPLING_VALUES),
)
CLASSIFY_BODIES: tuple[Bad, ...] = (
    *each("utterance", "invalid_message", ABSENT, NULL, *NOT_A_STRING),
    *each("utterance", "invalid_message", text("x" * 100_001), r'"\ud800"'),
    *each("earlier", "invalid_message", *NOT_A_LIST, *LISTS[2:], "[5]", "[true]", "[{}]"),
    *each("earlier", "invalid_message", list_of('"x"', 1001), r'["\ud800"]'),
)


@dataclass(frozen=True, slots=True)
class LargeBody:
    """A good body, and how many bytes it is to have."""

    path: str
    body: Large
    size: int = FRAME_BYTES
    status: int = 200


CHAT = f'{{"messages":[{MESSAGE}'
CLASSIFY = '{"utterance":"'
EARLIER = '{"utterance":"Hi!","earlier":["'
LARGE_BODIES: dict[str, LargeBody] = {
    "chat: letters": LargeBody("/chat", Large(CHAT, "x", '"}]}', "done"), 1_000_000),
    "chat: marks": LargeBody("/chat", Large(CHAT, MARKS, '"}]}', "done")),
    "chat: unfolding letters": LargeBody("/chat", Large(CHAT, UNFOLDING, '"}]}', "done")),
    "chat: four megabytes": LargeBody(
        "/chat",
        Large(
            '{"messages":[', f'{MESSAGE}{"hello " * 1666}"}}', f",{USER}]}}", "done", separator=","
        ),
        4_000_000,
    ),
    "chat: ten megabytes": LargeBody(
        "/chat", Large(CHAT, "x", '"}]}', "error"), 10_000_000, status=413
    ),
    "classify: words": LargeBody("/classify", Large(CLASSIFY, "hello ", '"}', "no"), 100_000),
    "classify: marks": LargeBody("/classify", Large(CLASSIFY, MARKS, '"}', "no"), 200_000),
    "classify: unfolding letters": LargeBody(
        "/classify", Large(CLASSIFY, UNFOLDING, '"}', "no"), 300_000
    ),
    "classify: a line of marks": LargeBody("/classify", Large(EARLIER, MARKS, '"]}', "no")),
    "classify: a line of four megabytes": LargeBody(
        "/classify", Large(EARLIER, "hello ", '"]}', "no"), 4_000_000
    ),
    "classify: four megabytes of lines": LargeBody(
        "/classify",
        Large(EARLIER, "hello " * 1666, '"]}', "no", separator='","'),
        4_000_000,
    ),
    "classify: ten megabytes": LargeBody(
        "/classify", Large(EARLIER, "x", '"]}', "error"), 10_000_000, status=413
    ),
}
