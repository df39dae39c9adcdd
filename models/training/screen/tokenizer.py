"""Trains the classifier's tokenizer: lower-cased byte-level BPE with `<s> ... </s>`."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 12_288
MAX_TOKENS = 1536
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
ROLES = {
    "bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>",
    "mask": "<mask>",
}  # fmt: skip
BOS_ID, PAD_ID, EOS_ID, UNK_ID, MASK_ID = range(len(SPECIAL_TOKENS))


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Fit the tokenizer; the result truncates on the left to 1536 tokens, `<s> </s>` included."""
    tokenizer = Tokenizer(models.BPE())
    # A blank is put before each line's first word, so that a word has one form wherever it stands.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[\u2018\u2019]"), "'"),
            normalizers.Replace(Regex("[\u201c\u201d]"), '"'),
            normalizers.Replace(Regex("[ \t]*\r?\n[ \t]*"), " \n "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return finish(tokenizer)


def finish(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Frame each text as `<s> ... </s>` and give the special tokens their roles."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", BOS_ID), ("</s>", EOS_ID)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{role}_token": mark for role, mark in ROLES.items()},
        model_max_length=MAX_TOKENS,
        truncation_side="left",
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, truncated on the left to the model's length."""
    encoded = tokenizer(texts, truncation=True, max_length=MAX_TOKENS)
    return [list(ids) for ids in encoded["input_ids"]]
