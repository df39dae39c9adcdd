"""The facts of a checkpoint, and the sentences for those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantization.errors import ExitCode, QuantizationError
from quantization.model import checkpoint
from tests.unit.chat.checkpoints import CONFIGS, DEMO
from tests.unit.quantization.models import (
    LLAMA,
    MISTRAL3,
    QWEN3_MOE,
    compressed,
    decoder,
    model,
    parameters,
    safetensors,
)


def test_a_real_model() -> None:
    found = checkpoint.read(str(DEMO))
    assert found.architecture == "LlamaForCausalLM"
    assert found.parameters == 4_885_760
    assert [(share.dtype, share.numbers) for share in found.shares] == [("BF16", 4_885_760)]
    assert found.dtype == "bfloat16"
    assert found.longest == 8192
    assert found.tokenizer
    assert found.chat_template
    assert found.quantization is None
    assert (found.place, found.revision) == ("folder", None)


def test_a_large_one_by_its_shards(tmp_path: Path) -> None:
    config = CONFIGS["nemo-12b"]
    tensors = decoder(config)
    made = model(tmp_path, config, {})
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:200]}
    shards["model-00002-of-00002.safetensors"] = names[200:]
    for file, inside in shards.items():
        safetensors(tmp_path / file, {name: tensors[name] for name in inside})
    weight_map = {name: file for file, inside in shards.items() for name in inside}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    found = checkpoint.read(made)
    assert found.parameters == parameters(tensors) == 12_247_782_400
    assert found.weight_bytes == 2 * 12_247_782_400
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(QuantizationError) as caught:
        checkpoint.read(made)
    assert caught.value.code is ExitCode.DAMAGED
    assert "1 of 2 shards are missing (model-00002-of-00002.safetensors)" in caught.value.message


def test_packed_weights_count_as_what_they_stand_for(tmp_path: Path) -> None:
    layer = "model.layers.0.mlp.up_proj"
    tensors = {
        "model.embed_tokens.weight": ("BF16", (1024, 256)),
        f"{layer}.weight_packed": ("I32", (512, 256 // 8)),
        f"{layer}.weight_scale": ("BF16", (512, 2)),
        f"{layer}.weight_zero_point": ("I32", (512 // 8, 2)),
        f"{layer}.weight_shape": ("I64", (2,)),
    }
    made = model(tmp_path, LLAMA, tensors, quantization_config=compressed())
    assert checkpoint.read(made).parameters == 1024 * 256 + 512 * 256


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        (
            {
                "x.qweight": ("I32", (256, 64)),
                "x.qzeros": ("I32", (2, 64)),
                "x.g_idx": ("I32", (256,)),
            },
            {"quant_method": "awq", "bits": 4},
        ),
        (
            {"x.qweight": ("I32", (64, 512)), "x.scales": ("F16", (64, 512))},
            {"quant_method": "gptq", "bits": 8, "sym": True, "group_size": 4},
        ),
        (
            {"x.weight": ("U8", (256, 256)), "x.weight_scale": ("F8_E4M3", (256, 32))},
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        ),
        (
            {"x.weight": ("F8_E4M3", (512, 256)), "x.weight_scale_inv": ("F32", (4, 2))},
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
        ),
    ],
)
def test_parameters_of_other_formats(
    tensors: dict[str, Any], config: dict[str, Any], tmp_path: Path
) -> None:
    made = model(tmp_path, LLAMA, tensors, quantization_config=config)
    expected = 64 * 512 * 4 if config["quant_method"] == "gptq" else 512 * 256
    assert checkpoint.read(made).parameters == expected


def test_experts_and_towers(tmp_path: Path) -> None:
    found = checkpoint.read(model(tmp_path / "moe", QWEN3_MOE))
    assert found.experts == 4
    assert not found.has_towers
    tensors = decoder(MISTRAL3["text_config"], "language_model.model.")
    tensors["vision_tower.transformer.layers.0.attention.q_proj.weight"] = ("BF16", (64, 64))
    tensors["multi_modal_projector.linear_1.weight"] = ("BF16", (256, 64))
    found = checkpoint.read(model(tmp_path / "vlm", MISTRAL3, tensors))
    assert found.towers == ("multi_modal_projector", "vision_tower")
    assert found.text.num_hidden_layers == 2
    assert found.longest == 8192


def test_a_template_in_its_own_file_or_in_none(tmp_path: Path) -> None:
    made = Path(model(tmp_path, LLAMA))
    (made / "tokenizer_config.json").write_text("{}")
    assert not checkpoint.read(str(made)).chat_template
    (made / "tokenizer_config.json").write_text("{not JSON")
    assert not checkpoint.read(str(made)).chat_template
    (made / "chat_template.jinja").write_text("{{ messages }}")
    assert checkpoint.read(str(made)).chat_template


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({}, ExitCode.NOT_FOUND, "holds no config.json"),
        ({"model.gguf": "GGUF"}, ExitCode.NOT_FOUND, "holds GGUF files and no config.json"),
        ({"params.json": "{}"}, ExitCode.NOT_FOUND, "in Mistral's own format"),
        ({"config.json": "{"}, ExitCode.DAMAGED, "is not JSON"),
        ({"config.json": "[]"}, ExitCode.DAMAGED, "is not a JSON object"),
        ({"config.json": "\x00"}, ExitCode.DAMAGED, "is not JSON"),
        (
            {"config.json": "{}", "model.safetensors.index.json": '{"weight_map": {}}'},
            ExitCode.DAMAGED,
            "names no files",
        ),
        ({"config.json": "{}", "model.safetensors": "junk"}, ExitCode.DAMAGED, "was cut off"),
        (
            {"config.json": "{}", "model.safetensors": "a text, and not weights"},
            ExitCode.DAMAGED,
            "is corrupt",
        ),
    ],
)
def test_what_cannot_be_read(
    files: dict[str, str], code: ExitCode, says: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(QuantizationError) as caught:
        checkpoint.read(str(tmp_path))
    assert caught.value.code is code
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/at-all", "There is no folder"),
        ("./nowhere", "There is no folder"),
        ("a/b/c", "There is no folder"),
        ("no spaces/here", "There is no folder"),
    ],
)
def test_what_is_neither_folder_nor_hub_id(name: str, says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as caught:
        checkpoint.read(name)
    assert caught.value.code is ExitCode.NOT_FOUND


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    model(tmp_path, LLAMA)
    with pytest.raises(QuantizationError, match="is a file: give the folder"):
        checkpoint.read(str(tmp_path / "model.safetensors"))
