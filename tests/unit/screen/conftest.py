"""A real Longformer that is tiny, made here, with a vocabulary that tests can count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

WORDS = [f"w{i}" for i in range(100)]
POSITIONS = 64  # what the model can read, <s> and </s> included
MakeModel = Callable[..., str]


def _tokenizer(max_length: int | None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    limit = {} if max_length is None else {"model_max_length": max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        **limit,
    )


@pytest.fixture(scope="session")
def make_screen_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Makes a model folder. The weights are the same each time; the labels are what is given.

    One token is one word of `WORDS`. `max_length` is what the tokenizer says of its own limit.
    """

    def make(
        labels: Sequence[str] = ("other", "take_screenshot"), max_length: int | None = POSITIONS
    ) -> str:
        import torch
        from transformers import LongformerConfig, LongformerForSequenceClassification

        config = LongformerConfig(
            vocab_size=4 + len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            attention_window=[8],
            max_position_embeddings=POSITIONS + 2,  # positions are counted from pad_token_id + 1
            type_vocab_size=1,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
            sep_token_id=2,
            initializer_range=0.5,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
        torch.manual_seed(0)
        folder: Path = tmp_path_factory.mktemp("screen-model")
        LongformerForSequenceClassification(config).save_pretrained(folder)
        _tokenizer(max_length).save_pretrained(folder)
        return str(folder)

    return make
