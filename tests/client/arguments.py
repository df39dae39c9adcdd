"""The flags that the command-line clients share, and what is made of them."""

from __future__ import annotations

import argparse
import math
import os
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from tests.client.endpoint import Endpoint, websocket_url
from tests.client.errors import ExitCode
from tests.client.personas import (
    NAMES,
    Persona,
    PersonaFileError,
    find_persona,
    personality_table,
    plain_persona,
)
from yap.protocol import SAMPLING_FIELDS

PROMPT_MODES = ("auto", "both", "chat", "tool")
_WHOLE = frozenset({"top_k", "dry_allowed_length", "dry_range"})


def parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples, the environment and the exit codes."""
    codes = "\n".join(f"  {code.value:<4} {code.meaning}" for code in ExitCode)
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples.rstrip()}\n\nenvironment:\n{_ENVIRONMENT}\n\n"
        f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_connection(made)
    return made


_ENVIRONMENT = """\
  SERVER_WS_URL, TEXT_API_KEY, RECV_TIMEOUT_SEC, GENDER, PERSONALITY (or PERSONA_STYLE)
       defaults of the flags of these names
  TEST_WS_PING_INTERVAL, TEST_WS_PING_TIMEOUT
       the WebSocket's keep-alive in seconds (20); 0 switches it off"""


def _add_connection(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("connection")
    group.add_argument(
        "--server",
        type=_server,
        default=environment("SERVER_WS_URL", "127.0.0.1:8000"),
        help="host:port or a ws:// or wss:// URL (default: %(default)s)",
    )
    group.add_argument(
        "--api-key",
        type=_key,
        default=environment("TEXT_API_KEY", ""),
        help="the server's key (default: TEXT_API_KEY)",
    )
    group.add_argument(
        "--timeout",
        "--recv-timeout",
        type=positive,
        metavar="S",
        default=environment("RECV_TIMEOUT_SEC", "60"),
        help="longest silence of the server (default: %(default)s)",
    )
    group.add_argument(
        "--retry",
        type=non_negative,
        metavar="S",
        default=3.0,
        help="how long to try for a connection (default: %(default)s)",
    )
    for name in ("interval", "timeout"):
        group.add_argument(
            f"--ping-{name}",
            type=non_negative,
            default=environment(f"TEST_WS_PING_{name.upper()}", "20"),
            help=argparse.SUPPRESS,
        )
    made.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_persona(made: argparse.ArgumentParser) -> None:
    """Who answers."""
    group = made.add_argument_group("persona")
    group.add_argument(
        "--gender",
        type=_gender,
        metavar="{female,male}",
        default=environment("GENDER", "female"),
    )
    group.add_argument(
        "--personality",
        "--style",
        type=str.lower,
        metavar="WORD",
        default=environment("PERSONALITY", environment("PERSONA_STYLE", "friendly")),
        help="one word (default: %(default)s)",
    )
    group.add_argument(
        "--persona",
        type=_persona,
        metavar="NAME|FILE",
        help="a file of prompts/personas/ or of your own, instead of gender and personality",
    )


def add_prompts(made: argparse.ArgumentParser) -> None:
    """What `start` carries, and how replies are sampled."""
    numbers = ", ".join(f"--{name.replace('_', '-')}" for name in SAMPLING_FIELDS)
    group = made.add_argument_group(
        "prompt and sampling", f"Also {numbers}, each with a number; the server has its defaults."
    )
    group.add_argument(
        "--prompt-mode",
        choices=PROMPT_MODES,
        default="auto",
        help="what start carries: the persona's text (chat), the list of personalities (tool), or "
        "both, and that the server must then do; auto sends both and takes the server as it is",
    )
    group.add_argument(
        "--no-chat-prompt",
        dest="prompt_mode",
        action="store_const",
        const="tool",
        help="the same as --prompt-mode tool",
    )
    for name in SAMPLING_FIELDS:
        kind = int if name in _WHOLE else float
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, help=argparse.SUPPRESS)
    group.add_argument(
        "--no-sanitize-output",
        dest="sanitize_output",
        action="store_const",
        const=False,
        help="show replies as the model wrote them",
    )


def environment(name: str, default: str) -> str:
    """A variable; one that is empty counts as not set."""
    return os.environ.get(name) or default


def positive(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def non_negative(text: str) -> float:
    """A number from 0."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return number


def count(low: int, high: int | None = None) -> Any:
    """An argparse type: a whole number from `low` to `high`."""

    def read(text: str) -> int:
        number = int(text)
        if number < low or (high is not None and number > high):
            limits = f"from {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text} is not a whole number {limits}")
        return number

    read.__name__ = "whole number"
    return read


def _server(text: str) -> str:
    try:
        return websocket_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _key(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError("an API key holds only visible ASCII characters")
    return text


def _gender(text: str) -> str:
    gender = text.strip().lower()
    if gender not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r} is neither female nor male")
    return gender


def _persona(text: str) -> Persona:
    try:
        return find_persona(text)
    except PersonaFileError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def endpoint(arguments: argparse.Namespace) -> Endpoint:
    """Where to connect."""
    return Endpoint(
        arguments.server,
        arguments.api_key,
        arguments.timeout,
        arguments.retry,
        arguments.ping_interval or None,
        arguments.ping_timeout or None,
    )


@dataclass(frozen=True, slots=True)
class Setup:
    """What every `start` of a client carries besides the utterance."""

    persona: Persona
    mode: str = "auto"
    sampling: dict[str, float | bool] = field(default_factory=dict)
    others: tuple[Persona, ...] = ()  # further ones that may be switched to
    session_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, utterance: str, **fields: Any) -> dict[str, Any]:
        """The message, less its type."""
        message: dict[str, Any] = {
            "session_id": self.session_id,
            "gender": self.persona.gender,
            "personality": self.persona.personality,
            "user_utterance": utterance,
            **fields,
        }
        if self.mode != "chat":
            message["personalities"] = personality_table(self.persona, *self.others)
        if self.mode != "tool":
            message["chat_prompt"] = self.persona.prompt
        if self.sampling:
            message["sampling"] = self.sampling
        return message

    def with_persona(self, persona: Persona) -> Setup:
        """The same session with another persona."""
        return replace(self, persona=persona)

    def new_session(self) -> Setup:
        """The same in a session that the server has never seen."""
        return replace(self, session_id=uuid.uuid4().hex)


def setup(arguments: argparse.Namespace, prefix: str) -> Setup:
    """What the flags ask for.

    Args:
        prefix: what the session's id begins with, for the server's log.
    """
    persona = getattr(arguments, "persona", None)
    if not isinstance(persona, Persona):
        persona = plain_persona(
            getattr(arguments, "gender", "female"), getattr(arguments, "personality", "friendly")
        )
    names = (*SAMPLING_FIELDS, "sanitize_output")
    given = {name: getattr(arguments, name, None) for name in names}
    return Setup(
        persona,
        arguments.prompt_mode,
        {name: value for name, value in given.items() if value is not None},
        session_id=f"{prefix}-{uuid.uuid4().hex}",
    )
