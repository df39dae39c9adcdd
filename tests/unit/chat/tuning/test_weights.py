"""The size of weights, from the headers of their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.chat.checkpoints import DEMO, headers
from yap.chat.tuning import weights
from yap.chat.tuning.weights import Weights

LAYER = "model.layers.0"


def test_a_real_checkpoint() -> None:
    found = weights.read(str(DEMO))
    assert found is not None
    file = (DEMO / "model.safetensors").stat().st_size
    assert file - 20_000 < found.total < file
    # Six layers: four matrices of attention (4 and 2 heads of 64), three of the feed-forward layer.
    matrices = 6 * (2 * 256 * (4 + 2) * 64 + 3 * 256 * 576)
    assert found == Weights(found.total, towers=0, linear=2 * matrices, key_bias=False)


def test_what_quantizing_makes_smaller_and_what_is_not_served(tmp_path: Path) -> None:
    headers(
        tmp_path / "model.safetensors",
        {
            "model.embed_tokens.weight": ("BF16", [100, 10], 2000),
            "lm_head.weight": ("BF16", [100, 10], 2000),
            f"{LAYER}.self_attn.q_proj.weight": ("BF16", [10, 10], 200),
            f"{LAYER}.mlp.gate_proj.weight": ("F32", [10, 10], 400),
            f"{LAYER}.mlp.gate.weight": ("BF16", [8, 10], 160),
            f"{LAYER}.mlp.up_proj.qweight": ("I32", [10, 10], 400),
            f"{LAYER}.input_layernorm.weight": ("BF16", [10], 20),
            "vision_tower.blocks.0.qkv.weight": ("BF16", [10, 10], 200),
            "vision_tower.blocks.0.qkv.bias": ("BF16", [10], 20),
            "multi_modal_projector.linear.weight": ("BF16", [10, 10], 200),
        },
    )
    total = 2000 + 2000 + 200 + 200 + 160 + 400 + 20 + 420
    assert weights.read(str(tmp_path)) == Weights(total, towers=420, linear=400, key_bias=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("self_attn.k_proj.bias", True),
        ("self_attn.qkv_proj.bias", True),
        ("attn.c_attn.bias", True),
        ("self_attn.q_proj.bias", False),
        ("self_attn.o_proj.bias", False),
        ("mlp.up_proj.bias", False),
    ],
)
def test_a_bias_of_the_keys(name: str, expected: bool, tmp_path: Path) -> None:
    headers(tmp_path / "model.safetensors", {f"{LAYER}.{name}": ("BF16", [10], 20)})
    found = weights.read(str(tmp_path))
    assert found is not None
    assert found.key_bias is expected


def test_the_index_names_the_files_that_count(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in (*names, "consolidated.safetensors", "left-over.safetensors"):
        headers(tmp_path / name, {f"{name}.weight": ("BF16", [10, 10], 200)})
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = weights.read(str(tmp_path))
    assert found is not None
    assert found.total == 400


def test_weights_that_are_there_twice_count_once(tmp_path: Path) -> None:
    for name in ("model.safetensors", "consolidated.safetensors"):
        headers(tmp_path / name, {"a.weight": ("BF16", [10, 10], 200)})
    assert weights.read(str(tmp_path)) == Weights(200, linear=200)


def test_pickled_weights_are_as_large_as_their_files(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model-00001-of-00001.bin").write_bytes(b"\x00" * 300)
    assert weights.read(str(tmp_path)) == Weights(300)


def test_a_folder_without_weights_tells_nothing(tmp_path: Path) -> None:
    assert weights.read(str(tmp_path)) is None


def test_a_part_of_the_index_that_is_missing_tells_nothing(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weights.read(str(tmp_path)) is None


def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    whole = (DEMO / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off"):
        weights.read(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b"\xff" * 20, b"\x05" + b"\x00" * 7 + b"{abc}"]
)
def test_a_damaged_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own errors among them
        weights.read(str(tmp_path))
