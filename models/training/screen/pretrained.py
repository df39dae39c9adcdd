"""Starting weights: a small general-purpose encoder, cut down and made a Longformer.

What a few million weights cannot learn from this project's phrasings alone is which words mean
nearly the same. An encoder that has read the language knows. `all-MiniLM-L6-v2` (Apache-2.0; six
layers, width 384, 22.7 million weights; Wang et al., 2020, arXiv:2002.10957) is taken with the
word pieces that matter here and as many of its layers as are wanted. Its local attention also
becomes the global one of the first token, and its positions are repeated behind one another, as
Beltagy et al., 2020 (arXiv:2004.05150) made a Longformer of RoBERTa.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    BertModel,
    BertTokenizerFast,
    LongformerForSequenceClassification,
    PreTrainedTokenizerFast,
)

from models.training.screen.tokenizer import PAD_ID, SPECIAL_TOKENS, finish

# Stands for the end of a line, which a BERT tokenizer would take for a blank.
LINE_END = "\u21b5"
# Their names in the encoder's vocabulary, in the order of SPECIAL_TOKENS and LINE_END.
_THEIRS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", "[SEP]")


def cut_tokenizer(folder: Path, texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """The encoder's tokenizer with `size` of its pieces: all letters, what `texts` hold, and then
    its commonest words.

    Any text can be written in the pieces that are left, since every letter is one.
    """
    whole = BertTokenizerFast.from_pretrained(folder)
    seen = Counter(i for ids in whole(list(texts))["input_ids"] for i in ids)
    # In the order of the file, which is by frequency for words.
    pieces = sorted(whole.get_vocab().items(), key=lambda item: item[1])
    pieces = [(piece, i) for piece, i in pieces if piece not in _THEIRS and piece.isascii()]
    letters = [piece for piece, _ in pieces if len(piece.removeprefix("##")) == 1]
    used = [piece for piece, i in sorted(pieces, key=lambda item: -seen[item[1]]) if seen[i]]
    words = [piece for piece, _ in pieces if piece.isalpha()]
    kept = list(dict.fromkeys([*letters, *used, *words]))[: size - len(_THEIRS)]
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL_TOKENS, LINE_END, *kept])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("[ \t]*\r?\n[ \t]*"), f" {LINE_END} "),
            normalizers.NFKC(),
            normalizers.Replace(Regex("[\u2018\u2019]"), "'"),
            normalizers.Replace(Regex("[\u201c\u201d]"), '"'),
            normalizers.BertNormalizer(lowercase=True),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return finish(tokenizer)


def take_weights(
    folder: Path, model: LongformerForSequenceClassification, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Fill all of `model` but its head from the encoder; a model of fewer layers skips some.

    Raises:
        ValueError: `model` is not as wide as the encoder.
    """
    source = BertModel.from_pretrained(folder, dtype=torch.float32)
    if source.config.hidden_size != model.config.hidden_size:
        raise ValueError(f"--width must be {source.config.hidden_size}, the width of {folder}")
    ours, theirs = model.longformer, source
    index = BertTokenizerFast.from_pretrained(folder).get_vocab()
    own = tokenizer.get_vocab()
    names = dict(zip((*SPECIAL_TOKENS, LINE_END), _THEIRS, strict=True))
    with torch.no_grad():
        words = theirs.embeddings.word_embeddings.weight
        for piece, i in own.items():
            ours.embeddings.word_embeddings.weight[i] = words[index[names.get(piece, piece)]]
        _repeat(theirs.embeddings.position_embeddings.weight,
                ours.embeddings.position_embeddings.weight[PAD_ID + 1 :])  # fmt: skip
        kind = theirs.embeddings.token_type_embeddings.weight[:1]
        ours.embeddings.token_type_embeddings.weight.copy_(kind)
    _same(theirs.embeddings.LayerNorm, ours.embeddings.LayerNorm)
    layers = ours.encoder.layer
    for number, layer in enumerate(layers):
        _fill(layer, theirs.encoder.layer[_spread(number, len(layers), source)])


def _spread(number: int, layers: int, source: Any) -> int:
    """Which layer of the encoder becomes layer `number` of `layers`: first, last, and between."""
    last: int = source.config.num_hidden_layers - 1
    return round(number * last / max(1, layers - 1))


def _fill(layer: Any, source: Any) -> None:
    attention, theirs = layer.attention.self, source.attention.self
    for name in ("query", "key", "value"):
        _same(getattr(theirs, name), getattr(attention, name))
        _same(getattr(theirs, name), getattr(attention, f"{name}_global"))
    _same(source.attention.output, layer.attention.output)
    _same(source.intermediate, layer.intermediate)
    _same(source.output, layer.output)


def _same(source: nn.Module, target: nn.Module) -> None:
    target.load_state_dict(copy.deepcopy(source.state_dict()))


def _repeat(source: Tensor, target: Tensor) -> None:
    for start in range(0, len(target), len(source)):
        part = target[start : start + len(source)]
        part.copy_(source[: len(part)])
