"""A Longformer as one masked attention a layer, for inputs that need no sliding chunks.

The stock module cuts its input into overlapping chunks and launches hundreds of small kernels for
it, which pays off at tens of thousands of tokens. At the length of a conversation a dense score
matrix with a mask gives the same numbers in a tenth of the launches. The rules, as in Beltagy et
al., 2020 (arXiv:2004.05150), with global attention on the first token alone: it attends to
everything by the global projections; every other token attends to half a window on each side, and
to the first token, by the local ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseLongformer(nn.Module):
    """The same function as a `LongformerForSequenceClassification` with global attention on the
    first token, from its own weights.

    The last layer is computed for the first token only: nothing else of it reaches the logits.
    """

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: the Hugging Face model. Its layers are shared, not copied, but for the
                projections, which are joined.
        """
        super().__init__()
        config = model.config
        self._padding = int(config.pad_token_id)
        self._half_windows = [window // 2 for window in config.attention_window]
        self.embeddings = model.longformer.embeddings
        self.layers = nn.ModuleList(_Layer(layer) for layer in model.longformer.encoder.layer)
        self.head = model.classifier

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, labels] in float32.

        Args:
            ids: token ids [batch, length], padded on the right.
            mask: [batch, length], True where a token is real.
        """
        length = ids.shape[1]
        index = torch.arange(length, device=ids.device)
        # Positions start behind the padding id, as in RoBERTa.
        positions = torch.where(mask, index + self._padding + 1, self._padding)
        hidden = self.embeddings(input_ids=ids, position_ids=positions)
        distance = (index[:, None] - index[None, :]).abs()
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            near = distance <= self._half_windows[number]
            near = near | (index == 0)[None, :]
            # A padded row attends to itself, so that its softmax has something to divide by.
            local = (near[None, None] & mask[:, None, None, :]) | (distance == 0)[None, None]
            hidden = layer(hidden, mask, local, first_only=number == last)
        logits: Tensor = self.head(hidden)
        return logits.float()


class _Layer(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.attention.self
        self._heads = int(attention.num_heads)
        self._local = _joined(attention.query, attention.key, attention.value)
        self._first = _FirstToken(attention)
        self._output = layer.attention.output
        self._intermediate = layer.intermediate
        self._close = layer.output

    def forward(self, hidden: Tensor, mask: Tensor, local: Tensor, *, first_only: bool) -> Tensor:
        attended = self._first(hidden, mask)
        if first_only:
            hidden = hidden[:, :1]
        else:
            query, keys, values = self._split(self._local(hidden))
            rest = functional.scaled_dot_product_attention(query, keys, values, attn_mask=local)
            attended = torch.cat((attended, rest[:, :, 1:].transpose(1, 2).flatten(2)), dim=1)
        hidden = self._output(attended, hidden)
        return self._close(self._intermediate(hidden), hidden)  # type: ignore[no-any-return]

    def _split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """[batch, length, 3 * width] to three of [batch, heads, length, width / heads]."""
        batch, length, width = projected.shape
        shape = (batch, length, 3, self._heads, width // 3 // self._heads)
        return projected.view(shape).permute(2, 0, 3, 1, 4).unbind(0)


class _FirstToken(nn.Module):
    """Global attention of the first token, without a key or value of any other token.

    A head's score of token x is q.(Kx + k) = (K'q).x + q.k, where q.k is the same for every x and
    falls out of the softmax; its result is the sum of p(Vx + v) = V(sum of px) + v. So the one
    query goes through the key matrix, and the one mean through the value matrix, in place of
    every token through both.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self._query = attention.query_global
        # [heads, width / heads, width] each
        heads, size = int(attention.num_heads), int(attention.head_dim)
        self._keys = nn.Parameter(attention.key_global.weight.view(heads, size, -1), False)
        self._values = nn.Parameter(attention.value_global.weight.view(heads, size, -1), False)
        self._value_bias = nn.Parameter(attention.value_global.bias, False)
        self._scale = size**-0.5

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[batch, length, width] and the mask [batch, length] to [batch, 1, width]."""
        heads, size, _ = self._keys.shape
        query = self._query(hidden[:, 0]).view(-1, heads, size) * self._scale
        asked = torch.einsum("bhs,hsw->bhw", query, self._keys)
        scores = asked @ hidden.transpose(1, 2)
        shares = scores.masked_fill(~mask[:, None], float("-inf")).softmax(-1)
        mean = shares @ hidden
        result = torch.einsum("bhw,hsw->bhs", mean, self._values).flatten(1) + self._value_bias
        return result[:, None]


def _joined(*projections: nn.Linear) -> nn.Linear:
    """One projection that gives what these give, one after the other."""
    weight = torch.cat([p.weight for p in projections])
    joined = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([p.bias for p in projections]), requires_grad=False)
    return joined
