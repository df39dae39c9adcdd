"""Model folders of many kinds, as quantizers and publishers write them.

Weights are safetensors files with true headers and holes in place of data, so that a model of
eight billion parameters takes a few kilobytes of disk.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantization.planning.recipes import Recipe

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]

_BITS = {"F32": 32, "I32": 32, "BF16": 16, "F16": 16, "F8_E4M3": 8, "I8": 8, "U8": 8, "I64": 64}

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 1024,
}
QWEN3_MOE: dict[str, Any] = {
    **LLAMA,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "head_dim": 64,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
}
MISTRAL3: dict[str, Any] = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "model_type": "mistral3",
    "text_config": {**LLAMA, "architectures": None, "model_type": "mistral", "head_dim": 64},
    "vision_config": {"model_type": "pixtral", "hidden_size": 64},
    "torch_dtype": "bfloat16",
}
GROUP: dict[str, Any] = {
    "num_bits": 4,
    "type": "int",
    "strategy": "group",
    "group_size": 128,
    "symmetric": True,
}
W4A16 = Recipe(
    method="awq",
    backend="llmcompressor",
    bits=4,
    group_size=128,
    symmetric=False,
    ignore=("lm_head", "re:.*embed_tokens$"),
    dataset="open_platypus",
    samples=8,
    sequence_length=64,
)


def safetensors(path: Path, tensors: Shapes) -> None:
    """A file with these tensors: name -> dtype and shape."""
    end = 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * _BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    os.truncate(path, 8 + len(raw) + end)


def decoder(config: Mapping[str, Any], prefix: str = "model.") -> dict[str, Any]:
    """The tensors of a decoder without biases, by its config."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    size = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    found: dict[str, Any] = {
        f"{prefix}embed_tokens.weight": ("BF16", (config["vocab_size"], hidden)),
        f"{prefix}norm.weight": ("BF16", (hidden,)),
    }
    if not config.get("tie_word_embeddings"):
        found["lm_head.weight"] = ("BF16", (config["vocab_size"], hidden))
    for number in range(layers):
        layer = f"{prefix}layers.{number}."
        found[f"{layer}input_layernorm.weight"] = ("BF16", (hidden,))
        found[f"{layer}post_attention_layernorm.weight"] = ("BF16", (hidden,))
        found[f"{layer}self_attn.q_proj.weight"] = ("BF16", (queries, hidden))
        found[f"{layer}self_attn.k_proj.weight"] = ("BF16", (keys, hidden))
        found[f"{layer}self_attn.v_proj.weight"] = ("BF16", (keys, hidden))
        found[f"{layer}self_attn.o_proj.weight"] = ("BF16", (hidden, queries))
        experts = config.get("num_experts", 0)
        width = config["moe_intermediate_size"] if experts else config["intermediate_size"]
        mlps = [f"mlp.experts.{n}." for n in range(experts)] or ["mlp."]
        if experts:
            found[f"{layer}mlp.gate.weight"] = ("BF16", (experts, hidden))
        for mlp in mlps:
            found[f"{layer}{mlp}gate_proj.weight"] = ("BF16", (width, hidden))
            found[f"{layer}{mlp}up_proj.weight"] = ("BF16", (width, hidden))
            found[f"{layer}{mlp}down_proj.weight"] = ("BF16", (hidden, width))
    return found


def parameters(tensors: Shapes) -> int:
    return sum(math.prod(shape) for _, shape in tensors.values())


def model(
    folder: Path, config: Mapping[str, Any], tensors: Shapes | None = None, **changes: Any
) -> str:
    """A folder with config, tokenizer, template and weights; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {**config, **changes}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    if tensors is None:
        text = fields.get("text_config") or fields
        tensors = decoder(text, "language_model.model." if text is not fields else "model.")
    if tensors:
        safetensors(folder / "model.safetensors", tensors)
    return str(folder)


def compressed(**changes: Any) -> dict[str, Any]:
    """A quantization_config as llmcompressor writes it."""
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": GROUP, "input_activations": None}
        },
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        **changes,
    }


def group(
    weights: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """As `compressed`, with one group of layers of this kind."""
    part = {"targets": ["Linear"], "weights": {**GROUP, **weights}, "input_activations": inputs}
    return compressed(config_groups={"group_0": part}, **changes)
