"""The quantizers' environments: named by what is in them, whole or not there, made once."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from quantization.errors import ExitCode, QuantizationError
from quantization.home import ROOT, Home, home
from quantization.running import environments, installing
from quantization.running.environments import Environment
from quantization.running.installing import Installer

FULL = """#!/bin/sh
echo "error: failed to write: No space left on device (os error 28)" >&2
exit 2
"""
OFFLINE = """#!/bin/sh
echo "error: Failed to fetch: dns error: failed to lookup address information" >&2
exit 2
"""
# Makes an "environment" that has an interpreter and nothing else, slowly.
WORKS = """#!/bin/sh
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin" && touch "$last/bin/python"
fi
sleep 0.2
echo "$@" >>"{calls}"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(environments, "_ROOM", {False: 0, True: 0})
    return Home(tmp_path / "home")


def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """Put a program in the place of uv."""
    program = tmp_path / "uv"
    program.write_text(text.replace("{calls}", str(tmp_path / "calls")))
    program.chmod(0o755)
    monkeypatch.setattr(installing, "_find_uv", lambda: str(program))
    monkeypatch.setattr(installing, "_pip_settings", dict)  # asking pip takes a second
    return program


def failure(place: Home) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        environments.ensure("llmcompressor", place, cuda=False, say=lambda _: None)
    assert "\n" not in caught.value.message
    left = [path.name for path in place.environments.iterdir() if path.is_dir()]
    assert left == []
    return caught.value


def test_the_pins_of_each_environment() -> None:
    compressor = environments.pins("llmcompressor", cuda=False)
    assert compressor["llmcompressor"] == "0.14.0.1"
    assert compressor["torch"] == "2.13.0+cpu"
    older = environments.pins("autoawq", cuda=False)
    assert (older["autoawq"], older["transformers"]) == ("0.2.9", "4.51.3")
    for backend in ("llmcompressor", "autoawq"):
        gpu = environments.pins(backend, cuda=True)
        assert gpu["torch"] == "2.13.0"
        assert "nvidia-cublas" in gpu
        assert gpu["transformers"] == environments.pins(backend, cuda=False)["transformers"]


def test_a_name_for_each_set_of_packages() -> None:
    one = {"a": "1", "b": "2"}
    assert environments.key(one) == environments.key({"b": "2", "a": "1"})
    assert environments.key(one) != environments.key({"a": "1", "b": "3"})
    names = {
        environments.key(environments.pins(backend, cuda=cuda))
        for backend in ("llmcompressor", "autoawq")
        for cuda in (False, True)
    }
    assert len(names) == 4


def test_an_environment_is_made_once(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv(tmp_path, monkeypatch, WORKS)
    said: list[str] = []
    made: list[Environment] = []

    def make() -> None:
        made.append(environments.ensure("llmcompressor", place, cuda=False, say=said.append))

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.folder for one in made} == {made[0].folder}
    assert made[0].tool == "llmcompressor==0.14.0.1"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len([call for call in calls if call.startswith("venv")]) == 1
    assert any("torch==2.13.0+cpu" in call for call in calls)
    assert len([line for line in said if "this is done once" in line]) == 1
    listed = (made[0].folder / "requirements.txt").read_text().splitlines()
    assert "llmcompressor==0.14.0.1" in listed
    assert not [line for line in listed if line.startswith("torch==")]


def test_what_was_not_finished_is_made_again(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv(tmp_path, monkeypatch, WORKS)
    made = environments.ensure("autoawq", place, cuda=False, say=lambda _: None)
    (made.folder / "environment.json").unlink()
    assert not environments.is_there("autoawq", place, cuda=False)
    again = environments.ensure("autoawq", place, cuda=False, say=lambda _: None)
    assert again == made
    stamp = json.loads((made.folder / "environment.json").read_text())
    assert stamp == environments.pins("autoawq", cuda=False)


def test_a_full_disk(place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv(tmp_path, monkeypatch, FULL)
    error = failure(place)
    assert error.code is ExitCode.NO_ROOM
    assert "the disk is full" in error.message


def test_no_network(place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv(tmp_path, monkeypatch, OFFLINE)
    error = failure(place)
    assert error.code is ExitCode.UNREACHABLE
    assert "the package index cannot be reached" in error.message


def test_too_little_room_is_told_before_anything_is_made(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "_ROOM", {False: 1 << 60, True: 1 << 60})
    error = failure(place)
    assert error.code is ExitCode.NO_ROOM
    assert "GiB are free" in error.message


@pytest.mark.long
def test_pip_where_there_is_no_uv(tmp_path: Path) -> None:
    install = Installer(tmp_path / "log", None)
    (tmp_path / "log").touch()
    install.environment(tmp_path / "made")
    assert (tmp_path / "made" / "bin" / "python").exists()
    assert shutil.which("pip", path=str(tmp_path / "made" / "bin"))
    (tmp_path / "pins").write_text("no-such-package-at-all==0.0.1\n")
    with pytest.raises(QuantizationError) as caught:
        install.packages(tmp_path / "made", tmp_path / "pins", from_source=())
    assert str(tmp_path / "log") in caught.value.message


def test_the_place_that_the_environment_names(tmp_path: Path) -> None:
    assert home({}).root == ROOT / ".cache" / "quantization"
    assert home({"YAP_QUANTIZATION_DIR": str(tmp_path)}).exports == tmp_path / "exports"
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", str(home({}).root)], cwd=ROOT, check=False
    )
    assert ignored.returncode in (0, 128)  # 128: not in a git work tree
