"""A persona: who the assistant can be, and the file that describes one.

A file is front matter between two lines `---` (YAML, but only texts and one list of texts), then
the system prompt. What a file may hold is `Persona`; docs/personas.md is for its authors.
`yap.persona_library` reads a folder of such files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from yap.text import clean_text

PROMPT_MAX_CHARS = 30_150
_MAX_SYNONYMS = 10
_MAX_TEXT = 40


# --- one persona ------------------------------------------------------------------------------


def _refuse(message: str) -> NoReturn:
    # pydantic formats the template with the context, so braces in a message are safe there.
    raise PydanticCustomError("persona", "{message}", {"message": message})


def _shown(value: object) -> str:
    """`value` as an error shows it: on one line, short, nothing invisible."""
    if not isinstance(value, str):
        return "a list"
    short = value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 3] + "..."
    return f'"{repr(short)[1:-1]}"'


def _checked(good: Callable[[str], object], rule: str) -> BeforeValidator:
    """A validator that refuses what is no `good` text, with the rule as its sentence."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not good(value):
            _refuse(f"{rule}, not {_shown(value)}")
        return value

    return BeforeValidator(check)


def _is_short_text(value: str) -> bool:
    return 0 < len(value) <= _MAX_TEXT and value.isprintable() and clean_text(value) == value


def _synonyms(value: object) -> object:
    if not isinstance(value, tuple):
        _refuse(f'synonyms must be a list such as "[warm, kind]", not {_shown(value)}')
    if len(value) > _MAX_SYNONYMS:
        _refuse(f"synonyms has {len(value)} entries; at most {_MAX_SYNONYMS} may be")
    return value


