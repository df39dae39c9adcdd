"""Which architectures vLLM and the quantizers know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantization.model import architectures, checkpoint
from quantization.model.architectures import autoawq, llmcompressor_awq, vllm_knows
from tests.unit.chat.checkpoints import CONFIGS
from tests.unit.quantization.models import LLAMA, MISTRAL3, decoder, model


@pytest.mark.parametrize(
    ("architecture", "known"),
    [
        ("LlamaForCausalLM", True),
        ("Gemma3ForConditionalGeneration", True),
        ("Qwen3MoeForCausalLM", True),
        ("LongformerForSequenceClassification", None),
        ("InventedForCausalLM", None),
        ("unknown", False),
    ],
)
def test_what_vllm_has(architecture: str, known: bool | None) -> None:
    found = vllm_knows(architecture)
    assert found.known is known
    assert found.why.endswith(".")


@pytest.mark.slow
def test_the_list_is_the_one_that_vllm_uses() -> None:
    from vllm.model_executor.models import ModelRegistry
    from vllm.model_executor.models.registry import _PREVIOUSLY_SUPPORTED_MODELS

    supported = set(ModelRegistry.get_supported_archs())
    ours = {arch for arch in supported if vllm_knows(arch).known}
    assert {CONFIGS[name]["architectures"][0] for name in CONFIGS} <= ours
    assert not any(vllm_knows(arch).known for arch in _PREVIOUSLY_SUPPORTED_MODELS)
    lists = architectures._registry()
    generating = {arch for name in architectures._GENERATES for arch in lists[name]}
    assert generating <= supported


def read(folder: Path, tensors: dict[str, Any] | None = None, **changes: Any) -> Any:
    return checkpoint.read(model(folder, LLAMA, tensors, **changes))


def test_what_llmcompressor_traces(tmp_path: Path) -> None:
    assert llmcompressor_awq(read(tmp_path / "a")).known
    assert llmcompressor_awq(read(tmp_path / "b", architectures=["XForCausalLM"])).known
    fused = {name.replace("q_proj", "qkv_proj"): t for name, t in decoder(LLAMA).items()}
    found = llmcompressor_awq(read(tmp_path / "c", fused, architectures=["XForCausalLM"]))
    assert not found.known
    assert "(q_proj)" in found.why
    own = llmcompressor_awq(read(tmp_path / "d", auto_map={"AutoConfig": "a.B"}))
    assert not own.known
    assert "code of the model's own" in own.why
    # A tower has layers of the same names, and which is meant cannot be told by them.
    vlm = checkpoint.read(model(tmp_path / "e", MISTRAL3, architectures=["XForCausalLM"]))
    assert not llmcompressor_awq(vlm).known


def test_what_autoawq_has(tmp_path: Path) -> None:
    assert autoawq(read(tmp_path / "a")).known
    assert not autoawq(read(tmp_path / "b", model_type="mistral3")).known
