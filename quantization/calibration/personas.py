"""Talks with personas: what the service will run the model on.

A folder, or its subfolder `personas`, holds personas as the service reads them (`NAME.md`). Beside
one of them may lie `NAME.jsonl` with talks of that persona, a row each in any shape of
quantization.calibration.rows; a persona without talks of its own is given those that come with the
project. The persona's prompt is the system message; where it would take more than half of a
sequence, it is cut behind the last paragraph, or else the last sentence, that fits, so that there
is room to talk.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantization.calibration import bundled, files
from quantization.calibration.rows import Message, NotUnderstood, Talk, document
from quantization.errors import ExitCode, QuantizationError
from yap.persona import PersonaError, parse_persona


@dataclass(frozen=True, slots=True)
class Voice:
    """A persona's name and system prompt, and talks of its own."""

    name: str
    prompt: str
    talks: tuple[Talk, ...]


def read(folder: Path) -> list[Voice]:
    """The personas of a folder, by the names of their files.

    Raises:
        QuantizationError: there is none, or a file is not acceptable.
    """
    folder = _inside(folder)
    if not folder.is_dir():
        raise QuantizationError(
            f'There is no folder of personas "{folder}": give one, such as prompts/personas.',
            ExitCode.NOT_FOUND,
        )
    found = [_voice(path) for path in sorted(folder.glob("*.md")) if not _hidden(path)]
    if not found:
        raise QuantizationError(
            f'The folder "{folder}" holds no persona: a persona is a file NAME.md with front '
            "matter and a prompt.",
            ExitCode.NOT_FOUND,
        )
    return found


def digest(folder: Path) -> str:
    """The SHA-256 of all that `read` reads."""
    whole = hashlib.sha256()
    folder = _inside(folder)
    paths = sorted([*folder.glob("*.md"), *folder.glob("*.jsonl")])
    for path in paths:
        if not _hidden(path):
            whole.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def talks(
    voices: Sequence[Voice], room: int, count: Callable[[str], int], seed: int
) -> list[tuple[str, Talk]]:
    """Each persona with each of its talks, in an order drawn by the seed; names beside them.

    Args:
        room: tokens that a prompt may have.
        count: counts the tokens of a text.
    """
    common = [one for one in bundled.documents() if isinstance(one, Talk)]
    made = []
    for voice in voices:
        prompt = fitted(voice.prompt, room, count)
        for talk in voice.talks or common:
            turns = tuple(one for one in talk.messages if one.role != "system")
            made.append((voice.name, Talk((Message("system", prompt), *turns))))
    random.Random(seed).shuffle(made)  # noqa: S311 - a draw, not a secret
    return made


def fitted(prompt: str, room: int, count: Callable[[str], int]) -> str:
    """As much of a prompt as `room` tokens hold, in whole paragraphs, or else in sentences.

    The first sentence stays, however long it is.
    """
    if count(prompt) <= room:
        return prompt
    for parts, joint in (
        (re.split(r"\n\s*\n", prompt), "\n\n"),
        (re.split(r"(?<=[.!?])\s+", prompt), " "),
    ):
        kept = _fitting(parts, joint, room, count)
        if kept:
            return joint.join(parts[:kept])
    return re.split(r"(?<=[.!?])\s+", prompt)[0]


def _fitting(parts: Sequence[str], joint: str, room: int, count: Callable[[str], int]) -> int:
    kept = 0
    while kept < len(parts) and count(joint.join(parts[: kept + 1])) <= room:
        kept += 1
    return kept


def _inside(folder: Path) -> Path:
    """The folder itself, or its `personas`, so that `prompts` will do."""
    inside = folder / "personas"
    return inside if inside.is_dir() else folder


def _voice(path: Path) -> Voice:
    try:
        persona = parse_persona(path.read_text(encoding="utf-8"), str(path))
    except PersonaError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise QuantizationError(f"{error.problems[0]}{more}.", ExitCode.USAGE) from error
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizationError(
            f"The persona {path} cannot be read ({error}): save it as UTF-8 text.", ExitCode.USAGE
        ) from error
    return Voice(persona.name, persona.prompt, _own_talks(path.with_suffix(".jsonl")))


def _own_talks(path: Path) -> tuple[Talk, ...]:
    if not path.is_file():
        return ()
    found = []
    for row in files.rows(path):
        try:
            talk = document(row.value)
        except NotUnderstood as error:
            raise _no_talk(row.place, str(error)) from error
        if not isinstance(talk, Talk):
            raise _no_talk(row.place, "a row without an answer" if talk is None else "plain text")
        found.append(talk)
    return tuple(found)


def _no_talk(place: str, what: str) -> QuantizationError:
    return QuantizationError(
        f'{place} is no talk with a persona ({what}): write {{"messages": [{{"role": "user", '
        '"content": "..."}, ...]}.',
        ExitCode.USAGE,
    )


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
