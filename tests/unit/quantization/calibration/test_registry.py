"""What a name of calibration data means."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantization.calibration.registry import (
    ALIASES,
    FALLBACKS,
    REGISTERED,
    BundledData,
    HubData,
    LocalData,
    resolve,
)
from quantization.errors import ExitCode, QuantizationError


def test_the_default_is_open_platypus() -> None:
    found = resolve("open_platypus")
    assert isinstance(found.data, HubData) and found.data.id == "garage-bAInd/Open-Platypus"
    assert (found.effective, found.fallback_from) == ("open_platypus", None)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_mean_registered_names(alias: str, name: str) -> None:
    found = resolve(alias.upper())
    assert found.data == REGISTERED[name]
    assert (found.requested, found.effective) == (alias.upper(), name)
    assert found.fallback_from is None


@pytest.mark.parametrize("name", FALLBACKS)
def test_fallbacks_are_recorded(name: str) -> None:
    found = resolve(name)
    assert (found.effective, found.fallback_from) == ("open_platypus", name)


def test_every_registered_name_is_complete() -> None:
    for name, data in REGISTERED.items():
        assert name == name.lower() and resolve(name).data == data
        if isinstance(data, HubData):
            assert data.split and data.licence and "/" in data.id


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("org/name", HubData("org/name")),
        ("org/name:sub", HubData("org/name", "sub")),
        ("org/name:sub:test", HubData("org/name", "sub", "test")),
        ("org/name::test", HubData("org/name", None, "test")),
        ("org/name@v1.0:sub", HubData("org/name", "sub", None, "v1.0")),
        ("org/name@refs/pr/3", HubData("org/name", revision="refs/pr/3")),
    ],
)
def test_data_sets_of_the_hub(name: str, data: HubData) -> None:
    found = resolve(name)
    assert found.data == data and str(found.data) == name


def test_another_part_of_a_registered_data_set() -> None:
    found = resolve("wikitext2:wikitext-103-raw-v1:test")
    assert isinstance(found.data, HubData)
    assert (found.data.config, found.data.split) == ("wikitext-103-raw-v1", "test")
    assert found.effective == "Salesforce/wikitext:wikitext-103-raw-v1:test"
    c4 = resolve("c4::train").data
    assert isinstance(c4, HubData) and c4.files is None and c4.config == "en"


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text("")
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "c4").mkdir()
    assert resolve("texts.jsonl").data == LocalData(Path("texts.jsonl"))
    assert resolve("org/name").data == LocalData(Path("org/name"))
    assert resolve("./c4").data == LocalData(Path("c4"))
    assert resolve("c4").data == REGISTERED["c4"]


@pytest.mark.parametrize("name", ["open_platypuss", "./missing.jsonl", "/missing", "a b", "org/"])
def test_what_has_no_meaning_is_not_found(name: str) -> None:
    with pytest.raises(QuantizationError, match="open_platypus") as caught:
        resolve(name)
    assert caught.value.code is ExitCode.NOT_FOUND


def test_offline_takes_the_bundled_texts_for_the_hub_alone(tmp_path: Path) -> None:
    for name in ("open_platypus", "pile", "org/name"):
        found = resolve(name, offline=True)
        assert found.data == BundledData() and found.requested == name
        assert found.effective == "bundled" and found.fallback_from is not None
    found = resolve(str(tmp_path), offline=True)
    assert found.data == LocalData(tmp_path) and found.fallback_from is None


def test_the_bundled_texts_have_no_parts() -> None:
    with pytest.raises(QuantizationError, match="no parts"):
        resolve("bundled:test")
