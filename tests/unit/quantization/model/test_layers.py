"""Which layers stay as they are, and in groups of which size the others go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantization.model import checkpoint, layers
from quantization.model.checkpoint import Checkpoint
from quantization.model.patterns import anywhere, matches
from tests.unit.quantization.models import LLAMA, MISTRAL3, QWEN3_MOE, decoder, model


def made(folder: Path, config: dict[str, Any], more: dict[str, Any] | None = None) -> Checkpoint:
    text = config.get("text_config") or config
    prefix = "language_model.model." if text is not config else "model."
    return checkpoint.read(model(folder, config, {**decoder(text, prefix), **(more or {})}))


def patterns(found: Checkpoint) -> list[str]:
    return [pattern for one in layers.ignored(found) for pattern in one.patterns]


def quantized(found: Checkpoint) -> set[str]:
    return {layer.name for layer in layers.quantized(found, patterns(found))}


def test_a_dense_model(tmp_path: Path) -> None:
    found = made(tmp_path, LLAMA)
    assert patterns(found) == ["lm_head", "re:.*embed_tokens$"]
    assert len(quantized(found)) == 2 * 7
    assert not layers.has_experts(layers.quantized(found, ()))


def test_routers_stay_and_experts_go(tmp_path: Path) -> None:
    gate = "model.layers.0.mlp.shared_expert_gate.weight"
    found = made(tmp_path, QWEN3_MOE, {gate: ("BF16", (1, 256))})
    assert patterns(found) == [
        "lm_head",
        "re:.*embed_tokens$",
        r"re:.*\.gate$",
        r"re:.*\.shared_expert_gate$",
    ]
    names = quantized(found)
    assert len(names) == 2 * (4 + 4 * 3)
    assert "model.layers.1.mlp.experts.3.gate_proj" in names
    assert not any(name.endswith(("mlp.gate", "shared_expert_gate")) for name in names)
    assert layers.has_experts(layers.quantized(found, patterns(found)))


@pytest.mark.parametrize("router", ["block_sparse_moe.gate", "mlp.router", "mlp.router.layer"])
def test_routers_under_other_names(router: str, tmp_path: Path) -> None:
    found = made(tmp_path, QWEN3_MOE, {f"model.layers.0.{router}.weight": ("BF16", (4, 256))})
    assert f"model.layers.0.{router}" not in quantized(found)


def test_towers_stay(tmp_path: Path) -> None:
    more = {
        "vision_tower.transformer.layers.0.attention.q_proj.weight": ("BF16", (64, 64)),
        "vision_tower.transformer.layers.0.feed_forward.gate_proj.weight": ("BF16", (64, 64)),
        "multi_modal_projector.linear_1.weight": ("BF16", (256, 64)),
    }
    found = made(tmp_path, MISTRAL3, more)
    assert all(name.startswith("language_model.") for name in quantized(found))
    assert len(quantized(found)) == 2 * 7


def test_embeddings_stay_whatever_they_are_called(tmp_path: Path) -> None:
    tensors = {
        "transformer.wte.weight": ("BF16", (1024, 256)),
        "h.0.mlp.up.weight": ("BF16", (8, 8)),
    }
    found = checkpoint.read(model(tmp_path, LLAMA, tensors))
    assert patterns(found) == ["lm_head", "re:.*wte$"]
    assert quantized(found) == {"h.0.mlp.up"}


def test_a_head_that_guesses_stays(tmp_path: Path) -> None:
    found = made(tmp_path, LLAMA, {"mtp.layers.0.mlp.up_proj.weight": ("BF16", (512, 256))})
    assert "mtp.layers.0.mlp.up_proj" not in quantized(found)


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    more = {"model.layers.0.mlp.experts.gate_up_proj": ("BF16", (8, 512, 256))}
    found = made(tmp_path, LLAMA, more)
    stacked = next(one for one in layers.quantized(found, ()) if "experts" in one.name)
    assert (stacked.count, stacked.outputs, stacked.inputs) == (8, 512, 256)
    assert stacked.numbers == 8 * 512 * 256


@pytest.mark.parametrize(("intermediate", "group"), [(512, 128), (576, 64), (544, 32), (500, None)])
def test_groups_divide_every_input(intermediate: int, group: int | None, tmp_path: Path) -> None:
    found = made(tmp_path, {**LLAMA, "intermediate_size": intermediate})
    chosen = layers.quantized(found, ("lm_head",))
    assert layers.group_size(chosen) == group
    wrong = layers.not_dividing(chosen, 128)
    assert {layer.name.rpartition(".")[2] for layer in wrong} <= {"down_proj"}
    assert bool(wrong) is (group != 128)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("lm_head", "lm_head", True),
        ("lm_head", "language_model.lm_head", True),
        ("lm_head", "my_lm_head", False),
        (r"re:.*\.gate$", "model.layers.0.mlp.gate", True),
        (r"re:.*\.gate$", "model.layers.0.mlp.gate_proj", False),
        (r"re:vision.*", "model.vision", False),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected
    if not pattern.startswith("re:"):
        assert matches(anywhere(pattern), name) is expected
