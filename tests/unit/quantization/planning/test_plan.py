"""What is decided for many models on many machines, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantization.errors import ExitCode, QuantizationError
from quantization.model import checkpoint
from quantization.planning.plan import Plan, plan
from quantization.planning.recipes import choices
from quantization.serving.judging import settings_for
from quantization.serving.target import Target, imagined
from tests.unit.chat.checkpoints import CONFIGS, DEMO
from tests.unit.quantization.models import (
    LLAMA,
    MISTRAL3,
    QWEN3_MOE,
    compressed,
    decoder,
    group,
    model,
)
from yap.chat.tuning.hardware import GIB, Hardware

CPU = Target(Hardware((), 24 * GIB, 2))
H100 = imagined(80, (9, 0))
A100 = imagined(80, (8, 0))
TURING = imagined(16, (7, 5))
VOLTA = imagined(32, (7, 0))


def planned(
    made: str, target: Target, to: Any = None, environ: dict[str, str] | None = None, **asked: Any
) -> Plan:
    return plan(
        checkpoint.read(made),
        target,
        settings_for(made, environ or {}),
        width=to,
        wanted=choices(asked, "x"),
        origin={name: f"--{name}" for name in asked},
        environ=environ or {},
    )


def refusal(made: str, target: Target, to: Any = None, **asked: Any) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        planned(made, target, to, **asked)
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("target", "to", "method", "scheme"),
    [
        (H100, "8bit", "fp8", "FP8_DYNAMIC"),
        (imagined(24, (8, 9)), "8bit", "fp8", "FP8_DYNAMIC"),
        (imagined(32, (12, 0)), "8bit", "fp8", "FP8_DYNAMIC"),
        (A100, "8bit", "int8", "W8A8"),
        (TURING, "8bit", "int8", "W8A8"),
        (CPU, "8bit", "int8", "W8A8"),
        (H100, "4bit", "awq", "W4A16_ASYM"),
        (CPU, "4bit", "awq", "W4A16_ASYM"),
    ],
)
def test_the_method_follows_the_hardware(
    target: Target, to: str, method: str, scheme: str, tmp_path: Path
) -> None:
    found = planned(model(tmp_path, LLAMA), target, to)
    assert (found.recipe.method, found.recipe.scheme) == (method, scheme)
    assert found.recipe.backend == "llmcompressor"
    assert found.serving.serves
    assert all(one.why.endswith(".") for one in found.decisions)
    assert {one.name for one in found.decisions} >= {"method", "backend", "ignore", "group_size"}


@pytest.mark.parametrize(
    ("method", "scheme", "group_size"),
    [("gptq", "W4A16", 128), ("rtn", "W4A16", 128), ("nvfp4a16", "NVFP4A16", 16)],
)
def test_others_by_name(method: str, scheme: str, group_size: int, tmp_path: Path) -> None:
    recipe = planned(model(tmp_path, LLAMA), H100, method=method).recipe
    assert (recipe.scheme, recipe.group_size) == (scheme, group_size)
    assert (recipe.dataset is None) is (method != "gptq")


def test_the_layers_that_stay(tmp_path: Path) -> None:
    moe = planned(model(tmp_path / "moe", QWEN3_MOE), H100, "4bit")
    assert moe.recipe.ignore == ("lm_head", r"re:.*\.gate$", "re:.*embed_tokens$")
    tensors = decoder(MISTRAL3["text_config"], "language_model.model.")
    tensors["vision_tower.layers.0.q_proj.weight"] = ("BF16", (64, 64))
    vlm = planned(model(tmp_path / "vlm", MISTRAL3, tensors), H100, "4bit")
    assert vlm.recipe.ignore == ("lm_head", "re:.*embed_tokens$", "re:.*vision_tower.*")
    assert len(vlm.layers) == 14


def test_groups_fit_the_layers(tmp_path: Path) -> None:
    made = model(tmp_path / "a", {**LLAMA, "intermediate_size": 576})
    assert planned(made, H100, "4bit").recipe.group_size == 64
    error = refusal(made, H100, "4bit", group_size=128)
    assert "the 576 inputs of model.layers.0.mlp.down_proj (2 such layers)" in error.message
    made = model(tmp_path / "b", {**LLAMA, "intermediate_size": 500})
    recipe = planned(made, H100, "4bit").recipe
    assert recipe.ignore == ("lm_head", r"re:.*\.down_proj$", "re:.*embed_tokens$")


@pytest.mark.parametrize(
    ("architecture", "kind", "backend", "method"),
    [
        ("LlamaForCausalLM", "llama", "llmcompressor", "awq"),
        ("Gemma2ForCausalLM", "gemma2", "llmcompressor", "awq"),
        ("InventedForCausalLM", "invented", "llmcompressor", "awq"),  # its layers have usual names
        ("StableLmForCausalLM", "stablelm", "autoawq", "awq"),
        ("Glm4ForCausalLM", "glm4", "llmcompressor", "gptq"),
    ],
)
def test_the_backend_follows_the_architecture(
    architecture: str, kind: str, backend: str, method: str, tmp_path: Path
) -> None:
    tensors = decoder(LLAMA)
    if kind in ("stablelm", "glm4"):
        tensors = {name.replace("gate_proj", "gate_up_proj"): t for name, t in tensors.items()}
    made = model(tmp_path, LLAMA, tensors, architectures=[architecture], model_type=kind)
    recipe = planned(made, H100, "4bit").recipe
    assert (recipe.backend, recipe.method) == (backend, method)
    assert recipe.format == ("awq" if backend == "autoawq" else "w4a16")


def test_code_of_a_models_own_is_not_run_unasked(tmp_path: Path) -> None:
    own = {"auto_map": {"AutoConfig": "c.C"}}
    made = model(tmp_path / "a", {**LLAMA, **own, "model_type": "invented"})
    assert planned(made, H100, "4bit").recipe.method == "rtn"
    made = model(tmp_path / "b", {**LLAMA, **own, "model_type": "internlm2"})
    assert "TRUST_REMOTE_CODE_MODELS" in refusal(made, H100, "4bit").message
    trusted = planned(made, H100, "4bit", {"TRUST_REMOTE_CODE_MODELS": made})
    assert trusted.recipe.backend == "autoawq"


def test_autoawq_by_name(tmp_path: Path) -> None:
    made = model(tmp_path, LLAMA)
    recipe = planned(made, H100, "4bit", backend="autoawq").recipe
    assert (recipe.backend, recipe.format, recipe.symmetric) == ("autoawq", "awq", False)
    made = model(tmp_path / "vlm", MISTRAL3)
    assert "AutoAWQ 0.2.9 does not have" in refusal(made, H100, "4bit", backend="autoawq").message
    error = refusal(model(tmp_path / "b", LLAMA), H100, "8bit", backend="autoawq")
    assert "autoawq makes awq, not fp8" in error.message


@pytest.mark.parametrize(
    "config",
    [
        compressed(),
        group({"num_bits": 8, "type": "float", "strategy": "channel"}),
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True},
        {"quant_method": "auto-round", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "torchao", "quant_type": "int8"},
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        {"quant_method": "mxfp4"},
        {"quant_method": "never heard of"},
    ],
)
@pytest.mark.parametrize("to", ["4bit", "8bit"])
def test_what_is_quantized_stays_as_it_is(config: dict[str, Any], to: str, tmp_path: Path) -> None:
    made = model(tmp_path, LLAMA, quantization_config=config)
    error = refusal(made, H100, to)
    assert error.code is ExitCode.REFUSED
    assert "is quantized already" in error.message
    assert "name the float model" in error.message


@pytest.mark.parametrize(
    ("changes", "target", "asked", "says"),
    [
        ({"architectures": ["LongformerForSequenceClassification"]}, H100, {}, "not a chat model"),
        ({"is_encoder_decoder": True}, H100, {}, "not a chat model"),
        ({}, CPU, {"method": "nvfp4a16"}, "no CPU kernel for it. To make it for a GPU"),
        ({}, VOLTA, {"method": "awq"}, "from compute capability 7.5 on"),
        ({"auto_map": {"AutoConfig": "c.C"}, "model_type": "qwen"}, H100, {}, "TRUST_REMOTE_CODE"),
        ({"max_position_embeddings": 256}, H100, {"sequence_length": 512}, "more than the 256"),
    ],
)
def test_what_cannot_be_done(
    changes: dict[str, Any], target: Target, asked: dict[str, Any], says: str, tmp_path: Path
) -> None:
    made = model(tmp_path, {**LLAMA, **changes}, decoder(LLAMA))
    error = refusal(made, target, None if "method" in asked else "4bit", **asked)
    assert error.code is ExitCode.REFUSED
    assert says in error.message


def test_experts_are_not_quantized_for_a_cpu(tmp_path: Path) -> None:
    made = model(tmp_path, QWEN3_MOE)
    for to in ("4bit", "8bit"):
        assert "experts on a CPU without AMX" in refusal(made, CPU, to).message
    assert planned(made, H100, "8bit").recipe.method == "fp8"


def test_pickled_weights_can_only_be_calibrated(tmp_path: Path) -> None:
    made = model(tmp_path, LLAMA, {})
    assert "holds no weights" in refusal(made, H100, "8bit").message
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 1000)
    assert "pickled weights" in refusal(made, H100, "8bit").message
    assert planned(made, H100, "4bit").recipe.group_size == 128


def test_the_width_and_the_method_agree(tmp_path: Path) -> None:
    error = refusal(model(tmp_path, LLAMA), H100, "8bit", method="awq")
    assert error.code is ExitCode.USAGE
    assert "take fp8, int8, smoothquant, or --to 4bit" in error.message


def test_older_variables_count_where_nothing_else_was_said(tmp_path: Path) -> None:
    made = model(tmp_path, LLAMA)
    environ = {"AWQ_CALIB_DATASET": "c4", "AWQ_NSAMPLES": "99", "AWQ_SEQLEN": " 1024 "}
    found = planned(made, H100, "4bit", environ, samples=7)
    assert (found.recipe.dataset, found.recipe.samples) == ("c4", 7)
    assert found.recipe.sequence_length == 1024
    reasons = {one.name: one.why for one in found.decisions}
    assert reasons["dataset"] == "Set by AWQ_CALIB_DATASET."
    assert reasons["samples"] == "Set by --samples."
    assert planned(made, H100, "8bit", environ).recipe.dataset is None
    with pytest.raises(QuantizationError, match="AWQ_NSAMPLES say cannot be: samples: "):
        planned(made, H100, "4bit", {"AWQ_NSAMPLES": "many"})


def test_a_large_model_is_rounded_on_a_cpu_unless_asked_otherwise(tmp_path: Path) -> None:
    made = model(tmp_path, CONFIGS["llama-3.1-8b"])
    machine = Target(Hardware((), 64 * GIB, 8))
    found = planned(made, machine, "4bit")
    assert found.recipe.method == "rtn"
    assert "hours on this CPU" in found.decisions[0].why
    assert found.estimate.seconds < 1800
    slow = planned(made, machine, method="awq")
    assert slow.recipe.method == "awq"
    assert slow.estimate.seconds > 12 * 3600


def test_what_it_takes_and_what_comes_out(tmp_path: Path) -> None:
    """A 12-billion-parameter model on an 80 GiB GPU: about 15 minutes, 14 GiB of it, 7 GiB out."""
    made = model(tmp_path, CONFIGS["nemo-12b"])
    found = planned(made, H100, "4bit")
    assert 600 < found.estimate.seconds < 1800
    assert 10 * GIB < found.estimate.device_memory < 20 * GIB
    assert 40 * GIB < found.estimate.memory < 60 * GIB
    linear = sum(layer.numbers for layer in found.layers)
    kept = 2 * 12_247_782_400 - 2 * linear
    shapes = 16 * len(found.layers)
    assert found.estimate.export == kept + int(linear * (0.5 + 2.5 / 128)) + shapes
    assert found.serving.weights == found.estimate.export
    before = planned(made, H100, "8bit")
    assert before.serving.memory is not None
    assert found.serving.memory is not None
    assert found.serving.memory.sessions > before.serving.memory.sessions
    assert not found.offload
    assert planned(made, imagined(12, (9, 0)), "4bit").offload


# Bytes of the tensors that llmcompressor 0.14.0.1 wrote for the demo model.
@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("int8", 5_963_776),
        ("fp8", 5_963_776),
        ("nvfp4a16", 4_260_520),
        ("rtn", 4_141_216),
        ("awq", 4_171_168),
    ],
)
def test_the_estimate_of_a_size_is_that_of_a_real_export(method: str, size: int) -> None:
    assert planned(str(DEMO), H100, method=method).estimate.export == size
