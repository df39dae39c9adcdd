"""Data sets of the Hub: which files they are, fetched by the real client from a local Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from quantization.calibration.hub import by_names, find, head
from quantization.calibration.registry import HubData
from quantization.errors import ExitCode, QuantizationError
from tests.unit.quantization import dataset_hub
from tests.unit.quantization.dataset_hub import CONVERTED, MAIN, DataHub

DATA = HubData("org/data")


def put(folder: Path, name: str, *texts: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def card(folder: Path, front: str) -> None:
    (folder / "README.md").write_text(f"---\n{front}\n---\n# Data\n")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    folder = tmp_path / "data"
    folder.mkdir()
    with dataset_hub.serving(folder) as served:
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


@pytest.fixture
def folder(hub: DataHub) -> Path:
    return hub.folders[MAIN]


def texts(data: HubData) -> list[str]:
    return [row.value["text"] for row in find(data).rows()]


def refused(data: HubData) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        list(find(data).rows())
    assert "\n" not in caught.value.message
    return caught.value


# --- which files ------------------------------------------------------------------------------


def test_a_card_says_which_files(folder: Path) -> None:
    put(folder, "en/a.jsonl", "a")
    put(folder, "en/b.jsonl", "b")
    put(folder, "en/test.jsonl", "t")
    put(folder, "fr/c.jsonl", "c")
    card(
        folder,
        "license: mit\nconfigs:\n"
        "- config_name: en\n  default: true\n  data_files:\n"
        "  - {split: train, path: ['en/[ab].jsonl']}\n  - {split: test, path: en/test.jsonl}\n"
        "- config_name: fr\n  data_files: 'fr/*'\n",
    )
    found = find(DATA)
    assert (found.config, found.split, found.licence) == ("en", "train", "mit")
    assert found.files == ("en/a.jsonl", "en/b.jsonl") and found.commit == MAIN
    assert texts(DATA) == ["a", "b"]
    assert texts(HubData("org/data", split="test")) == ["t"]
    assert texts(HubData("org/data", "fr")) == ["c"]


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (["train.jsonl", "test.jsonl"], DATA, ["train.jsonl"]),
        (["data.jsonl", "README.md", "more.json"], DATA, ["data.jsonl", "more.json"]),
        (["val.jsonl"], DATA, ["val.jsonl"]),
        (
            [
                "data/train-00001-of-2.parquet",
                "data/train-00000-of-2.parquet",
                "data/test-0.parquet",
            ],
            DATA,
            ["data/train-00000-of-2.parquet", "data/train-00001-of-2.parquet"],
        ),
        (["data/train_sft-0.jsonl", "data/train_gen-0.jsonl"], HubData("d", split="train_sft"), 0),
        (["main/train/0.jsonl", "easy/train/0.jsonl"], HubData("org/data", "easy"), 1),
        (["default/train/0.jsonl", "easy/train/0.jsonl"], DATA, 0),
    ],
)
def test_names_say_which_files(
    names: Sequence[str], asked: HubData, found: list[str] | int
) -> None:
    expected = [names[found]] if isinstance(found, int) else found
    assert by_names(asked, names)[2] == expected


@pytest.mark.parametrize(
    ("names", "asked", "says"),
    [
        (["main/train/0.jsonl", "easy/train/0.jsonl"], DATA, "several configs.* easy, main"),
        (["test.jsonl", "val.jsonl"], DATA, "several splits.* test, val"),
        (["train.jsonl"], HubData("org/data", split="dev"), "no split dev; there are train"),
        (["main/train.jsonl"], HubData("org/data", "hard"), "no config hard; there are main"),
    ],
)
def test_what_cannot_be_told_is_asked_for(names: Sequence[str], asked: HubData, says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as caught:
        by_names(asked, names)
    assert caught.value.code is ExitCode.NOT_FOUND


def test_a_script_has_a_copy_that_the_hub_made(hub: DataHub, folder: Path) -> None:
    (folder / "data.py").write_text("raise SystemExit('never run')")
    put(hub.folders[CONVERTED], "default/train/0000.jsonl", "converted")
    assert find(DATA).commit == CONVERTED
    assert texts(DATA) == ["converted"]


def test_nothing_that_can_be_read(folder: Path) -> None:
    (folder / "data.py").write_text("")
    error = refused(DATA)
    assert error.code is ExitCode.NOT_FOUND and "holds no .jsonl" in error.message


def test_a_card_that_is_no_yaml_is_no_fault(folder: Path) -> None:
    put(folder, "train.jsonl", "a")
    card(folder, "license: [mit\n: :")
    assert texts(DATA) == ["a"]


# --- fetching ---------------------------------------------------------------------------------


def test_only_as_many_files_are_fetched_as_rows_are_wanted(hub: DataHub, folder: Path) -> None:
    for number in range(3):
        put(folder, f"train-{number}.jsonl", "a", "b")
    rows = find(DATA).rows()
    assert [next(rows).value["text"] for _ in range(3)] == ["a", "b", "a"]
    assert not any("train-2" in line for line in hub.requested)


def test_a_pinned_commit_is_read_and_the_cache_serves_it_offline(
    hub: DataHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "train.jsonl", "a")
    assert head(DATA) == MAIN
    assert [row.value["text"] for row in find(DATA, MAIN).rows()] == ["a"]
    hub.requested.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert head(HubData("org/data", revision=MAIN)) == MAIN
    assert [row.value["text"] for row in find(DATA, MAIN).rows()] == ["a"]
    assert hub.requested == []


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("org/gated", ExitCode.NO_ACCESS, "gated"),
        ("org/missing", ExitCode.NOT_FOUND, "no such data set"),
        ("org/broken", ExitCode.UNREACHABLE, "does not answer.*--offline"),
        ("org/data@no-such-branch", ExitCode.NOT_FOUND, "no such revision"),
    ],
)
def test_faults_are_a_sentence_and_a_code(
    hub: DataHub, name: str, code: ExitCode, says: str
) -> None:
    bare, _, revision = name.partition("@")
    with pytest.raises(QuantizationError, match=says) as caught:
        head(HubData(bare, revision=revision or None))
    assert caught.value.code is code and "\n" not in caught.value.message


def test_a_wrong_token_never_appears(hub: DataHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.utils._headers, "get_token", lambda: "hf_wrongwrongwrong")
    error = refused(DATA)
    assert error.code is ExitCode.NO_ACCESS and "HF_TOKEN" in error.message
    assert "wrongwrong" not in error.message


def test_a_hub_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    error = refused(DATA)
    assert error.code is ExitCode.UNREACHABLE and "--offline" in error.message


def test_offline_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    error = refused(DATA)
    assert error.code is ExitCode.UNREACHABLE and "HF_HUB_OFFLINE" in error.message


def test_a_download_that_breaks_off_is_no_data(
    hub: DataHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "train.jsonl", *["a"] * 100)
    hub.cut.add("train.jsonl")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its attempts
    error = refused(DATA)
    assert error.code in (ExitCode.UNREACHABLE, ExitCode.DAMAGED)
    assert error.message.startswith('The calibration data "org/data" cannot be fetched')
