"""Values that no client should send, and frames that have them.

Values are JSON literals, not Python objects, so that NaN, lone surrogates and numbers of any
length can be among them. ABSENT leaves the field out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.e2e.talk import start
from yap.settings import Settings

LIMITS = Settings()
FRAME_BYTES = LIMITS.ws_max_frame_bytes

ABSENT = ""
NULL = "null"
BOOLS = ("true", "false")
HUGE = "1" + "0" * 400  # no float holds it
ENDLESS = "1" + "0" * 5000  # nor does Python write it
NUMBERS = ("5", "2.5", "-1", HUGE, "NaN", "Infinity", "-Infinity", "1e400")
STRINGS = ('"x"',)
LISTS = ("[]", '["x"]', "[[]]", "[null]")
OBJECTS = ("{}", '{"x": 1}')
NOT_A_STRING = (*BOOLS, *NUMBERS, *LISTS, *OBJECTS)
NOT_A_LIST = (*BOOLS, *NUMBERS, *STRINGS, *OBJECTS)
NOT_AN_OBJECT = (*BOOLS, *NUMBERS, *STRINGS, *LISTS)
INVISIBLE = (r'""', r'"  "', r'"\u0000"', r'" \u0000\u202e\u200f\u001b\n "')
DEPTH = 100_000  # of brackets in brackets


@dataclass(frozen=True, slots=True)
class Bad:
    """A value of a field, and the code with which it is refused."""

    field: str
    literal: str
    code: str

    def __str__(self) -> str:
        shown = self.literal if len(self.literal) <= 40 else f"{self.literal[:37]}..."
        return f"{self.field}={shown or 'absent'} ({len(self.literal)} characters)"


def text(of: str) -> str:
    """A string as a JSON literal."""
    return json.dumps(of)


def each(field: str, code: str, *literals: str) -> Iterator[Bad]:
    """All of the literals are refused with the same code."""
    return (Bad(field, literal, code) for literal in literals)


def frame(base: dict[str, object], **fields: str) -> str:
    """`base` as JSON text, with literals in place of some of its fields."""
    literals = {name: json.dumps(value) for name, value in base.items()} | fields
    return f"{{{','.join(f'{text(k)}:{v}' for k, v in literals.items() if v != ABSENT)}}}"


def start_frame(**fields: str) -> str:
    """A good start, but for the fields given."""
    return frame(start("Hi there!", sampling={"temperature": 0}), **fields)


def object_of(names: Iterable[str], literal: str = "[]") -> str:
    """An object that has the same value under each name."""
    return f"{{{','.join(f'{text(name)}:{literal}' for name in names)}}}"


def list_of(literal: str, count: int) -> str:
    """A list of the same value so many times."""
    return f"[{','.join([literal] * count)}]"


def words(count: int) -> list[str]:
    """So many different words of letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        f"{letters[i // 676 % 26]}{letters[i // 26 % 26]}{letters[i % 26]}" for i in range(count)
    ]


def message(role: str, content: str = '"x"') -> str:
    """A history of one message."""
    return f'[{{"role":{role},"content":{content}}}]'
