"""Makes a model folder of a real model's shape.

    python -m tests.gpu.dummy_model OUT

The config is Mistral-Nemo 12B's (hidden 5120, 40 layers, 32 heads of 128, 8 KV heads, vocabulary
131,072); with vLLM's `load_format=dummy` the weights are random, and no file holds them. The
tokenizer is the demo model's with the rest of the vocabulary filled up, so that every token id is
text. `make` and `write_weights` also make Llama 3 8B's shape, and files of random weights.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent.parent.parent / "models" / "yap-chat-demo"
NEMO_12B: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 5120,
    "intermediate_size": 14336,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 131072,
}
LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
SHAPES = {"llama-8b": LLAMA_8B, "nemo-12b": NEMO_12B}


def make(out: Path, shape: Mapping[str, Any] = NEMO_12B) -> None:
    """Write the folder: config, tokenizer and template."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (DEMO / name).exists():
            shutil.copy(DEMO / name, out / name)
    demo = json.loads((DEMO / "config.json").read_text())
    special = {key: demo[key] for key in ("bos_token_id", "eos_token_id") if key in demo}
    (out / "config.json").write_text(json.dumps({**shape, **special}, indent=2))

    tokenizer = json.loads((DEMO / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    for number in range(shape["vocab_size"]):
        if number not in taken:
            vocabulary[f"\u0120w{number}"] = number  # \u0120 is how byte-level BPE spells a blank
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_weights(folder: Path, device: str = "cuda") -> None:
    """Give a folder that `make` wrote random weights in bfloat16, as they are initialised."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="4GB")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
