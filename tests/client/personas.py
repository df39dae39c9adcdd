"""Personas as clients send them: files like those in prompts/personas/, re-read when they change.

The server has a stricter reader (`yap.persona`), which needs more than a client has installed.
This one takes front matter of one line a field; docs/personas.md describes the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.client.places import LIBRARY

FIELDS = ("name", "title", "gender", "personality", "synonyms")
NAMES = {"female": "Anna", "male": "Marc"}
# Said of whoever is asked for without a file.
PERSONALITIES: Mapping[str, tuple[str, ...]] = {
    "friendly": ("warm", "kind"),
    "playful": ("fun", "cheeky"),
    "calm": ("gentle", "relaxed"),
}
_PLAIN = (
    "You are {name}, a {personality} companion. You talk like a good friend: short, warm answers, "
    "and you listen to what the user says."
)


class PersonaFileError(ValueError):
    """A persona file cannot be used; the message says which, and what to write."""


@dataclass(frozen=True, slots=True)
class Persona:
    """Who the assistant is. `prompt` is the text that goes to the model."""

    name: str
    title: str
    gender: str
    personality: str
    prompt: str
    synonyms: tuple[str, ...] = ()


def plain_persona(gender: str, personality: str) -> Persona:
    """A persona made of nothing but these two."""
    title = NAMES[gender]
    return Persona(
        name=title.lower(),
        title=title,
        gender=gender,
        personality=personality,
        prompt=_PLAIN.format(name=title, personality=personality),
        synonyms=PERSONALITIES.get(personality, ()),
    )


def personality_table(*personas: Persona) -> dict[str, list[str]]:
    """`personalities` of a `start`: the usual ones, and those of `personas`, no word twice."""
    table: dict[str, list[str]] = {}
    taken = {persona.personality for persona in personas}
    given = [(persona.personality, persona.synonyms) for persona in personas]
    for name, synonyms in [*given, *PERSONALITIES.items()]:
        if name in table or (name in taken and (name, synonyms) not in given):
            continue
        table[name] = [word for word in synonyms if word not in taken]
        taken |= {name, *synonyms}
    return table


def read_persona(path: Path) -> Persona:
    """The persona of a file.

    Raises:
        PersonaFileError: it cannot be read, or lacks something.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PersonaFileError(f"{path}: cannot be read ({error})") from None
    head, _, rest = f"\n{text}\n".partition("\n---\n")
    front, separator, body = rest.partition("\n---\n")
    if head.strip() or not separator:
        raise PersonaFileError(f'{path}: must begin with fields between two lines "---"')
    fields = dict(_fields(path, front))
    prompt = body.strip()
    if missing := [name for name in FIELDS[:-1] if not fields.get(name)]:
        raise PersonaFileError(f"{path}: {missing[0]} is missing; add a line to the front matter")
    if fields["gender"] not in NAMES:
        raise PersonaFileError(f"{path}: gender must be female or male")
    if not prompt:
        raise PersonaFileError(f"{path}: the prompt is empty; write it below the front matter")
    return Persona(
        name=fields["name"],
        title=fields["title"],
        gender=fields["gender"],
        personality=fields["personality"],
        synonyms=_words(fields.get("synonyms", "")),
        prompt=prompt,
    )


def _fields(path: Path, front: str) -> Iterator[tuple[str, str]]:
    for line in front.splitlines():
        if not line.strip():
            continue
        key, colon, value = line.partition(":")
        if not colon or key.strip() not in FIELDS:
            raise PersonaFileError(f"{path}: {line.strip()!r} is none of {', '.join(FIELDS)}")
        yield key.strip(), value.strip().strip("'\"")


def _words(value: str) -> tuple[str, ...]:
    inner = value.removeprefix("[").removesuffix("]")
    return tuple(word.strip().strip("'\"") for word in inner.split(",") if word.strip())


def find_persona(wanted: str, folder: Path = LIBRARY) -> Persona:
    """A persona by file, or by its name in `folder`.

    Raises:
        PersonaFileError: there is none, or it cannot be used.
    """
    path = Path(wanted)
    if path.suffix == ".md" or path.is_file():
        return read_persona(path)
    named = folder / f"{wanted.lower()}.md"
    if not named.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.md"))) or "nothing"
        raise PersonaFileError(f"there is no persona {wanted!r} in {folder}; there is {there}")
    return read_persona(named)


@dataclass(slots=True)
class Wardrobe:
    """The personas of files, and of the files in folders. `refresh` reads what was edited since.

    Attributes:
        problems: what is wrong with files, by file; their last good version stays.
    """

    sources: list[Path]
    personas: dict[str, Persona] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    _seen: dict[Path, tuple[tuple[int, int, int], str | None]] = field(default_factory=dict)

    def refresh(self) -> list[str]:
        """Read what changed; the names of personas that are new, edited or gone."""
        files = {path: _signature(path) for source in self.sources for path in _files(source)}
        changed = [self._drop(path) for path in list(self._seen) if path not in files]
        for path, signature in files.items():
            if self._seen.get(path, (None, None))[0] != signature:
                changed += self._read(path, signature)
        return [name for name in changed if name]

    def _read(self, path: Path, signature: tuple[int, int, int]) -> list[str]:
        before = self._seen.get(path, (signature, None))[1]
        try:
            persona = read_persona(path)
        except PersonaFileError as error:
            self.problems[path] = str(error)
            self._seen[path] = signature, before
            return []
        self.problems.pop(path, None)
        if before not in (None, persona.name):
            self.personas.pop(str(before), None)
        old = self.personas.get(persona.name)
        self.personas[persona.name] = persona
        self._seen[path] = signature, persona.name
        return [persona.name] if old != persona else []

    def _drop(self, path: Path) -> str | None:
        self.problems.pop(path, None)
        name = self._seen.pop(path)[1]
        if name is not None:
            self.personas.pop(name, None)
        return name


def _files(source: Path) -> list[Path]:
    return sorted(source.glob("[!.]*.md")) if source.is_dir() else [source]


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino
