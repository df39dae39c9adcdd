"""Models in BentoML's store: complete or refused, versioned by content, never copied in vain."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bentoml._internal.models import ModelStore as Models

from quantization.errors import ExitCode, QuantizationError
from quantization.publishing.pack import Packed, name_for, pack
from quantization.publishing.store import ModelStore
from tests.unit.chat.checkpoints import DEMO
from tests.unit.quantization import hub
from tests.unit.quantization.models import LLAMA, decoder, model, safetensors

ROOT = Path(__file__).resolve().parents[4]
SCREEN = ROOT / "models" / "yap-screen-demo"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAP_QUANTIZATION_DIR", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "bentoml" / "models")


def small(folder: Path, **changes: Any) -> Path:
    return Path(model(folder, LLAMA, **changes))


def sharded(folder: Path, *, index: bool = True) -> Path:
    """The same model in two files."""
    small(folder).joinpath("model.safetensors").unlink()
    tensors = sorted(decoder(LLAMA).items())
    parts = {"model-00001-of-00002": tensors[:5], "model-00002-of-00002": tensors[5:]}
    for name, part in parts.items():
        safetensors(folder / f"{name}.safetensors", dict(part))
    if index:
        mapped = {key: f"{name}.safetensors" for name, part in parts.items() for key, _ in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapped}))
    return folder


def refused(code: ExitCode, folder: Path, store: ModelStore, **options: str) -> str:
    with pytest.raises(QuantizationError) as raised:
        pack(str(folder), store=store, **options)  # type: ignore[arg-type]
    assert raised.value.code is code
    assert "\n" not in raised.value.message
    return raised.value.message


def files(packed: Packed) -> set[str]:
    return {path.name for path in packed.path.iterdir()}


def test_a_model_lies_in_the_store_as_bentoml_expects_it(store: ModelStore) -> None:
    packed = pack(str(DEMO), store=store)
    assert packed.new
    assert files(packed) == {path.name for path in DEMO.iterdir()} | {"model.yaml"}
    (found,) = Models(packed.path.parents[1]).list()
    assert str(found.tag) == packed.tag
    assert found.info.labels["kind"] == "chat"
    assert found.info.metadata["parameters"] == 4_885_760
    assert found.info.metadata["bytes"] == packed.size
    assert Models(packed.path.parents[1]).get(packed.tag.partition(":")[0]).tag == found.tag


def test_a_classifier_is_packed_as_one(store: ModelStore) -> None:
    assert pack(str(SCREEN), store=store).kind == "tool"


def test_packing_twice_changes_nothing(store: ModelStore, tmp_path: Path) -> None:
    first = pack(str(small(tmp_path / "llama")), store=store)
    written = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    again = pack(str(tmp_path / "llama"), store=store)
    assert (again.tag, again.new) == (first.tag, False)
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == written


def test_a_version_is_the_content_wherever_it_lies(store: ModelStore, tmp_path: Path) -> None:
    first = pack(str(small(tmp_path / "one" / "llama")), store=store)
    other = ModelStore(tmp_path / "elsewhere" / "models")
    shutil.copytree(tmp_path / "one" / "llama", tmp_path / "two" / "llama")
    os.utime(tmp_path / "two" / "llama" / "config.json", (1, 1))
    assert pack(str(tmp_path / "two" / "llama"), store=other).tag == first.tag
    assert pack(str(first.path), "llama", store=store).tag == first.tag


def test_other_content_is_another_version_beside_it(store: ModelStore, tmp_path: Path) -> None:
    folder = small(tmp_path / "llama")
    first = pack(str(folder), store=store)
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    second = pack(str(folder), store=store)
    assert second.tag != first.tag
    assert first.path.is_dir()
    assert (first.path.parent / "latest").read_text() == second.path.name


def test_a_version_of_ones_own_holds_one_content(store: ModelStore, tmp_path: Path) -> None:
    folder = small(tmp_path / "llama")
    assert pack(str(folder), version="v1", store=store).tag == "llama:v1"
    assert not pack(str(folder), version="v1", store=store).new
    (folder / "tokenizer.json").write_text('{"changed": 1}')
    assert "another model as llama:v1" in refused(ExitCode.REFUSED, folder, store, version="v1")


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard_is_refused(index: bool, store: ModelStore, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "llama", index=index)
    assert pack(str(folder), store=store).files == (6 if index else 5)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "1 of 2 shards are missing" in refused(ExitCode.DAMAGED, folder, store)


def test_what_cannot_be_served_is_refused(store: ModelStore, tmp_path: Path) -> None:
    folder = small(tmp_path / "llama")
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(ExitCode.DAMAGED, folder, store)
    bare = small(tmp_path / "bare", tensors={})
    assert "no weights" in refused(ExitCode.DAMAGED, bare, store)
    cut = small(tmp_path / "cut")
    os.truncate(cut / "model.safetensors", 4000)
    assert "was cut off" in refused(ExitCode.DAMAGED, cut, store)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in refused(ExitCode.NOT_FOUND, empty, store)
    assert not (tmp_path / "bentoml").exists()


def test_names_that_bentoml_does_not_take_are_refused(store: ModelStore) -> None:
    assert '"My Model" cannot be' in refused(ExitCode.USAGE, DEMO, store, name="My Model")
    assert '"1/2" cannot be' in refused(ExitCode.USAGE, DEMO, store, version="1/2")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("SicariusSicariiStuff/Impish_Nemo_12B", "impish_nemo_12b"),
        ("org/A model (new)", "a-model-new"),
        (str(DEMO), "yap-chat-demo"),
        ("org/" + "x" * 90, "x" * 63),
    ],
)
def test_a_name_is_made_from_the_models(name: str, made: str) -> None:
    assert name_for(name) == made


def test_weights_that_nothing_loads_stay_out(store: ModelStore, tmp_path: Path) -> None:
    folder = small(tmp_path / "llama")
    for name in ("pytorch_model.bin", "consolidated.safetensors", "llama.gguf", ".gitattributes"):
        (folder / name).write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "onnx").mkdir()
    packed = pack(str(folder), store=store)
    left = (".gitattributes", "consolidated.safetensors", "llama.gguf", "pytorch_model.bin")
    assert packed.left_out == left
    assert files(packed).isdisjoint(left)


def test_what_may_be_edited_is_copied_and_an_export_is_linked(
    store: ModelStore, tmp_path: Path
) -> None:
    folder = small(tmp_path / "llama")
    copied = pack(str(folder), store=store)
    assert not copied.linked
    assert not (copied.path / "model.safetensors").samefile(folder / "model.safetensors")
    told = {"pipeline": "x", "note": None, "kept": [{"of": None, "bits": 4}]}
    (folder / "quantization_metadata.json").write_text(json.dumps(told))
    export = pack(str(folder), store=store)
    assert export.linked
    metadata = Models(export.path.parents[1]).get(export.tag).info.metadata
    assert metadata["export"] == {"pipeline": "x", "kept": [{"bits": 4}]}
    assert (export.path / "model.safetensors").samefile(folder / "model.safetensors")
    asked = pack(str(folder), "asked", store=store, link=True)
    assert asked.linked


def test_a_full_disk_leaves_nothing_behind(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def full(source: Path, target: Path, **options: bool) -> None:
        if Path(source).suffix == ".safetensors":
            target.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", full)
    folder = small(tmp_path / "llama")
    assert "No space left" in refused(ExitCode.NO_ROOM, folder, store)
    assert [path for path in (tmp_path / "bentoml").rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    monkeypatch.setenv("YAP_QUANTIZATION_DIR", str(tmp_path / "cache"))
    assert pack(str(folder), store=store).new


def test_damage_in_the_store_is_told(store: ModelStore, tmp_path: Path) -> None:
    folder = small(tmp_path / "llama")
    packed = pack(str(folder), store=store)
    os.truncate(packed.path / "model.safetensors", 10)
    assert "is damaged: delete it" in refused(ExitCode.DAMAGED, folder, store)


def test_the_command(tmp_path: Path) -> None:
    folder = small(tmp_path / "a llama")
    environ = os.environ | {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "quantization", "pack", *arguments],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(str(folder), "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["tag"].startswith("a-llama:")
    assert Path(made["path"]).parent == tmp_path / "home" / "models" / "a-llama"
    assert "there already" in run(str(folder)).stdout
    (folder / "tokenizer.json").unlink()
    failed = run(str(folder))
    assert (failed.returncode, failed.stdout) == (int(ExitCode.DAMAGED), "")
    assert failed.stderr.count("\n") == 1


def test_a_hub_id_is_fetched_and_packed_as_the_folder_is(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    environ = {"BENTOML_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}
    with hub.serving(folder) as served:
        done = subprocess.run(
            [sys.executable, "-m", "quantization", "pack", "org/model", "--json"],
            cwd=ROOT,
            env=os.environ | environ | {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    here = pack(str(folder), store=ModelStore(tmp_path / "bentoml" / "models"))
    assert made["tag"] == here.tag
    assert made["linked"]
