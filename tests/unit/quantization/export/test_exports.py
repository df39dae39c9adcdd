"""Exports: what they are found by, what they hold, and that nothing half-made has a valid name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from quantization.digests import Digests
from quantization.errors import ExitCode, QuantizationError
from quantization.export import folder as exports
from quantization.export import verification
from quantization.export.card import card, licence_of
from quantization.export.metadata import (
    CARD,
    NAME,
    OLDER,
    Metadata,
    Source,
    check_files,
    read_metadata,
)
from quantization.gauge import Gauge
from quantization.model import checkpoint, layers
from quantization.model.files import along, deciding
from quantization.planning.recipes import Recipe
from tests.unit.quantization.models import LLAMA, W4A16, compressed, decoder, model, safetensors

GAUGE: dict[str, Any] = {
    "rows": 3,
    "tokens": 100,
    "perplexity_original": 10.0,
    "perplexity_quantized": 10.5,
    "perplexity_ratio": 1.05,
    "perplexity_ratio_se": 0.01,
    "kl": 0.02,
    "kl_se": 0.001,
    "kl_p99": 0.2,
    "kl_exact": True,
    "agreement": 0.95,
    "agreement_se": 0.01,
}


def quantized(*, zero_points: bool = True, group: int = 128, left: str = "") -> dict[str, Any]:
    """The tensors of LLAMA, as llmcompressor packs them."""
    found: dict[str, Any] = {}
    for name, (dtype, shape) in decoder(LLAMA).items():
        if ".layers." not in name or "norm" in name or (left and left in name):
            found[name] = (dtype, shape)
            continue
        outputs, inputs = shape
        base = name.removesuffix(".weight")
        found[f"{base}.weight_packed"] = ("I32", (outputs, inputs // 8))
        found[f"{base}.weight_scale"] = ("BF16", (outputs, inputs // group))
        found[f"{base}.weight_shape"] = ("I64", (2,))
        if zero_points:
            found[f"{base}.weight_zero_point"] = ("I32", (outputs // 8, inputs // group))
    return found


def written(folder: Path, tensors: dict[str, Any] | None = None, **weights: Any) -> Path:
    """What a quantizer leaves: weights, and a config with other things changed in it too."""
    said = compressed()
    said["config_groups"]["group_0"]["weights"] = {
        "num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": False,
        **weights,
    }  # fmt: skip
    model(folder, LLAMA, tensors or quantized(), quantization_config=said, use_cache=False)
    return folder


def source(folder: Path) -> Path:
    made = Path(model(folder, LLAMA))
    (made / "generation_config.json").write_text('{"temperature": 0.7}')
    (made / "training_args.bin").write_bytes(b"x")
    (made / "README.md").write_text(
        "---\nlicense: apache-2.0\nlicense_link: here\n---\n# A model\n"
    )
    (made / "LICENSE").write_text("as is")
    return made


def metadata(**changes: Any) -> Metadata:
    values: dict[str, Any] = {
        "key": "0123456789abcdef",
        "created": "2026-01-01T00:00:00Z",
        "source_model": "org/model",
        "source": Source(
            model="org/model",
            on_hub=True,
            revision="abc",
            architecture="LlamaForCausalLM",
            parameters=1_000_000,
            weight_bytes=2_000_000,
            licence={"license": "apache-2.0"},
        ),
        "recipe": W4A16.model_dump(mode="json"),
        "fingerprint": W4A16.fingerprint,
        "awq_version": "llmcompressor==0.14.0.1",
        "tools": {"torch": "2.13.0"},
        "quantization_config": {"scheme": W4A16.scheme},
        "calibration_seqlen": 64,
        "calibration_dataset": {"requested": "a", "effective": "b", "fallback_from": "a"},
        "calibration_config": {"samples": 8, "tokens": 512, "personas": None},
        "quantized_layers": 14,
        "weight_bytes": 700_000,
        "gauge": GAUGE,
        "hardware": "a CPU",
    }
    return Metadata(**{**values, **changes})


def finished(folder: Path) -> Path:
    """A whole export."""
    exports.assemble(source(folder / "source"), written(folder / "quantized"), folder / "work")
    exports.describe(folder / "work", metadata())
    exports.publish(folder / "work", folder / "exports" / "one")
    return folder / "exports" / "one"


def test_an_export_is_the_source_with_other_weights(tmp_path: Path) -> None:
    made = finished(tmp_path)
    assert {path.name for path in made.iterdir()} == {
        "LICENSE",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        CARD,
        NAME,
        OLDER,
    }
    config = json.loads((made / "config.json").read_text())
    assert config.pop("quantization_config")["format"] == "pack-quantized"
    assert config == LLAMA
    assert (made / "model.safetensors").read_bytes() == (
        tmp_path / "quantized" / "model.safetensors"
    ).read_bytes()


def test_metadata_is_a_superset_of_the_older_file(tmp_path: Path) -> None:
    made = finished(tmp_path)
    older = json.loads((made / OLDER).read_text())
    newer = json.loads((made / NAME).read_text())
    assert older.keys() < newer.keys()
    assert all(newer[name] == value for name, value in older.items())
    assert older["pipeline"] == "yap-text-inference"
    assert newer["files"].keys() == {p.name for p in made.iterdir()} - {NAME, CARD}
    assert read_metadata(made).measured == Gauge.model_validate(GAUGE)


def test_damage_to_an_export_is_found(tmp_path: Path) -> None:
    made = finished(tmp_path)
    said = read_metadata(made)
    check_files(made, said, deep=True)
    (made / CARD).write_text("edited")  # people may
    check_files(made, said, deep=True)
    weights = made / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    check_files(made, said, deep=False)
    with pytest.raises(QuantizationError, match="the checksum of model"):
        check_files(made, said, deep=True)
    os.truncate(weights, len(raw) - 1)
    with pytest.raises(QuantizationError, match="bytes, not") as caught:
        check_files(made, said, deep=False)
    assert caught.value.code is ExitCode.DAMAGED
    assert exports.find(made, said.key) is None
    weights.unlink()
    with pytest.raises(QuantizationError, match="is missing"):
        check_files(made, said, deep=False)


def test_only_the_same_key_finds_an_export(tmp_path: Path) -> None:
    made = finished(tmp_path)
    assert exports.find(made, "0123456789abcdef") is not None
    assert exports.find(made, "fedcba9876543210") is None
    assert exports.find(tmp_path / "nothing", "0123456789abcdef") is None


def test_what_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    made = finished(tmp_path)
    exports.refuse_foreign(made, "0123456789abcdef", force=False)
    exports.refuse_foreign(tmp_path / "free", "0123456789abcdef", force=False)
    with pytest.raises(QuantizationError, match="holds another export") as caught:
        exports.refuse_foreign(made, "fedcba9876543210", force=False)
    assert caught.value.code is ExitCode.REFUSED
    exports.refuse_foreign(made, "fedcba9876543210", force=True)
    for force in (False, True):
        with pytest.raises(QuantizationError, match="is no export of this project"):
            exports.refuse_foreign(tmp_path / "source", "0123456789abcdef", force=force)
    (made / NAME).write_text("{")
    with pytest.raises(QuantizationError, match="is damaged: make the export again with --force"):
        exports.refuse_foreign(made, "0123456789abcdef", force=False)
    exports.refuse_foreign(made, "0123456789abcdef", force=True)


def test_publishing_replaces_the_whole_folder(tmp_path: Path) -> None:
    made = finished(tmp_path)
    (made / "left-over").touch()
    exports.copy(made, tmp_path / "elsewhere" / "copy")
    again = tmp_path / "again"
    shutil.copytree(made, again)
    (again / "left-over").unlink()
    exports.publish(again, made)
    assert not (made / "left-over").exists()
    assert not again.exists()
    assert [path.name for path in made.parent.iterdir()] == ["one"]
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["copy"]


def test_a_failed_publishing_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    made = finished(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        (tmp_path / "exports" / ".two.copy").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OSError, match="No space left"):
        exports.copy(made, tmp_path / "exports" / "two")
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["one"]


def test_the_card_has_the_real_numbers() -> None:
    text = card(metadata())
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    values = dict(line.split(": ", 1) for line in front.splitlines())
    assert json.loads(values["base_model"]) == "org/model"
    assert json.loads(values["license"]) == "apache-2.0"
    assert "awq" in json.loads(values["tags"])
    assert "0.02000" in body
    assert "95.00%" in body
    assert "`W4A16_ASYM`" in body
    assert "b (in place of a)" in body
    assert W4A16.fingerprint in body
    local = Source(model="mine", on_hub=False, content="f" * 64, architecture="X", weight_bytes=1)
    text = card(metadata(source=local, gauge=None, gauge_note="No memory for it."))
    assert "base_model" not in text
    assert "huggingface" not in text
    assert "No memory for it." in text


def test_the_licence_is_the_sources_own(tmp_path: Path) -> None:
    assert licence_of(source(tmp_path)) == {"license": "apache-2.0", "license_link": "here"}
    (tmp_path / "README.md").write_text("# no front matter\n\nlicense: mit\n")
    assert licence_of(tmp_path) == {}


# --- what was written is what the recipe says ---------------------------------------------------


def checked(tmp_path: Path, made: Path, recipe: Recipe = W4A16) -> str:
    expected = layers.quantized(checkpoint.read(str(source(tmp_path / "from"))), recipe.ignore)
    try:
        verification.check(made, recipe, expected)
    except QuantizationError as error:
        return error.message if error.code is ExitCode.FAILED else repr(error)
    return ""


def test_what_the_recipe_says_is_accepted(tmp_path: Path) -> None:
    assert checked(tmp_path, written(tmp_path / "made")) == ""


@pytest.mark.parametrize(
    ("weights", "tensors", "says"),
    [
        ({"num_bits": 8}, {}, "the format is w8a16"),
        ({"group_size": 64}, {}, "groups are of 64, not 128"),
        ({"symmetric": True}, {}, "it is symmetric"),
        ({}, {"zero_points": False}, "has no zero points"),
        ({}, {"group": 64}, "has 4 groups of its 256 inputs"),
        ({}, {"left": "layers.1.mlp"}, "layers.1.mlp.down_proj is not quantized (3 such layers)"),
    ],
)
def test_what_it_does_not_say_is_refused(
    tmp_path: Path, weights: dict[str, Any], tensors: dict[str, Any], says: str
) -> None:
    assert says in checked(tmp_path, written(tmp_path / "made", quantized(**tensors), **weights))


def test_a_layer_too_many_is_refused(tmp_path: Path) -> None:
    recipe = W4A16.model_copy(update={"ignore": ("lm_head", r"re:.*\.down_proj$")})
    said = checked(tmp_path, written(tmp_path / "made"), recipe)
    assert "layers.0.mlp.down_proj is quantized, and was to be left (2 such layers)" in said


@pytest.mark.parametrize(
    ("dtype", "raw"), [("BF16", b"\xc0\x7f"), ("F16", b"\x00\x7c"), ("F32", b"\x00\x00\x80\xff")]
)
def test_what_is_no_number_is_found(tmp_path: Path, dtype: str, raw: bytes) -> None:
    path = tmp_path / "model.safetensors"
    safetensors(path, {"a": (dtype, (3, 5)), "b": ("I8", (9,))})
    verification.check_numbers(tmp_path, "it")
    with path.open("r+b") as stream:
        stream.seek(-9 - len(raw), os.SEEK_END)
        stream.write(raw)
    with pytest.raises(QuantizationError, match="a holds 1 numbers that are not finite") as caught:
        verification.check_numbers(tmp_path, "it")
    assert caught.value.code is ExitCode.DAMAGED


# --- what decides an export ---------------------------------------------------------------------


def test_the_digest_of_a_folder(tmp_path: Path) -> None:
    made = source(tmp_path / "model")
    digests = Digests(tmp_path / "digests.json")

    def digest(known: Digests = digests) -> str:
        return known.of_all(deciding(made, "safetensors"))

    first = digest()
    digests.save()
    (made / "README.md").write_text("another")
    (made / "training_args.bin").write_bytes(b"another")
    assert digest() == first
    assert digest(Digests(tmp_path / "digests.json")) == first
    (made / "generation_config.json").write_text("{}")
    second = digest()
    assert second != first
    with (made / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    assert digest() not in (first, second)


def test_digests_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1000)
    first = Digests(tmp_path / "digests.json")
    found = first.of(path)
    first.save()
    monkeypatch.setattr("quantization.digests.sha256", lambda _: "read again")
    assert Digests(tmp_path / "digests.json").of(path) == found
    path.write_bytes(b"y" * 1000)
    assert Digests(tmp_path / "digests.json").of(path) == "read again"
    (tmp_path / "digests.json").write_text("damaged")
    assert Digests(tmp_path / "digests.json").of(path) == "read again"


def test_which_files_go_along(tmp_path: Path) -> None:
    for name in (
        "tokenizer.model", "merges.txt", "special_tokens_map.json", "modeling_own.py",
        "config.json", "model.safetensors.index.json", "pytorch_model.bin", "optimizer.pt",
        "trainer_state.json",
        "evaluation.json", ".gitattributes", "preprocessor_config.json",
    ):  # fmt: skip
        (tmp_path / name).touch()
    assert {path.name for path in along(tmp_path)} == {
        "tokenizer.model",
        "merges.txt",
        "special_tokens_map.json",
        "modeling_own.py",
        "preprocessor_config.json",
    }
