"""The classifier's shape, and a dense forward pass with the same weights for fast training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LongformerConfig, LongformerForSequenceClassification

from models.training.screen.tokenizer import BOS_ID, EOS_ID, MAX_TOKENS, PAD_ID, VOCAB_SIZE

ATTENTION_WINDOW = 64
HEAD_WIDTH = 32
INIT_STD = 0.08
LABELS = ("no_screenshot", "screenshot")


def build_model(
    vocab_size: int = VOCAB_SIZE, width: int = 192, layers: int = 4, window: int = ATTENTION_WINDOW
) -> LongformerForSequenceClassification:
    """A Longformer of this shape, untrained, positions set to sinusoids."""
    config = LongformerConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=4 * width,
        attention_window=window,
        # Positions start after the padding id, as in RoBERTa.
        max_position_embeddings=MAX_TOKENS + PAD_ID + 1,
        type_vocab_size=1,
        # 0.02 suits a width of 768; at these it leaves attention too faint to start learning.
        initializer_range=INIT_STD,
        hidden_dropout_prob=0.15,
        attention_probs_dropout_prob=0.1,
        bos_token_id=BOS_ID,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        sep_token_id=EOS_ID,
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    )
    model = LongformerForSequenceClassification(config)
    positions = model.longformer.embeddings.position_embeddings.weight
    with torch.no_grad():
        positions[PAD_ID + 1 :] = _sinusoids(MAX_TOKENS, config.hidden_size)
    return model


def _sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions (Vaswani et al., 2017) at the scale of the other embeddings."""
    angle = torch.arange(length)[:, None] * torch.exp(
        torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
    )
    return torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(length, width) * INIT_STD


def dense_encode(
    model: LongformerForSequenceClassification, ids: Tensor, shift: Tensor | None = None
) -> Tensor:
    """What the stock encoder computes with global attention on token 0, as dense attention.

    ids: [batch, length] token ids, padded on the right. shift: [batch] positions to skip after
    token 0, as if a longer history stood in between. Returns hidden states [batch, length, width].

    The stock module splits its sequence into chunks and launches hundreds of small kernels, which
    at these lengths costs far more than the masked-out half of a dense score matrix. Its rules:
    a token attends within half a window on each side and to token 0 with the local projections;
    token 0 attends to everything with the global ones (Beltagy et al., 2020).
    """
    config = model.config
    length = ids.shape[1]
    index = torch.arange(length, device=ids.device)
    positions = (index + PAD_ID + 1).expand_as(ids)
    if shift is not None:
        positions = positions + shift[:, None] * (index > 0)
    real = ids != PAD_ID
    positions = torch.where(real, positions, PAD_ID)
    band = (index[:, None] - index[None, :]).abs() <= config.attention_window[0] // 2
    band = band | (index == 0)[None, :]
    local_mask = (band & real[:, None, :])[:, None] | torch.eye(
        length, dtype=torch.bool, device=ids.device
    )
    global_mask = real[:, None, None, :]
    hidden: Tensor = model.longformer.embeddings(input_ids=ids, position_ids=positions)
    drop = config.attention_probs_dropout_prob if model.training else 0.0
    for layer in model.longformer.encoder.layer:
        core = layer.attention.self
        local = functional.scaled_dot_product_attention(
            _heads(core.query, hidden), _heads(core.key, hidden), _heads(core.value, hidden),
            attn_mask=local_mask, dropout_p=drop,
        )  # fmt: skip
        whole = functional.scaled_dot_product_attention(
            _heads(core.query_global, hidden[:, :1]), _heads(core.key_global, hidden),
            _heads(core.value_global, hidden), attn_mask=global_mask, dropout_p=drop,
        )  # fmt: skip
        attended = torch.cat((whole, local[:, :, 1:]), dim=2).transpose(1, 2).flatten(2)
        attended = layer.attention.output(attended, hidden)
        hidden = layer.output(layer.intermediate(attended), attended)
    return hidden


def _heads(projection: nn.Module, hidden: Tensor) -> Tensor:
    """[batch, length, width] to [batch, heads, length, width / heads]."""
    projected: Tensor = projection(hidden)
    batch, length, width = projected.shape
    return projected.view(batch, length, width // HEAD_WIDTH, HEAD_WIDTH).transpose(1, 2)


def save_model(
    model: LongformerForSequenceClassification, directory: Path, temperature: float
) -> None:
    """Write half-precision weights that load as fp32, with the temperature folded in.

    Dividing the output layer by the temperature makes a plain softmax over the logits calibrated.
    """
    with torch.no_grad():
        model.classifier.out_proj.weight /= temperature
        model.classifier.out_proj.bias /= temperature
    model.half().save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    # `from_pretrained` follows the config's dtype; CPUs want fp32, whatever the file holds.
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
