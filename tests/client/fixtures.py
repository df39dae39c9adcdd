"""What the clients say: conversations, screens and labelled cases from tests/fixtures/."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.client.places import FIXTURES

CONVERSATIONS = FIXTURES / "conversations"
SCREENS = FIXTURES / "screens.json"
TOOL_CASES = FIXTURES / "tool_cases.jsonl"
PERSONAS = FIXTURES / "personas"


class _Fixture(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Text = Annotated[str, Field(min_length=1)]
M = TypeVar("M", bound=_Fixture)


class Line(_Fixture):
    """What the user says; a right answer holds one of `expect`, in whatever case."""

    say: Text
    expect: tuple[Text, ...] = ()

    def is_answered_by(self, reply: str) -> bool:
        """Whether the reply holds what is expected."""
        return any(word.lower() in reply.lower() for word in self.expect)


class Script(_Fixture):
    """A conversation."""

    name: Text
    lines: Annotated[tuple[Line, ...], Field(min_length=1)]


class Screen(_Fixture):
    """What the user says about a screen, and what a vision model saw on it."""

    name: Text
    before: tuple[Text, ...] = ()
    say: Text
    analysis: Text


class Screens(_Fixture):
    """All of them."""

    screens: Annotated[tuple[Screen, ...], Field(min_length=1)]


class Step(_Fixture):
    """An utterance; `yes` means that a screenshot is to be taken, and it or `no` is right."""

    say: Text
    expect: Literal["yes", "no"]


class ToolCase(_Fixture):
    """A conversation whose every utterance has a right decision."""

    name: Text
    kind: Text
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


def script_names() -> list[str]:
    """The conversations of this project."""
    return sorted(path.stem for path in CONVERSATIONS.glob("*.json"))


def find_script(wanted: str) -> Script:
    """A conversation by name or file; an argparse type."""
    named = CONVERSATIONS / f"{wanted}.json"
    path = named if named.is_file() else Path(wanted)
    if not path.exists():
        known = ", ".join(script_names())
        raise argparse.ArgumentTypeError(f"{wanted} is neither a file nor one of {known}")
    return _read(Script, path, _text(path))


def read_screens(path: str) -> tuple[Screen, ...]:
    """The screens of a file; an argparse type."""
    return _read(Screens, Path(path), _text(Path(path))).screens


def read_cases(path: str) -> tuple[ToolCase, ...]:
    """The labelled cases of a file, one JSON object a line; an argparse type."""
    file = Path(path)
    lines = [line for line in _text(file).splitlines() if line.strip()]
    if not lines:
        raise argparse.ArgumentTypeError(f"{path} holds no case")
    return tuple(_read(ToolCase, file, line) for line in lines)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read ({error})") from None


def _read(model: type[M], path: Path, text: str) -> M:
    try:
        return model.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{path} is not JSON ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise argparse.ArgumentTypeError(f"{path}: {where}: {first['msg']}") from None