def _distinct(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    words = (info.data.get("personality"), *value)
    twice = next((word for word in value if words.count(word) > 1), None)
    if twice is not None:
        _refuse(f"{_shown(twice)} is there twice among personality and synonyms")
    return value


def _prompt(value: object, info: ValidationInfo) -> object:
    longest = info.context if isinstance(info.context, int) else PROMPT_MAX_CHARS
    if not isinstance(value, str) or not value:
        _refuse("the prompt is empty; write it below the front matter")
    if len(value) > longest:
        _refuse(f"the prompt has {len(value)} characters; at most {longest} may be")
    if clean_text(value) != value:
        _refuse("the prompt holds characters that cleaning would remove or rewrite")
    return value


_NAME = _checked(
    re.compile(r"[a-z][a-z0-9_-]{0,39}").fullmatch,
    "name must be a lower-case ASCII letter, then such letters, digits, - or _, at most 40 in all",
)
_TITLE = _checked(_is_short_text, f"title must be 1 to {_MAX_TEXT} visible characters")
_GENDER = _checked(re.compile("female|male").fullmatch, "gender must be female or male")
_PERSONALITY = _checked(
    re.compile(r"[a-z]{1,20}").fullmatch,
    "personality must be one word of 1 to 20 lower-case ASCII letters",
)
_SYNONYM = _checked(
    lambda value: _is_short_text(value) and value == value.lower(),
    f"a synonym must be 1 to {_MAX_TEXT} visible characters in lower case",
)


class Persona(BaseModel):
    """Who the assistant is. Text is as it goes to the model: checked, never changed.

    `name` is what clients ask for, `title` what people see. `personality` and `synonyms` follow
    the rules of `start`, where they may be listed as they are. Validation takes the most
    characters of a prompt as its context; without one, PROMPT_MAX_CHARS.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, _NAME]
    title: Annotated[str, _TITLE]
    gender: Annotated[Literal["female", "male"], _GENDER]
    personality: Annotated[str, _PERSONALITY]
    synonyms: Annotated[
        tuple[Annotated[str, _SYNONYM], ...],
        BeforeValidator(_synonyms),
        AfterValidator(_distinct),
    ] = ()
    prompt: Annotated[str, BeforeValidator(_prompt)]


_FRONT_FIELDS = tuple(key for key in Persona.model_fields if key != "prompt")


# --- one file ---------------------------------------------------------------------------------


class PersonaError(ValueError):
    """Persona files are not acceptable. `problems` has a line for each: file, line, sentence."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class _Faults(Exception):
    """What is wrong inside one file, as line numbers from 1 and sentences."""

    def __init__(self, *faults: tuple[int, str]) -> None:
        super().__init__(faults)
        self.faults = faults


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of the front matter, and where it stands."""

    value: str | tuple[str, ...]
    line: int
    item_lines: tuple[int, ...] = ()


def parse_persona(text: str, file: str, prompt_max_chars: int = PROMPT_MAX_CHARS) -> Persona:
    """The persona that `text` describes; `file` is what errors call it.

    CRLF and CR count as line ends, and blank lines around the prompt as layout. Everything else
    that cleaning would change is refused.

    Raises:
        PersonaError: with every problem of the file.
    """
    return parse_with_name_line(text, file, prompt_max_chars)[0]


def parse_with_name_line(
    text: str, file: str, prompt_max_chars: int = PROMPT_MAX_CHARS
) -> tuple[Persona, int]:
    """As `parse_persona`, and the line of the name, for errors about it."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    try:
        _check_characters(lines)
        end = _front_matter_end(lines)
        fields = _read_fields("\n".join(lines[1:end]))
        persona = _validate(fields, lines[end + 1 :], end + 1, prompt_max_chars)
    except _Faults as error:
        raise PersonaError(f"{file}:{line}: {what}" for line, what in error.faults) from error
    return persona, fields["name"].line


def _check_characters(lines: Sequence[str]) -> None:
    """Refuse what `clean_text` would change, where it stands."""
    faults = [
        (number, _unclean(line))
        for number, line in enumerate(lines, 1)
        if _cleaned(line) != line or "\u2028" in line or "\u2029" in line
    ]
    if faults:
        raise _Faults(*faults)


def _cleaned(line: str) -> str:
    return clean_text(f".{line}.")[1:-1]  # between dots, blanks at the ends stay


def _unclean(line: str) -> str:
    for char in line:
        called = f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()
        if char in "\u2028\u2029":
            return f"{called} is no line break here; press Enter instead"
        plain = _cleaned(char)
        if not plain:
            return f"{called} is invisible; remove it"
        if plain != char:
            return f"{called} would be rewritten; write {_shown(plain)} instead"
    return "letters and accents are apart; save the file in Unicode normal form C"


def _front_matter_end(lines: Sequence[str]) -> int:
    """The index of the line that closes the front matter."""
    if lines[0].rstrip() != "---":
        raise _Faults((1, 'the file must begin with a line "---", then its fields'))
    for index, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return index
    raise _Faults((1, 'the front matter has no end; write a line "---" after its fields'))


def _read_fields(front: str) -> dict[str, _Field]:
    """The fields of the front matter, which begins in line 2. Every value is text: no is "no".

    Nodes are read as they are written and nothing is constructed from them, so types, tags and
    references have no effect.
    """
    try:
        root = yaml.compose(front, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else 2
        what = f'{error.problem}; text with ": " or " #" in it needs quotes'
        raise _Faults((line, f"the front matter is not YAML: {what}")) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = "the front matter holds characters or nesting that fields cannot have"
        raise _Faults((2, what)) from error
    if not isinstance(root, yaml.MappingNode):
        raise _Faults((2, 'the front matter must hold fields, one "key: value" a line'))
    fields: dict[str, _Field] = {}
    for key, value in root.value:
        name, found = _text(key), _field(key, value)
        if name in fields:
            first = fields[name].line
            raise _Faults((found.line, f"{_shown(name)} is there twice, first in line {first}"))
        fields[name] = found
    return fields


def _field(key: yaml.Node, value: yaml.Node) -> _Field:
    line = _line(key)
    if not isinstance(value, yaml.SequenceNode):
        return _Field(_text(value), line)
    return _Field(tuple(map(_text, value.value)), line, tuple(map(_line, value.value)))


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Faults((_line(node), "a field must be a text or a list of texts"))
    return str(node.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 2


def _validate(
    fields: Mapping[str, _Field], body: Sequence[str], end: int, prompt_max_chars: int
) -> Persona:
    """The persona of these fields and this body, which begins after line `end`."""
    faults = [
        (found.line, f"unknown field {_shown(key)}; the fields are {', '.join(_FRONT_FIELDS)}")
        for key, found in fields.items()
        if key not in _FRONT_FIELDS
    ]
    values = {key: found.value for key, found in fields.items() if key in _FRONT_FIELDS}
    blank = next((i for i, line in enumerate(body, 1) if line.strip()), 1)
    try:
        persona = Persona.model_validate(
            {**values, "prompt": "\n".join(body).strip()}, context=prompt_max_chars
        )
    except ValidationError as error:
        faults += [_fault(found, fields, end, end + blank) for found in error.errors()]
    if faults:
        raise _Faults(*sorted(faults))
    return persona


def _fault(
    error: ErrorDetails, fields: Mapping[str, _Field], end: int, prompt_line: int
) -> tuple[int, str]:
    key, *index = error["loc"]
    if error["type"] == "missing":
        return end, f'{key} is missing; add a line "{key}: ..." to the front matter'
    if key == "prompt":
        return prompt_line, error["msg"]
    found = fields[str(key)]
    return found.item_lines[int(index[0])] if index else found.line, error["msg"]
