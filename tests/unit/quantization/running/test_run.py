"""What a run is known by, what it refuses before it starts, and faults that are made on purpose."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import launch_facts
import pytest

from quantization.calibration import Request
from quantization.digests import Digests
from quantization.errors import ExitCode, QuantizationError
from quantization.gauge import Bounds
from quantization.home import Home
from quantization.model import checkpoint, fetching
from quantization.planning.plan import Plan, plan
from quantization.planning.recipes import choices
from quantization.running import environments, room, steps
from quantization.running.display import Display
from quantization.running.run import run
from quantization.running.wanted import Wanted, key_of
from quantization.serving.judging import settings_for
from quantization.serving.target import Target
from quantization.worker.backends.older_config import older
from tests.unit.chat.checkpoints import DEMO
from tests.unit.quantization.models import LLAMA, W4A16, compressed, model
from yap.chat.tuning.hardware import GIB, Hardware
from yap.settings import load_settings

CPU = Target(Hardware((), 24 * GIB, 2))
SOURCE = {"content": "c" * 64}
TOOLS = {"llmcompressor": "1", "transformers": "5", "torch": "2+cpu"}
CALIBRATION = {"dataset": "d", "revision": "r"}


def planned(made: str, **asked: Any) -> Plan:
    origin = {name: f"--{name}" for name in asked}
    found = checkpoint.read(made)
    settings = settings_for(made, {})
    return plan(
        found, CPU, settings, width=None, wanted=choices(asked, "x"), origin=origin, environ={}
    )


def wanted(made: str, **changes: Any) -> Wanted:
    values: dict[str, Any] = {"request": None, "bounds": Bounds(), "serve": False}
    return Wanted(plan=planned(made, method="int8"), **{**values, **changes})


def failure(asked: Wanted, home: Home) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        run(asked, home, Display(io.StringIO()))
    assert "\n" not in caught.value.message
    return caught.value


def test_a_key_for_each_thing_that_is_made() -> None:
    first = key_of(W4A16, SOURCE, CALIBRATION, TOOLS)
    assert first == key_of(W4A16, SOURCE, CALIBRATION, {**TOOLS, "torch": "2"})
    assert len(first) == 16
    others = [
        key_of(W4A16.model_copy(update={"group_size": 64}), SOURCE, CALIBRATION, TOOLS),
        key_of(W4A16.model_copy(update={"ignore": ("lm_head",)}), SOURCE, CALIBRATION, TOOLS),
        key_of(W4A16, {"content": "d" * 64}, CALIBRATION, TOOLS),
        key_of(W4A16, {"model": "org/model", "revision": "abc"}, CALIBRATION, TOOLS),
        key_of(W4A16, SOURCE, {**CALIBRATION, "revision": "s"}, TOOLS),
        key_of(W4A16, SOURCE, None, TOOLS),
        key_of(W4A16, SOURCE, CALIBRATION, {**TOOLS, "llmcompressor": "2"}),
    ]
    assert len({first, *others}) == len(others) + 1


def test_a_folder_is_known_by_its_content(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", LLAMA), model(tmp_path / "two", LLAMA)
    digests = Digests(tmp_path / "digests.json")
    first = fetching.identity(checkpoint.read(one), digests)
    assert first == fetching.identity(checkpoint.read(two), digests)
    (Path(two) / "tokenizer.json").write_text('{"another": 1}')
    assert first != fetching.identity(checkpoint.read(two), digests)


# --- what is refused before anything long starts ------------------------------------------------


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the quantizers' environments were there already."""
    monkeypatch.setattr(environments, "is_there", lambda *_, **__: True)


