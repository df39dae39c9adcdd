"""Personas are files that people edit while the server runs: a change is taken over whole."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.persona_files import PROMPT, page
from yap.errors import StartupError
from yap.persona import PersonaError, parse_persona
from yap.persona_library import (
    DEFAULT_FOLDER,
    MAX_FILE_BYTES,
    MAX_PERSONAS,
    PersonaLibrary,
    main,
)
from yap.protocol import Start
from yap.setting_kinds import ROOT
from yap.settings import Settings

TICK = 0.02  # seconds between two looks of a watcher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "anna.md", page())
    save(tmp_path / "otis.md", page(name="otis", title="Otis", gender="male"))
    return tmp_path


def save(path: Path, text: str) -> None:
    """Write as most editors do: aside, then over the old file."""
    aside = path.with_suffix(".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


@pytest.fixture
def library(folder: Path) -> PersonaLibrary:
    loaded = PersonaLibrary(folder)
    loaded.load()
    return loaded


def prompt_of(library: PersonaLibrary, name: str) -> str:
    persona = library.get(name)
    assert persona is not None
    return persona.prompt


def startup_problems(folder: Path) -> list[str]:
    library = PersonaLibrary(folder)
    with pytest.raises(StartupError) as raised:
        library.load()
    assert len(library) == library.revision == 0
    return [line.removeprefix(f"{folder}/") for line in str(raised.value).split("\n")]


def test_a_library_holds_the_personas_of_its_folder(library: PersonaLibrary) -> None:
    assert library.names == ("anna", "otis")
    assert [persona.title for persona in library] == ["Anna", "Otis"]
    assert len(library) == 2
    assert library.revision == 1


def test_a_persona_is_found_by_its_name_in_any_case_and_by_nothing_else(
    library: PersonaLibrary,
) -> None:
    anna = library.get("anna")
    assert anna is not None
    assert library.get("Anna") is library.get("ANNA") is anna
    for other in ("", "friendly", "warm", "anna.md", " anna", "ann"):
        assert library.get(other) is None


def test_other_files_are_left_alone(folder: Path) -> None:
    for name in (".anna.md.swp", ".hidden.md", "notes.txt", "anna.md~", "README"):
        save(folder / name, "no persona")
    (folder / "folder.md").mkdir()
    (folder / "dangling.md").symlink_to(folder / "nowhere")
    library = PersonaLibrary(folder)
    library.load()
    assert library.names == ("anna", "otis")


def test_a_link_is_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "june"
    save(target, page(name="june"))
    (folder / "june.md").symlink_to(target)
    library = PersonaLibrary(folder)
    library.load()
    assert "june" in library.names


def test_an_empty_folder_is_an_empty_library(tmp_path: Path) -> None:
    library = PersonaLibrary(tmp_path)
    library.load()
    assert library.names == ()


def test_a_start_with_problems_names_them_all(folder: Path) -> None:
    save(folder / "a.md", page(name="a", gender="x", title=""))
    save(folder / "b.md", "no persona")
    (folder / "c.md").write_bytes(page(name="c").encode() + b"\xff\xfe")
    save(folder / "d.md", page(name="d", prompt="x" * MAX_FILE_BYTES))
    found = startup_problems(folder)
    assert [line.split(" ")[0] for line in found] == [
        "a.md:3:",
        "a.md:4:",
        "b.md:1:",
        "c.md:12:",
        "d.md:",
    ]
    assert found[3] == "c.md:12: this is not UTF-8; save the file as UTF-8"
    assert found[4] == "d.md: the file is over 65536 bytes; shorten it"


def test_two_files_of_one_name_are_both_told(folder: Path) -> None:
    save(folder / "twin.md", page())
    (found,) = startup_problems(folder)
    assert found == f'twin.md:2: name "anna" is taken by {folder}/anna.md:2; choose another'


def test_a_missing_folder_stops_the_start(tmp_path: Path) -> None:
    (found,) = startup_problems(tmp_path / "personas")
    assert found == f"{tmp_path}/personas: cannot be read: No such file or directory"


def test_the_number_of_personas_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_PERSONAS):
        (tmp_path / f"{number}.md").write_text(page(name=f"p{number}"))
    library = PersonaLibrary(tmp_path)
    library.load()
    assert len(library) == MAX_PERSONAS
    (tmp_path / "more.md").write_text(page(name="more"))
    assert startup_problems(tmp_path) == [f"{tmp_path}: at most 500 personas may be here"]
    assert library.refresh() is False
    assert len(library) == MAX_PERSONAS


# Changes while the server runs


def test_a_changed_an_added_and_a_removed_file_are_taken_over(
    folder: Path, library: PersonaLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "yap.persona_library")
    save(folder / "anna.md", page(prompt="You are Anna, at last."))
    save(folder / "june.md", page(name="june"))
    (folder / "otis.md").unlink()
    assert library.refresh() is True
    assert library.names == ("anna", "june")
    assert prompt_of(library, "anna") == "You are Anna, at last."
    assert library.revision == 2
    assert caplog.messages == ["Personas changed: anna, june, otis; now 2"]


def test_a_file_written_in_place_is_taken_over(folder: Path, library: PersonaLibrary) -> None:
    (folder / "anna.md").write_text(page(prompt="You are Anna, in place."))
    assert library.refresh() is True
    assert prompt_of(library, "anna") == "You are Anna, in place."


def test_a_change_of_equal_size_and_time_is_seen(folder: Path, library: PersonaLibrary) -> None:
    path = folder / "anna.md"
    before = path.stat()
    path.write_text(page(prompt=PROMPT.upper()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert library.refresh() is True
    assert prompt_of(library, "anna") == PROMPT.upper()


def test_nothing_changes_where_nothing_changed(
    folder: Path, library: PersonaLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = library.get("anna")
    (folder / "anna.md").touch()
    assert library.refresh() is False
    # Unchanged files are not read.
    monkeypatch.setattr("yap.persona_library._read_text", pytest.fail)
    assert library.refresh() is False
    assert library.revision == 1
    assert library.get("anna") == anna


def test_an_invalid_edit_keeps_the_last_good_version_and_is_told_once(
    folder: Path, library: PersonaLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder / "anna.md", page(gender="woman"))
    for _ in range(3):
        assert library.refresh() is False
    assert prompt_of(library, "anna") == PROMPT
    (message,) = caplog.messages
    assert message == (
        f'{folder}/anna.md:4: gender must be female or male, not "woman"; '
        "the last good version stays"
    )
    save(folder / "anna.md", page(gender="woman"))  # saved again, told again
    library.refresh()
    assert len(caplog.messages) == 2
    save(folder / "anna.md", page(prompt="You are Anna, mended."))
    assert library.refresh() is True
    assert prompt_of(library, "anna") == "You are Anna, mended."


def test_a_new_file_with_many_problems_is_told_in_short_and_not_served(
    folder: Path, library: PersonaLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder / "new.md", page(prompt="\n".join(["\u200eHi"] * 50)))
    assert library.refresh() is False
    assert library.names == ("anna", "otis")
    (message,) = caplog.messages
    assert message.endswith(" (and 47 more); it is not served")


def test_a_removed_file_takes_its_last_good_version_with_it(
    folder: Path, library: PersonaLibrary
) -> None:
    save(folder / "anna.md", "broken")
    library.refresh()
    (folder / "anna.md").unlink()
    assert library.refresh() is True
    assert library.names == ("otis",)


def test_a_newcomer_takes_no_name_until_it_is_free(
    folder: Path, library: PersonaLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder / "aaa.md", page(prompt="You are the other Anna."))
    for _ in range(2):
        assert library.refresh() is False
    assert prompt_of(library, "anna") == PROMPT
    (message,) = caplog.messages
    assert f'aaa.md:2: name "anna" is taken by {folder}/anna.md:2' in message
    save(folder / "anna.md", "broken")  # still holds its name
    assert library.refresh() is False
    (folder / "anna.md").unlink()
    assert library.refresh() is True
    assert prompt_of(library, "anna") == "You are the other Anna."


def test_a_file_that_claims_a_taken_name_keeps_its_own(
    folder: Path, library: PersonaLibrary
) -> None:
    save(folder / "otis.md", page())
    assert library.refresh() is False
    assert library.names == ("anna", "otis")


def test_two_files_may_swap_their_names(folder: Path, library: PersonaLibrary) -> None:
    save(folder / "anna.md", page(name="otis", prompt="one"))
    save(folder / "otis.md", page(name="anna", prompt="two"))
    assert library.refresh() is True
    assert (prompt_of(library, "anna"), prompt_of(library, "otis")) == ("two", "one")


def test_a_folder_that_goes_away_changes_nothing_and_is_told_once(
    folder: Path, library: PersonaLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    away = folder.rename(folder.with_name("away"))
    for _ in range(3):
        assert library.refresh() is False
    assert library.names == ("anna", "otis")
    assert len(caplog.messages) == 1
    away.rename(folder)
    save(folder / "anna.md", page(prompt="You are Anna, back."))
    assert library.refresh() is True
    assert prompt_of(library, "anna") == "You are Anna, back."


def test_readers_see_the_old_or_the_new_and_never_half(tmp_path: Path) -> None:
    def write(version: int) -> None:
        for number in range(5):
            fields = {"name": f"p{number}", "title": f"v{version}"}
            save(tmp_path / f"{number}.md", page(**fields, prompt=f"v{version}"))

    write(0)
    library = PersonaLibrary(tmp_path)
    library.load()
    done = threading.Event()
    seen: set[tuple[str, ...]] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(tuple(f"{p.name} {p.title} {p.prompt}" for p in library))

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(1, 8):
        write(version)
        library.refresh()
    done.set()
    reader.join()
    whole = {tuple(f"p{n} v{v} v{v}" for n in range(5)) for v in range(8)}
    assert seen <= whole


# The watcher


@pytest.fixture
async def watched(library: PersonaLibrary, no_task_left: None) -> AsyncIterator[PersonaLibrary]:
    """A library whose changes are picked up."""
    task = asyncio.create_task(library.watch(TICK))
    yield library
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def becomes_true(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what threads and files do sets no event
            await asyncio.sleep(TICK / 4)


async def test_an_edit_is_picked_up(folder: Path, watched: PersonaLibrary) -> None:
    save(folder / "anna.md", page(prompt="You are Anna, edited."))
    await becomes_true(lambda: prompt_of(watched, "anna") == "You are Anna, edited.")
    save(folder / "june.md", page(name="june"))
    await becomes_true(lambda: watched.get("june"))
    (folder / "june.md").unlink()
    await becomes_true(lambda: watched.get("june") is None)
    assert watched.revision == 4


async def test_an_invalid_edit_is_survived(
    folder: Path, watched: PersonaLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder / "anna.md", "broken")
    await becomes_true(lambda: caplog.messages)
    assert prompt_of(watched, "anna") == PROMPT
    save(folder / "anna.md", page(prompt="You are Anna, mended."))
    await becomes_true(lambda: prompt_of(watched, "anna") == "You are Anna, mended.")
    assert len(caplog.messages) == 1


async def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    folder: Path,
    watched: PersonaLibrary,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(folder: Path) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("yap.persona_library._list", fail)
        await becomes_true(lambda: len(caplog.records) > 1)
    assert caplog.records[0].exc_info is not None
    save(folder / "anna.md", page(prompt="You are Anna, again."))
    await becomes_true(lambda: prompt_of(watched, "anna") == "You are Anna, again.")


async def test_slow_files_do_not_hold_the_event_loop(
    watched: PersonaLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def slow(folder: Path) -> dict[str, object]:
        looked.set()
        time.sleep(0.3)
        raise PersonaError(["slow"])

    monkeypatch.setattr("yap.persona_library._list", slow)
    await becomes_true(looked.is_set)
    began = time.monotonic()
    await asyncio.sleep(0.01)
    assert time.monotonic() - began < 0.2


# The personas that come with the project


@pytest.fixture(scope="module")
def shipped() -> PersonaLibrary:
    library = PersonaLibrary(DEFAULT_FOLDER)
    library.load()
    return library


def test_there_are_as_many_women_as_men(shipped: PersonaLibrary) -> None:
    genders = [persona.gender for persona in shipped]
    assert genders.count("female") == genders.count("male") == 3


def test_a_personality_or_synonym_leads_to_one_persona(shipped: PersonaLibrary) -> None:
    words = [word for persona in shipped for word in (persona.personality, *persona.synonyms)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("path", sorted(DEFAULT_FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_shipped_persona_is_ready_for_a_voice_call(path: Path, settings: Settings) -> None:
    persona = parse_persona(path.read_text(encoding="utf-8"), str(path))
    assert path.stem == persona.name
    assert persona.prompt.startswith(f"You are {persona.title}, a ")
    assert 150 <= len(persona.prompt.split()) <= 450
    assert settings.check_screen_prefix in persona.prompt
    assert settings.screen_checked_prefix in persona.prompt
    assert re.fullmatch(r"[ -~\n]+", persona.prompt)  # speakable as it is
    assert not re.search(r"[*#_`<>|]", persona.prompt)


def test_a_persona_fits_a_start_as_it_is(shipped: PersonaLibrary) -> None:
    table = {persona.personality: list(persona.synonyms) for persona in shipped}
    for persona in shipped:
        start = Start.model_validate(
            {
                "session_id": "s1",
                "gender": persona.gender,
                "personality": persona.personality,
                "chat_prompt": persona.prompt,
                "personalities": table,
            }
        )
        assert start.chat_prompt == persona.prompt
        assert start.personality == persona.personality


# The command line


def test_the_command_lists_a_library(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, anna, otis = out.splitlines()
    assert head.split() == ["NAME", "TITLE", "GENDER", "PERSONALITY", "WORDS", "SYNONYMS"]
    assert anna.split() == ["anna", "Anna", "female", "friendly", "6", "warm,", "big", "hearted"]
    assert otis.startswith("otis")


def test_the_command_tells_the_problems_and_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder / "anna.md", page(gender="woman"))
    save(folder / "otis.md", "broken")
    monkeypatch.chdir(folder.parent)
    assert main([str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f'{folder.name}/anna.md:4: gender must be female or male, not "woman"',
        f'{folder.name}/otis.md:1: the file must begin with a line "---", then its fields',
    ]


def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "yap.persona_library"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    assert "anna" in done.stdout
