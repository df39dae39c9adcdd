"""The persona library: the personas of a folder, one file each, edited while the server runs.

What a file holds is in `yap.persona`. To list a library, or get exit code 1 and its problems:

    python -m yap.persona_library [folder]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from yap.errors import StartupError
from yap.persona import PROMPT_MAX_CHARS, Persona, PersonaError, parse_with_name_line
from yap.setting_kinds import ROOT

log = logging.getLogger(__name__)

DEFAULT_FOLDER = ROOT / "prompts" / "personas"
MAX_PERSONAS = 500
MAX_FILE_BYTES = 64 * 1024

_Signature = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _File:
    """What a file said when it was read; no persona where it is not acceptable."""

    signature: _Signature
    persona: Persona | None = None
    name_line: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _State:
    """All that readers see. It is replaced as a whole, so that nobody sees half a change."""

    files: Mapping[str, _File] = field(default_factory=dict)
    served: Mapping[str, Persona] = field(default_factory=dict)  # by file
    personas: Mapping[str, Persona] = field(default_factory=dict)  # by name, in order
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by file or folder
    revision: int = 0


class PersonaLibrary:
    """The personas of a folder: its `*.md` files, hidden ones left out.

    Looking up is a dictionary access and may be done anywhere; `load` and `refresh` read files
    and belong off the event loop.
    """

    def __init__(self, folder: Path, prompt_max_chars: int = PROMPT_MAX_CHARS) -> None:
        self._folder = folder
        self._prompt_max_chars = prompt_max_chars
        self._state = _State()
        self._lock = threading.Lock()

    @property
    def revision(self) -> int:
        """Grows by one with each change of any persona; a file saved unchanged is no change."""
        return self._state.revision

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in alphabetical order."""
        return tuple(self._state.personas)

    def get(self, name: str) -> Persona | None:
        """The persona of this name, in whatever case it is written; None where there is none."""
        return self._state.personas.get(name.lower())

    def __iter__(self) -> Iterator[Persona]:
        """The personas of this moment, by name."""
        return iter(tuple(self._state.personas.values()))

    def __len__(self) -> int:
        return len(self._state.personas)

    def load(self) -> None:
        """Read the folder; nothing is taken over from one with a problem.

        Raises:
            StartupError: with one line for each problem.
        """
        with self._lock:
            state = self._scan(self._state)
            problems = [line for lines in state.problems.values() for line in lines]
            if problems:
                raise StartupError("\n".join(problems))
            self._state = state

    def refresh(self) -> bool:
        """Take over what changed in the folder; True where a persona is another one now.

        A file that is no longer acceptable keeps its last good version, and a folder that cannot
        be read changes nothing; the log says so once.
        """
        with self._lock:
            old, new = self._state, self._scan(self._state)
            self._state = new
            _report(old, new)
            return new.revision != old.revision

    async def watch(
        self, interval: float, on_change: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Refresh every `interval` seconds (above 0) until cancelled, in a thread.

        Args:
            on_change: awaited after each refresh that changed a persona.
        """
        while True:
            await asyncio.sleep(interval)
            try:
                if await asyncio.to_thread(self.refresh) and on_change is not None:
                    await on_change()
            except Exception:
                log.exception("The personas could not be refreshed; the last ones stay")

    def _scan(self, old: _State) -> _State:
        try:
            signatures = _list(self._folder)
        except PersonaError as error:
            return replace(old, problems={**old.problems, str(self._folder): error.problems})
        files = {
            path: self._read(path, signature, old.files.get(path))
            for path, signature in sorted(signatures.items())
        }
        served, problems = _settle(files, old.served)
        personas = {p.name: p for p in sorted(served.values(), key=lambda p: p.name)}
        changed = personas != old.personas
        return _State(files, served, personas, problems, old.revision + changed)

    def _read(self, path: str, signature: _Signature, known: _File | None) -> _File:
        if known is not None and known.signature == signature:
            return known
        try:
            persona, name_line = parse_with_name_line(
                _read_text(path), path, self._prompt_max_chars
            )
        except PersonaError as error:
            return _File(signature, problems=error.problems)
        return _File(signature, persona, name_line)


def _list(folder: Path) -> dict[str, _Signature]:
    """The persona files by path. A signature changes with the content, and with access rights."""
    found: dict[str, _Signature] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.endswith(".md"):
                    continue
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    if entry.is_file():
                        stat = entry.stat()
                        found[entry.path] = (
                            stat.st_mtime_ns,
                            stat.st_ctime_ns,
                            stat.st_size,
                            stat.st_ino,
                        )
                if len(found) > MAX_PERSONAS:
                    raise PersonaError([f"{folder}: at most {MAX_PERSONAS} personas may be here"])
    except OSError as error:
        where = error.filename or folder
        raise PersonaError([f"{where}: cannot be read: {error.strerror}"]) from error
    return found


def _read_text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PersonaError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(data) > MAX_FILE_BYTES:
        raise PersonaError([f"{path}: the file is over {MAX_FILE_BYTES} bytes; shorten it"])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PersonaError([f"{path}:{line}: this is not UTF-8; save the file as UTF-8"]) from error


def _settle(
    files: Mapping[str, _File], served: Mapping[str, Persona]
) -> tuple[dict[str, Persona], dict[str, tuple[str, ...]]]:
    """What each file serves from now on, and the problems by file.

    A name belongs to the file that serves it already, or else to the first that claims it. A file
    that may not have what it claims keeps what it served, where that name is still free.
    """
    problems = {path: file.problems for path, file in files.items() if file.problems}
    claims = {
        path: claim
        for path, file in files.items()
        if (claim := file.persona or served.get(path)) is not None
    }

    def is_new(path: str) -> bool:
        return path not in served or served[path].name != claims[path].name

    owners: dict[str, str] = {}
    for path in sorted(claims, key=lambda path: (is_new(path), path)):
        name = claims[path].name
        owner = owners.setdefault(name, path)
        if owner != path:
            problems[path] = (
                f'{path}:{files[path].name_line}: name "{name}" is taken by '
                f"{owner}:{files[owner].name_line}; choose another",
            )
    result = {path: claims[path] for path in owners.values()}
    for path, last in served.items():
        if path in claims and path not in result and last.name not in owners:
            result[path] = last
    return result, problems


def _report(old: _State, new: _State) -> None:
    """Log the problems of files that changed, and what is served now."""
    for path, problems in new.problems.items():
        same_file = old.files.get(path) is new.files.get(path)
        if same_file and old.problems.get(path) == problems:
            continue
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        kept = path in new.served or path not in new.files
        effect = "the last good version stays" if kept else "it is not served"
        log.error("%s%s; %s", "; ".join(problems[:3]), more, effect)
    if new.revision != old.revision:
        changed = [
            name
            for name in sorted({*old.personas, *new.personas})
            if old.personas.get(name) != new.personas.get(name)
        ]
        log.info("Personas changed: %s; now %d", ", ".join(changed), len(new.personas))


# --- the command line -------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """List a library on stdout, or its problems on stderr. Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m yap.persona_library", description="Checks a library."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    folder: Path = parser.parse_args(arguments).folder
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    library = PersonaLibrary(folder)
    try:
        library.load()
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    line = "{:<14}{:<18}{:<8}{:<14}{:>6}  {}\n".format
    sys.stdout.write(line("NAME", "TITLE", "GENDER", "PERSONALITY", "WORDS", "SYNONYMS"))
    for who in library:
        words, synonyms = len(who.prompt.split()), ", ".join(who.synonyms)
        row = line(who.name, who.title, who.gender, who.personality, words, synonyms)
        sys.stdout.write(row.rstrip() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
