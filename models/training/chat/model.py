"""The architecture of the demo chat model."""

from __future__ import annotations

from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig

from models.training.chat.template import END, PAD

MAX_POSITIONS = 8192


def model_config(tokenizer: Tokenizer) -> LlamaConfig:
    """A Llama of about 4.9 million parameters (9.8 MB in bfloat16)."""
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=576,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_POSITIONS,
        # With theta 100,000 the slow half of the dimensions turns by less than one radian over
        # the 4,096 positions of training, and by little more up to 8,192.
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        attn_implementation="sdpa",
    )


def generation_config(tokenizer: Tokenizer) -> GenerationConfig:
    """Stop at the end of the turn; sample mildly by default."""
    return GenerationConfig(
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
    )
