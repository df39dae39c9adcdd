"""Real checkpoints that are tiny, made here, with a vocabulary that tests can count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

WORDS = [f"w{i}" for i in range(100)]
POSITIONS = 64  # what a model can read, its special tokens included
KINDS = ("longformer", "bert", "distilbert", "roberta", "xlm-roberta", "modernbert")
MakeModel = Callable[..., str]

# In the order of their ids, as the two families have them.
_ROBERTA_TOKENS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>"}
_BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}


def _special_tokens(kind: str) -> dict[str, str]:
    roberta = kind in {"longformer", "roberta", "xlm-roberta"}
    return _ROBERTA_TOKENS if roberta else _BERT_TOKENS


def _tokenizer(kind: str, max_length: int | None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = _special_tokens(kind)
    vocabulary = {word: i for i, word in enumerate([*special.values(), *WORDS])}
    cls, sep = special["cls"], special["sep"]
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk"]))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])]
    )
    limit = {} if max_length is None else {"model_max_length": max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=cls,
        cls_token=cls,
        eos_token=sep,
        sep_token=sep,
        pad_token=special["pad"],
        unk_token=special["unk"],
        **limit,
    )


def _config(kind: str, labels: Sequence[str]) -> Any:
    from transformers import CONFIG_MAPPING

    special = list(_special_tokens(kind))
    start, padding, end = (special.index(name) for name in ("cls", "pad", "sep"))
    # The RoBERTa family counts positions from behind the padding token's id.
    positions = POSITIONS + (padding + 1 if kind in {"longformer", "roberta", "xlm-roberta"} else 0)
    fields: dict[str, Any] = {
        "vocab_size": len(special) + len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": positions,
        "bos_token_id": start,
        "cls_token_id": start,
        "pad_token_id": padding,
        "eos_token_id": end,
        "sep_token_id": end,
        "initializer_range": 0.5,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    of_kind: dict[str, dict[str, Any]] = {
        "longformer": {"attention_window": [8], "type_vocab_size": 1},
        "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
        # A layer that sees everything, and one that sees a window.
        "modernbert": {"num_hidden_layers": 2, "global_attn_every_n_layers": 2}
        | {"local_attention": 8},
    }
    return CONFIG_MAPPING[kind](**(fields | of_kind.get(kind, {})))


@pytest.fixture(scope="session")
def make_screen_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Makes a model folder. The weights are the same each time; the labels are what is given.

    One token is one word of `WORDS`. `max_length` is what the tokenizer says of its own limit.
    `kind` is one of `KINDS`.
    """

    def make(
        labels: Sequence[str] = ("other", "take_screenshot"),
        max_length: int | None = POSITIONS,
        kind: str = "longformer",
    ) -> str:
        import torch
        from transformers import AutoModelForSequenceClassification

        torch.manual_seed(0)
        folder: Path = tmp_path_factory.mktemp("screen-model")
        AutoModelForSequenceClassification.from_config(_config(kind, labels)).save_pretrained(
            folder
        )
        _tokenizer(kind, max_length).save_pretrained(folder)
        return str(folder)

    return make
