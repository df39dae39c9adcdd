"""How a checkpoint is quantized, by each way that quantizers write it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantization.model import checkpoint, detection
from quantization.model.detection import Quantization
from quantization.serving.formats import FORMATS, GONE
from tests.unit.quantization.models import LLAMA, compressed, group, model

DYNAMIC = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "group_size": None}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "group_size": None}


def found_in(folder: Path, config: dict[str, Any] | None, **files: Any) -> Quantization | None:
    made = model(folder, LLAMA, {}, **({"quantization_config": config} if config else {}))
    for name, content in files.items():
        (Path(made) / f"{name}.json").write_text(json.dumps(content))
    return checkpoint.read(made).quantization


@pytest.mark.parametrize(
    ("config", "format_", "bits", "size", "symmetric"),
    [
        (compressed(), "w4a16", 4, 128, True),
        (group({"symmetric": False, "group_size": 32}), "w4a16", 4, 32, False),
        (group({**INT8, "num_bits": 8}), "w8a16", 8, None, True),
        (group(INT8, {**DYNAMIC, "type": "int"}), "int8", 8, None, True),
        (group(FP8, DYNAMIC), "fp8", 8, None, True),
        (group(FP8, {**DYNAMIC, "dynamic": False}), "fp8-static", 8, None, True),
        (group({**FP8, "strategy": "block"}, DYNAMIC), "fp8-block", 8, None, True),
        (group({"type": "float", "group_size": 16}), "nvfp4a16", 4, 16, True),
        (group({"type": "float", "group_size": 16}, {"num_bits": 4}), "nvfp4", 4, 16, True),
        (group({"group_size": 128}, DYNAMIC), "w4afp8", 4, 128, True),
        (group({"type": "float"}, format="mxfp4-pack-quantized"), "mxfp4", 4, 128, True),
        (group(FP8, format="mxfp8-quantized"), "mxfp8", 8, None, True),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            "awq",
            4,
            128,
            False,
        ),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": True},
            "gptq",
            4,
            32,
            True,
        ),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, "gptq", 8, None, True),
        (
            {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
            "auto-round",
            4,
            128,
            True,
        ),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", 8, None, True),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8-static", 8, None, True),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block", 8, None, True),
        ({"quant_method": "mxfp4"}, "mxfp4", 4, None, None),
        ({"load_in_4bit": True, "load_in_8bit": False}, "bitsandbytes", 4, None, None),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes", 8, None, None),
        ({"quant_method": "torchao", "quant_type": "int8wo"}, "torchao", 8, None, None),
        ({"quant_method": "torchao", "quant_type": {"a": "Int4Weight"}}, "torchao", 4, None, None),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8-static", 8, None, True),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4, 16, True),
        ({"quant_method": "hqq"}, "hqq", None, None, None),
    ],
)
def test_by_the_config(
    config: dict[str, Any],
    format_: str,
    bits: int | None,
    size: int | None,
    symmetric: bool | None,
    tmp_path: Path,
) -> None:
    found = found_in(tmp_path, config)
    assert found is not None
    assert (found.format, found.bits, found.group_size) == (format_, bits, size)
    assert found.symmetric is symmetric
    assert found.place == "config.json (quantization_config)"
    assert found.format in FORMATS or found.format in GONE


def test_what_is_left_and_how_the_cache_is_kept(tmp_path: Path) -> None:
    scheme = {"num_bits": 8, "type": "float", "dynamic": False}
    found = found_in(tmp_path, compressed(kv_cache_scheme=scheme, ignore=["lm_head", "re:.*gate$"]))
    assert found is not None
    assert found.ignored == ("lm_head", "re:.*gate$")
    assert found.kv_cache == "fp8"
    assert str(found) == (
        "compressed-tensors, w4a16, 4 bits, groups of 128, symmetric, KV cache fp8"
    )


def test_groups_that_differ(tmp_path: Path) -> None:
    one, other = compressed()["config_groups"], group(FP8, DYNAMIC)["config_groups"]
    both = {"group_0": one["group_0"], "group_1": other["group_0"]}
    found = found_in(tmp_path, compressed(config_groups=both))
    assert found is not None
    assert found.format == "mixed"


@pytest.mark.parametrize(
    ("name", "content", "method", "format_", "tells"),
    [
        (
            "hf_quant_config",
            {
                "producer": {"name": "modelopt", "version": "0.29.0"},
                "quantization": {
                    "quant_algo": "NVFP4",
                    "group_size": 16,
                    "kv_cache_quant_algo": "FP8",
                    "exclude_modules": ["lm_head"],
                },
            },
            "modelopt",
            "nvfp4",
            True,
        ),
        ("quantize_config", {"bits": 4, "group_size": 128, "sym": True}, "gptq", "gptq", False),
        (
            "quant_config",
            {"w_bit": 4, "q_group_size": 128, "zero_point": True, "version": "GEMM"},
            "awq",
            "awq",
            False,
        ),
    ],
)
def test_by_a_file_beside_it(
    name: str, content: dict[str, Any], method: str, format_: str, tells: bool, tmp_path: Path
) -> None:
    found = found_in(tmp_path, None, **{name: content})
    assert found is not None
    assert (found.method, found.format, found.bits) == (method, format_, 4)
    assert found.place == f"{name}.json"
    assert found.tells_vllm is tells


def test_the_config_goes_before_a_file_beside_it(tmp_path: Path) -> None:
    found = found_in(tmp_path, compressed(), quantize_config={"bits": 8})
    assert found is not None
    assert found.method == "compressed-tensors"


@pytest.mark.parametrize("where", ["compression_config", "text_config"])
def test_other_places_in_the_config(where: str, tmp_path: Path) -> None:
    if where == "text_config":
        text = {**LLAMA, "quantization_config": compressed()}
        made = model(tmp_path, {"model_type": "mistral3", "text_config": text}, {})
    else:
        made = model(tmp_path, LLAMA, {}, compression_config=compressed())
    found = checkpoint.read(made).quantization
    assert found is not None
    assert found.format == "w4a16"


def test_a_name_says_nothing(tmp_path: Path) -> None:
    made = model(tmp_path / "Impish-12B-AWQ-4bit-GPTQ", LLAMA)
    assert checkpoint.read(made).quantization is None
    quantized = model(tmp_path / "plain", LLAMA, {}, quantization_config=compressed())
    assert checkpoint.read(quantized).quantization is not None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/Model-12B-AWQ", "AWQ"),
        ("org/model-gptq-4bit", "GPTQ"),
        ("RedHat/x-NVFP4A16", "NVFP4"),
        ("gptq-people/plain-12b", None),
        ("org/Llama-3.1-8B", None),
    ],
)
def test_what_a_name_suggests(name: str, said: str | None) -> None:
    assert detection.hint(name) == said
