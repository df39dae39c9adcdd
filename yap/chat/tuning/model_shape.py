"""Arithmetic on a model's config: what its KV cache takes, and how many parameters it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_WINDOWED: Final = frozenset({"sliding_attention", "chunked_attention"})
_RECURRENT: Final = frozenset({"linear_attention", "mamba", "mamba2", "conv", "recurrent"})
_EXPERTS: Final = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_EXPERTS_USED: Final = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk")
_SHARED: Final = ("n_shared_experts", "moe_num_shared_experts", "num_shared_experts")


@dataclass(frozen=True, slots=True)
class KvShape:
    """What one sequence keeps in the KV cache.

    `full` layers keep every token, `windowed` ones the last `window`, `recurrent` ones a state of
    `state_bytes` in all. A kept token is `numbers` numbers in each layer; `heads` is in how many
    parts tensor parallelism can split them; `latent`, whether it is one compressed vector.
    """

    full: int
    windowed: int
    window: int
    recurrent: int
    numbers: int
    heads: int
    state_bytes: int = 0
    latent: bool = False

    def bytes(self, tokens: int, size: int) -> int:
        """Bytes that a sequence of `tokens` takes, with `size` bytes a number."""
        kept = self.full * tokens + self.windowed * min(tokens, self.window)
        return kept * self.numbers * size + self.state_bytes


def kv_shape(text: Any, raw: Mapping[str, Any]) -> KvShape:
    """The KV cache of a decoder.

    Args:
        text: the text part of its config.
        raw: config.json as it is, for the keys that transformers renames.
    """
    layers = _integer(text, "num_hidden_layers") - _integer(text, "num_kv_shared_layers")
    window = _window(text)
    kinds = _layer_kinds(text, layers, window)
    recurrent = sum(kind in _RECURRENT for kind in kinds)
    windowed = sum(kind in _WINDOWED for kind in kinds) if window else 0
    rank = _integer(text, "kv_lora_rank")
    if rank:  # multi-head latent attention keeps one compressed vector
        rope = raw.get("qk_rope_head_dim")
        heads = 1
        numbers = rank + (rope if isinstance(rope, int) else _integer(text, "qk_rope_head_dim"))
    else:
        heads = _first(text, "n_head_kv", "num_kv_heads", "num_key_value_heads") or _heads(text)
        numbers = 2 * heads * _head_size(text)
    return KvShape(
        full=layers - recurrent - windowed,
        windowed=windowed,
        window=window,
        recurrent=recurrent,
        numbers=numbers,
        heads=heads,
        state_bytes=recurrent * _state_bytes(text),
        latent=rank > 0,
    )


def parameters(text: Any) -> tuple[int | None, int | None]:
    """Roughly how many parameters a decoder has, and how many of them compute one token (the
    embedding and the output matrix are not among those); None where its config does not say.
    """
    hidden, layers = _integer(text, "hidden_size"), _integer(text, "num_hidden_layers")
    vocabulary = _integer(text, "vocab_size")
    if not (hidden and layers and vocabulary):
        return None, None
    embeddings = vocabulary * hidden * (1 if getattr(text, "tie_word_embeddings", True) else 2)
    attention = _attention_parameters(text, hidden)
    dense = 3 * hidden * (_integer(text, "intermediate_size") or 4 * hidden)
    experts = _first(text, *_EXPERTS)
    if not experts:
        body = layers * (attention + dense)
        return embeddings + body, body
    width = _integer(text, "moe_intermediate_size") or _integer(text, "intermediate_size")
    shared = _first(text, *_SHARED) * width + _integer(text, "shared_expert_intermediate_size")
    routed = layers - _integer(text, "first_k_dense_replace")
    plain = (layers - routed) * dense + layers * attention

    def with_experts(count: int) -> int:
        return plain + routed * 3 * hidden * (count * width + shared)

    return embeddings + with_experts(experts), with_experts(_first(text, *_EXPERTS_USED) or 2)


def _attention_parameters(text: Any, hidden: int) -> int:
    rank = _integer(text, "kv_lora_rank")
    heads = _heads(text)
    if not rank:
        kv_heads = _first(text, "n_head_kv", "num_kv_heads", "num_key_value_heads") or heads
        return 2 * hidden * (heads + kv_heads) * _head_size(text)
    nope, rope = _integer(text, "qk_nope_head_dim"), _integer(text, "qk_rope_head_dim")
    value = _integer(text, "v_head_dim")
    queries = hidden * heads * (nope + rope)
    return queries + hidden * (rank + rope) + rank * heads * (nope + value) + heads * value * hidden


def _layer_kinds(text: Any, layers: int, window: int) -> list[str]:
    """The kind of each layer, in transformers' words."""
    kinds = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None)
    if kinds:
        return list(kinds)[:layers]
    linear = getattr(text, "linear_attn_config", None)
    if isinstance(linear, Mapping):  # counted from 1
        full = set(linear.get("full_attn_layers") or ())
        return ["full_attention" if n in full else "linear_attention" for n in range(1, layers + 1)]
    return ["sliding_attention" if window else "full_attention"] * layers


def _window(text: Any) -> int:
    """Tokens that windowed layers keep; 0 where no layer has a window."""
    if getattr(text, "use_sliding_window", True) is False:
        return 0
    return _integer(text, "sliding_window") or _integer(text, "attention_chunk_size")


def _state_bytes(text: Any) -> int:
    """Bytes of one recurrent layer's state for one sequence; 0 for kinds not known here."""
    linear = getattr(text, "linear_attn_config", None)
    if isinstance(linear, Mapping):
        heads, size = int(linear.get("num_heads") or 0), int(linear.get("head_dim") or 0)
        kernel = int(linear.get("short_conv_kernel_size") or 1)
        return heads * size * size * 4 + 3 * heads * size * (kernel - 1) * 2
    heads, size = _integer(text, "linear_num_value_heads"), _integer(text, "linear_value_head_dim")
    key_heads, key = _integer(text, "linear_num_key_heads"), _integer(text, "linear_key_head_dim")
    kernel = _integer(text, "linear_conv_kernel_dim") or 1
    return heads * size * key * 4 + (2 * key_heads * key + heads * size) * (kernel - 1) * 2


def _head_size(text: Any) -> int:
    heads = _heads(text)
    return _integer(text, "head_dim") or (_integer(text, "hidden_size") // heads if heads else 0)


def _heads(text: Any) -> int:
    return _integer(text, "num_attention_heads")


def _first(text: Any, *names: str) -> int:
    return next((number for name in names if (number := _integer(text, name))), 0)


def _integer(text: Any, name: str) -> int:
    """A number of the config; 0 where it has none. Lists give their largest."""
    value = getattr(text, name, None)
    if isinstance(value, (list, tuple)):
        value = max((one for one in value if isinstance(one, int)), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
