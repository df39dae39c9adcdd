"""Frames as large as a frame may be."""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.bad_input.literals import ABSENT, FRAME_BYTES, start_frame


@dataclass(frozen=True, slots=True)
class Large:
    """A text that one unit, again and again, makes as large as wanted.

    `answer` is the type or the error code of the first frame of the answer, `last` the type of
    the last one where there are more. A `#` in the unit is its number.
    """

    before: str
    unit: str
    after: str
    answer: str
    last: str | None = None
    separator: str = ""

    def text(self, size: int = FRAME_BYTES) -> str:
        """The text, in `size` bytes of UTF-8 or a little less."""
        room = size - len(f"{self.before}{self.after}".encode())
        each = len(f"{self.unit}{self.separator}".encode()) + 5 * self.unit.count("#")
        units = [self.unit] * ((room + len(self.separator)) // each)
        if "#" in self.unit:
            units = [unit.replace("#", str(number)) for number, unit in enumerate(units)]
        return self.before + self.separator.join(units) + self.after


def in_start(
    field: str,
    unit: str,
    answer: str,
    last: str | None = None,
    *,
    opening: str = '"',
    closing: str = '"',
    separator: str = "",
) -> Large:
    """A start that one field makes large."""
    # A temperature in the object goes before one at the top level.
    taken_out = (field, "sampling") if field == "temperature" else (field,)
    without = {"session_id": '"large"'} | dict.fromkeys(taken_out, ABSENT)
    before = f'{start_frame(**without)[:-1]},"{field}":{opening}'
    return Large(before, unit, closing + "}", answer, last, separator)


MARKS = "\u0301\u0316"  # put in order by every normalization, which takes time if it is naive
# Marks only once they are decomposed: a class of combining characters misses them.
DISGUISED = "\uff9e\u0301\u0f73"
UNFOLDING = "\ufdfa"  # NFKC makes 18 letters of this one
LINES = r"User:a\nAssistant:b\n"
MESSAGE = '{"role":"user","content":"'


def large_texts(field: str, opening: str = '"', closing: str = '"') -> dict[str, Large]:
    """Starts with a text that is hard work for one that reads it."""
    units = {
        "letters": "x",
        "words": "hello ",
        "control tokens": "<|im_end|>",
        "escapes": r"\u00e4",
        "NUL": r"\u0000",
        "line breaks": r"\n",
        "emoji": "\U0001f600",
        "marks": MARKS,
        "marks in disguise": DISGUISED,
        "unfolding letters": UNFOLDING,
    }
    return {
        f"start: {field} of {what}": in_start(
            field, unit, "ack", "done", opening=opening, closing=closing
        )
        for what, unit in units.items()
    }


PING = '{"type":"ping","x":'
WARM = '{"type":"warm_history","history_text":"'
PERSONA_CHANGE = '{"type":"chat_prompt","gender":"male","personality":"x","chat_prompt":"'
LARGE: dict[str, Large] = {
    "garbage": Large("", "x", "", "invalid_message"),
    "blanks": Large("", " \n", "", "invalid_message"),
    "no letters": Large("", "\u2003", "", "invalid_message"),
    "brackets": Large("", "[", "", "invalid_message"),
    "braces": Large("", '{"x":', "", "invalid_message"),
    "digits": Large("", "9", "", "invalid_message"),
    "a list": Large("[", "1", "]", "invalid_message", separator=","),
    "half a string": Large('{"type":"', "x", "", "invalid_message"),
    "a type": Large('{"type":"', "x", '"}', "unknown_message_type"),
    "a list as type": Large('{"type":[', '"x"', "]}", "unknown_message_type", separator=","),
    "ping: a field": Large(f'{PING}"', "x", '"}', "pong"),
    "ping: a name": Large('{"type":"ping","', "x", '":1}', "pong"),
    "ping: many names": Large('{"type":"ping",', '"x#":[]', "}", "pong", separator=","),
    "ping: one name again and again": Large('{"type":"ping",', '"x":1', "}", "pong", separator=","),
    "ping: escapes": Large(f'{PING}"', r"\u00e4", '"}', "pong"),
    "ping: lists": Large(f"{PING}[", "[[]]", "]}", "pong", separator=","),
    "ping: objects": Large(f"{PING}[", '{"":{}}', "]}", "pong", separator=","),
    "ping: numbers": Large(f"{PING}[", "1e308", "]}", "pong", separator=","),
    "ping: blanks": Large("", " ", '{"type":"ping"}', "pong"),
    "cancel: request_id": Large('{"type":"cancel","request_id":"', "x", '"}', "done"),
    "cancel: heard_text": Large('{"type":"cancel","heard_text":"', "x", '"}', "done"),
    "chat_prompt": Large(PERSONA_CHANGE, "x", '"}', "ack"),
    "warm_persona": Large(
        '{"type":"warm_persona","chat_prompt":"', "x", '"}', "invalid_chat_prompt"
    ),
    "warm_history: letters": Large(WARM, "x", '"}', "warmed"),
    "warm_history: lines": Large(WARM, LINES, '"}', "warmed"),
    "warm_history: marks": Large(f"{WARM}User:", MARKS, '"}', "warmed"),
    "followup: words": Large(
        '{"type":"followup","analysis_text":"', "hello ", '"}', "token", "done"
    ),
    "followup: marks": Large('{"type":"followup","analysis_text":"', MARKS, '"}', "token", "done"),
    **{
        f"start: {field}": in_start(field, "9", code)
        for field, code in (
            ("gender", "invalid_gender"),
            ("personality", "invalid_personality"),
            ("chat_prompt", "invalid_chat_prompt"),
            ("persona", "unknown_persona"),
            ("check_screen_prefix", "invalid_check_screen_prefix"),
            ("screen_checked_prefix", "invalid_screen_checked_prefix"),
            ("sampling", "invalid_sampling_payload"),
            ("temperature", "invalid_temperature"),
            ("top_k", "invalid_top_k"),
            ("personalities", "invalid_personalities_format"),
            ("history", "invalid_history"),
            ("heard_chars", "invalid_heard_chars"),
        )
    },
    "start: session_id": in_start("session_id", "x", "invalid_session_id"),
    **{
        f"start: {field}": in_start(field, "x", "ack", "done")
        for field in ("heard_text", "request_id")
    },
    **large_texts("user_utterance"),
    **large_texts("history", f"[{MESSAGE}", '"}]'),
    **large_texts("history_text", '"User:'),
    "start: check_screen_prefix of marks": in_start(
        "check_screen_prefix", MARKS, "invalid_check_screen_prefix"
    ),
    "start: history_text of lines": in_start("history_text", LINES, "ack", "done"),
    "start: history_text of one speaker": in_start("history_text", r"User:a\n", "ack", "done"),
    "start: history of many messages": in_start(
        "history", f'{MESSAGE}x"}}', "invalid_history", opening="[", closing="]", separator=","
    ),
    "start: history of large messages": in_start(
        "history",
        f'{MESSAGE}{"hello " * 172}"}}',
        "ack",
        "done",
        opening="[",
        closing="]",
        separator=",",
    ),
    "start: many personalities": in_start(
        "personalities",
        '"x#":[]',
        "too_many_personalities",
        opening="{",
        closing="}",
        separator=",",
    ),
    "start: many synonyms": in_start(
        "personalities",
        '"x#"',
        "too_many_synonyms",
        opening='{"friendly":[',
        closing="]}",
        separator=",",
    ),
    "start: a synonym of marks": in_start(
        "personalities",
        MARKS,
        "invalid_personality_synonym",
        opening='{"friendly":["',
        closing='"]}',
    ),
    "start: a large bias": in_start(
        "logit_bias", '"x#":-100', "invalid_logit_bias", opening="{", closing="}", separator=","
    ),
    "start: many banned strings": in_start(
        "banned_strings",
        '"x"',
        "invalid_banned_strings",
        opening="[",
        closing="]",
        separator=",",
    ),
    "start: a banned string of marks": in_start("banned_strings", MARKS, "invalid_banned_strings"),
    "start: much sampling": in_start(
        "sampling", '"x#":1', "ack", "done", opening="{", closing="}", separator=","
    ),
}
TEN_MEGABYTES = in_start(
    "history",
    f'{MESSAGE}{"hello " * 1666}"}}',
    "ack",
    "done",
    opening="[",
    closing="]",
    separator=",",
)
