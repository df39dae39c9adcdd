"""How replies cannot be drawn, and the code that each of it is refused with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from tests.e2e.bad_input.literals import (
    BOOLS,
    HUGE,
    INVISIBLE,
    LIMITS,
    LISTS,
    NOT_A_LIST,
    NOT_AN_OBJECT,
    NULL,
    NUMBERS,
    OBJECTS,
    STRINGS,
    Bad,
    each,
    list_of,
    object_of,
    text,
    words,
)
from yap.chat.sampling import sampling_ranges
from yap.protocol.fields import MAX_BREAKER_CHARS, MAX_BREAKERS, WHOLE_NUMBERS
from yap.protocol.steering import MAX_BANNED_STRINGS, MAX_LOGIT_BIASES


def _sampling_values() -> Iterator[Bad]:
    for name, (low, high) in sampling_ranges(LIMITS).items():
        invalid = f"invalid_{name}"
        yield from each(name, invalid, *BOOLS, *STRINGS, *LISTS, *OBJECTS, *INVISIBLE)
        yield from each(name, invalid, HUGE, text(HUGE), "-" + HUGE, "NaN", "Infinity", "-Infinity")
        yield from each(
            name, invalid, "1e400", '"1e400"', '"nan"', '"inf"', '"1_0"', '"0x1"', '"٣"'
        )
        if name in WHOLE_NUMBERS:
            yield from each(name, invalid, "5.5", '"5.0"', text("9" * 5000))
            outside: tuple[str, ...] = (
                str(int(low) - 1),
                str(int(high) + 1),
                str(2**31),
                str(2**64),
            )
        else:
            below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
            outside = (repr(below), repr(above), str(low - 1), str(high + 1), "1e300")
        yield from each(name, f"{name}_out_of_range", *outside, *(text(o) for o in outside[:2]))
    breakers = "dry_sequence_breakers"
    yield from each(breakers, f"invalid_{breakers}", *NOT_A_LIST, "[null]", "[[]]", "[5]", '[""]')
    yield from each(breakers, f"invalid_{breakers}", list_of('"x"', MAX_BREAKERS + 1))
    too_long = text("x" * (MAX_BREAKER_CHARS + 1))
    yield from each(breakers, f"invalid_{breakers}", f"[{too_long}]")
    yield from each("sanitize_output", "invalid_sanitize_output", *NUMBERS, *STRINGS, *LISTS)
    yield from each("sanitize_output", "invalid_sanitize_output", *OBJECTS, '"true"', "0", '""')
    yield from _wishes_about_words()


def _wishes_about_words() -> Iterator[Bad]:
    bias, banned = "logit_bias", "banned_strings"
    yield from each(bias, f"invalid_{bias}", *NOT_AN_OBJECT, object_of([""], "1"))
    yield from each(bias, f"invalid_{bias}", *(object_of(["a"], v) for v in (*BOOLS, NULL, '"1"')))
    yield from each(
        bias,
        f"invalid_{bias}",
        *(object_of(["a"], v) for v in ("[]", "{}", "100.1", "-101", HUGE, "NaN", "Infinity")),
        *(object_of([key], "1") for key in (" ", "9" * 9, "9" * 5000, "x" * 101, "a b c d e")),
        object_of(words(MAX_LOGIT_BIASES + 1), "-100"),
    )
    yield from each(banned, f"invalid_{banned}", *NOT_A_LIST, "[null]", "[[]]", "[5]", "[true]")
    yield from each(banned, f"invalid_{banned}", *(f"[{i}]" for i in INVISIBLE))
    yield from each(banned, f"invalid_{banned}", json.dumps(["x" * 101]))
    yield from each(banned, f"invalid_{banned}", list_of('"x"', MAX_BANNED_STRINGS + 1))


SAMPLING_VALUES = tuple(_sampling_values())
SAMPLING_OBJECTS = tuple(
    bad
    for field in ("sampling", "sampling_params")
    for bad in each(
        field,
        "invalid_sampling_payload",
        *("true", '"x"', '["x"]', "[[]]", "[null]"),
        *NUMBERS,
    )
)
IN_SAMPLING = tuple(
    Bad(place, f"{{{text(bad.field)}:{bad.literal}}}", bad.code)
    for place in ("sampling", "sampling_params")
    for bad in SAMPLING_VALUES
)
