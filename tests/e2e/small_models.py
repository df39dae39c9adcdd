"""Chat models of a few hundred thousand random weights, of architectures that people quantize."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
DEMO: Final = ROOT / "models" / "yap-chat-demo"
_TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# Divisible by groups of 128 and by the tiles of vLLM's CPU kernels.
_SHAPE: Final[dict[str, Any]] = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "initializer_range": 0.1,  # far enough from a uniform answer to be hurt by rounding
}
_EXPERTS: Final = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
_MISTRAL: Final = {**_SHAPE, "sliding_window": None}
# Architecture -> its config's class, and what differs from the shape above.
KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "llama": ("LlamaConfig", _SHAPE),
    "mistral": ("MistralConfig", _MISTRAL),
    "qwen2": ("Qwen2Config", {k: v for k, v in _SHAPE.items() if k != "head_dim"}),
    "qwen3": ("Qwen3Config", _SHAPE),
    "qwen3_moe": ("Qwen3MoeConfig", {**_SHAPE, **_EXPERTS}),
    "gemma2": ("Gemma2Config", {**_SHAPE, "tie_word_embeddings": True}),
    "gemma3": ("Gemma3TextConfig", {**_SHAPE, "tie_word_embeddings": True}),
    "ministral3": ("Ministral3Config", _MISTRAL),
    "mistral3": ("Mistral3Config", _MISTRAL),
}
_VISION: Final = {
    "model_type": "pixtral",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 32,
    "image_size": 64,
    "patch_size": 16,
}


def make(kind: str, folder: Path) -> Path:
    """A model of a kind, with the demo model's tokenizer."""
    import torch
    import transformers

    name, values = KINDS[kind]
    torch.manual_seed(0)
    if kind == "mistral3":  # the text model inside one that also sees
        text = {**values, "model_type": "mistral"}
        config = transformers.Mistral3Config(
            text_config=text, vision_config=_VISION, tie_word_embeddings=False
        )
        model = transformers.Mistral3ForConditionalGeneration(config)
    else:
        config = getattr(transformers, name)(**values)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    for file in _TOKENIZER:
        shutil.copyfile(DEMO / file, folder / file)
    generation = {"eos_token_id": 2, "temperature": 0.7, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))
    return folder
