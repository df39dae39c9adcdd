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
        everything = mask[:, None, None, :]
        distance = (index[:, None] - index[None, :]).abs()
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            near = distance <= self._half_windows[number]
            near = near | (index == 0)[None, :]
            # A padded row attends to itself, so that its softmax has something to divide by.
            local = (near[None, None] & everything) | (distance == 0)[None, None]
            hidden = layer(hidden, everything, local, first_only=number == last)
        logits: Tensor = self.head(hidden)
        return logits.float()


class _Layer(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.attention.self
        self._heads = int(attention.num_heads)
        self._query = _joined(attention.query)
        self._local = _joined(attention.query, attention.key, attention.value)
        self._global_query = _joined(attention.query_global)
        self._global = _joined(attention.key_global, attention.value_global)
        self._output = layer.attention.output
        self._intermediate = layer.intermediate
        self._close = layer.output

    def forward(
        self, hidden: Tensor, everything: Tensor, local: Tensor, *, first_only: bool
    ) -> Tensor:
        first = hidden[:, :1]
        keys, values = self._split(self._global(hidden), 2)
        (query,) = self._split(self._global_query(first), 1)
        attended = functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=everything
        )
        if not first_only:
            query, keys, values = self._split(self._local(hidden), 3)
            rest = functional.scaled_dot_product_attention(query, keys, values, attn_mask=local)
            attended = torch.cat((attended, rest[:, :, 1:]), dim=2)
        hidden = first if first_only else hidden
        hidden = self._output(attended.transpose(1, 2).flatten(2), hidden)
        return self._close(self._intermediate(hidden), hidden)  # type: ignore[no-any-return]

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[batch, length, parts * width] to `parts` of [batch, heads, length, width / heads]."""
        batch, length, width = projected.shape
        shape = (batch, length, parts, self._heads, width // parts // self._heads)
        return projected.view(shape).permute(2, 0, 3, 1, 4).unbind(0)


def _joined(*projections: nn.Linear) -> nn.Linear:
    """One projection that gives what these give, one after the other."""
    weight = torch.cat([p.weight for p in projections])
    joined = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([p.bias for p in projections]), requires_grad=False)
    return joined