def test_too_little_memory(tmp_path: Path, there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(model(tmp_path / "model", LLAMA), method="gptq")
    home = Home(tmp_path / "home")
    monkeypatch.setattr(room, "_available", lambda: made.estimate.memory - 1)
    with pytest.raises(QuantizationError, match="GiB of memory") as caught:
        room.check(made, home, tmp_path / "out", cuda=False)
    assert caught.value.code is ExitCode.NO_ROOM
    monkeypatch.setattr(room, "_available", lambda: made.estimate.memory)
    assert not room.check(made, home, tmp_path / "out", cuda=False).in_process
    monkeypatch.setattr(room, "_available", lambda: 1 << 40)
    assert room.check(made, home, tmp_path / "out", cuda=False).in_process


def test_too_little_disk(tmp_path: Path, there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    error = failure(wanted(model(tmp_path / "model", LLAMA)), Home(tmp_path / "home"))
    assert error.code is ExitCode.NO_ROOM
    assert "GiB of disk" in error.message
    assert not (tmp_path / "home" / "work").exists()


def test_a_disk_that_fills_up_on_the_way(
    tmp_path: Path, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "home" / "x"))

    monkeypatch.setattr(environments, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(steps, "check_numbers", full)
    error = failure(wanted(model(tmp_path / "model", LLAMA)), Home(tmp_path / "home"))
    assert error.code is ExitCode.NO_ROOM
    assert "The disk is full" in error.message
    assert not (tmp_path / "home" / "exports").exists()


def test_a_place_that_holds_something_else(tmp_path: Path) -> None:
    made = model(tmp_path / "model", LLAMA)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear")
    error = failure(wanted(made, out=tmp_path / "out"), Home(tmp_path / "home"))
    assert error.code is ExitCode.REFUSED
    assert "name another --out" in error.message
    assert (tmp_path / "out" / "diary.txt").exists()


def test_calibration_data_that_is_not_there(tmp_path: Path) -> None:
    request = Request(dataset=str(tmp_path / "none.jsonl"), samples=8, sequence_length=64)
    asked = wanted(model(tmp_path / "model", LLAMA), request=request)
    assert "none.jsonl" in failure(asked, Home(tmp_path / "home")).message


# --- a model of the Hub's -----------------------------------------------------------------------


def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the Hub's cache; its weights' blob."""
    repository = tmp_path / "hub" / "models--org--model"
    folder = repository / "snapshots" / ("0" * 40)
    model(folder, LLAMA)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    weights = folder / "model.safetensors"
    name = hashlib.sha256(weights.read_bytes()).hexdigest()
    (repository / "blobs").mkdir()
    weights.rename(repository / "blobs" / name)
    weights.symlink_to(repository / "blobs" / name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return repository / "blobs" / name


def test_a_download_that_is_not_what_the_hub_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = snapshot(tmp_path, monkeypatch)
    found = checkpoint.read("org/model")
    digests = Digests(tmp_path / "digests.json")
    assert fetching.identity(found, digests) == {"model": "org/model", "revision": "0" * 40}
    told: list[tuple[str, int, int]] = []
    folder = fetching.fetch(found, digests, lambda *step: told.append(step))
    assert (folder / "config.json").exists()
    assert told[-1] == ("check", 1, 1)
    with blob.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    with pytest.raises(QuantizationError, match="checksum is not the Hub's") as caught:
        fetching.fetch(found, digests, lambda *_: None)
    assert caught.value.code is ExitCode.DAMAGED
    assert str(blob) in caught.value.message


# --- older and newer configs --------------------------------------------------------------------


def test_a_config_in_the_words_of_transformers_4() -> None:
    newer = {
        "model_type": "llama",
        "dtype": "bfloat16",
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    }
    found = older(newer)
    assert (found["rope_theta"], found["rope_scaling"]) == (1e6, None)
    assert found["torch_dtype"] == "bfloat16"
    assert "rope_parameters" not in found
    scaled = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}
    found = older({**newer, "rope_parameters": scaled})
    assert found["rope_theta"] == 5e5
    assert found["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
    plain = {"model_type": "llama", "rope_theta": 1e4}
    assert older(plain)["rope_theta"] == 1e4


@pytest.mark.parametrize(
    "rope", [{"full_attention": {"rope_theta": 1e6}}, {"rope_type": "default"}, "odd"]
)
def test_a_config_without_older_words_is_refused(rope: Any) -> None:
    with pytest.raises(ValueError, match="rope_parameters"):
        older({"rope_parameters": rope})


# --- scripts/main.sh 4bit|8bit ------------------------------------------------------------------


def facts(word: str, chat: str, **environ: str) -> dict[str, str]:
    settings = load_settings({"TEXT_API_KEY": "key-for-tests", "CHAT_MODEL": chat, **environ})
    return launch_facts.quantization(word, settings)


def test_what_a_start_makes_first(tmp_path: Path) -> None:
    assert facts("8bit", str(DEMO)) == {"MAKE": str(DEMO)}
    made = model(tmp_path, LLAMA, quantization_config=compressed())
    assert facts("4bit", made) == {"QUANTIZATION": "auto"}
    with pytest.raises(launch_facts.Refused, match="4 bits already, not 8"):
        facts("8bit", made)
    with pytest.raises(launch_facts.Refused, match="DEPLOY_MODELS=tool"):
        facts("8bit", str(DEMO), DEPLOY_MODELS="tool")
    assert json.loads((Path(made) / "config.json").read_text())["quantization_config"]
