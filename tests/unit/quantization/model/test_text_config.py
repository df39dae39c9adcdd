"""The text model's config: defaults and layer kinds as the classes in transformers make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantization.model import checkpoint
from quantization.model.text_config import text_config
from quantization.serving.judging import model_facts
from tests.unit.chat.checkpoints import CONFIGS
from tests.unit.quantization.models import MISTRAL3, compressed, decoder, model
from yap.chat.tuning import model_facts as service

# Their classes come with the model, or make up what their files do not say.
_OWN_CODE = {"kimi-linear-48b-a3b"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - _OWN_CODE))
def test_the_same_facts_as_the_service_finds(name: str, tmp_path: Path) -> None:
    """The service asks vLLM and transformers, which takes ten seconds; these must agree."""
    made = model(tmp_path, CONFIGS[name], {})
    theirs = service.read(made, trust_remote_code=False)
    ours = model_facts(checkpoint.read(made))
    assert ours.kv == theirs.kv
    for field in ("architecture", "longest", "vocabulary", "hidden", "heads", "dtype", "towers"):
        assert getattr(ours, field) == getattr(theirs, field), field
    for field in ("intermediate", "parameters", "active", "quantization"):
        assert getattr(ours, field) == getattr(theirs, field), field


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        compressed(),
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False},
        {"quant_method": "fp8", "activation_scheme": "dynamic"},
    ],
)
def test_the_same_quantization_as_the_service_finds(config: dict[str, Any], tmp_path: Path) -> None:
    made = model(tmp_path, CONFIGS["nemo-12b"], {}, quantization_config=config)
    theirs = service.read(made, trust_remote_code=False)
    ours = model_facts(checkpoint.read(made))
    assert ours.quantization == theirs.quantization
    assert ours.quantization_in_config is theirs.quantization_in_config is True


def test_what_the_file_leaves_out_is_in_the_shapes() -> None:
    """Gemma 3's text config names neither heads nor vocabulary; its weights do."""
    full = {**MISTRAL3["text_config"], "num_key_value_heads": 1, "vocab_size": 999}
    tensors = {f"language_model.{name}": shape for name, shape in decoder(full).items()}
    tensors["language_model.model.layers.0.self_attn.q_norm.weight"] = ("BF16", (64,))
    given: dict[str, Any] = {
        "model_type": "made_up",
        "text_config": {"model_type": "made_up_text", "hidden_size": 256},
    }
    found = text_config(given, _read(tensors))
    assert found.num_attention_heads == 4
    assert found.num_key_value_heads == 1
    assert found.head_dim == 64
    assert found.num_hidden_layers == 2
    assert found.vocab_size == 999


def _read(tensors: dict[str, Any]) -> Any:
    from quantization.model.tensors import Tensor

    return tuple(Tensor(name, dtype, shape, 0) for name, (dtype, shape) in tensors.items())


@pytest.mark.parametrize(
    ("config", "full", "others"),
    [
        ({"model_type": "gemma2", "num_hidden_layers": 42}, 21, "sliding_attention"),
        ({"model_type": "gemma3_text", "num_hidden_layers": 62}, 10, "sliding_attention"),
        (
            {"model_type": "gemma3_text", "num_hidden_layers": 6, "sliding_window_pattern": 2},
            3,
            "sliding_attention",
        ),
        ({"model_type": "qwen3_next", "num_hidden_layers": 48}, 12, "linear_attention"),
        (
            {
                "model_type": "qwen2",
                "num_hidden_layers": 28,
                "use_sliding_window": True,
                "sliding_window": 4096,
                "max_window_layers": 21,
            },
            21,
            "sliding_attention",
        ),
    ],
)
def test_kinds_of_layers(config: dict[str, Any], full: int, others: str) -> None:
    kinds = text_config(config).layer_types
    assert kinds.count("full_attention") == full
    assert kinds.count(others) == len(kinds) - full


def test_what_the_file_says_goes_before_everything(tmp_path: Path) -> None:
    kinds = ["full_attention"] * 4
    config = {"model_type": "gemma2", "num_hidden_layers": 4, "layer_types": kinds}
    assert text_config(config).layer_types == kinds
    assert text_config({"model_type": "mistral", "sliding_window": None}).sliding_window is None


def test_a_kind_that_nobody_knows(tmp_path: Path) -> None:
    for kind in ("", "no_such_kind", "../../etc", "llama; rm"):
        config = json.loads(json.dumps({"model_type": kind, "hidden_size": 8}))
        assert text_config(config).hidden_size == 8
