"""The classifier's starting weights: a small BERT, cut down and made a Longformer."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from models.training.screen.model import build_model, dense_encode
from models.training.screen.pretrained import LINE_END, cut_tokenizer, take_weights
from models.training.screen.tokenizer import MAX_TOKENS, PAD_ID, SPECIAL_TOKENS, encode

WIDTH, LAYERS, POSITIONS = 64, 4, 48
LETTERS = string.ascii_lowercase + string.digits + string.punctuation
WORDS = ("look", "at", "my", "screen", "hello", "##shot", "zebra", "the")
TEXTS = ("look at my screen", "hello\nlook at my screenshot")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of the kind that is started from, with random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS)
    pieces += tuple(f"##{letter}" for letter in LETTERS) + WORDS
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, intermediate_size=4 * WIDTH, max_position_embeddings=POSITIONS,
        initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_the_model_gives_the_encoders_hidden_states(encoder: Path) -> None:
    tokenizer = cut_tokenizer(encoder, TEXTS, 4096)
    model = build_model(len(tokenizer), WIDTH, LAYERS, 2 * MAX_TOKENS)
    take_weights(encoder, model, tokenizer)
    source = BertModel.from_pretrained(encoder).eval()
    theirs = BertTokenizerFast.from_pretrained(encoder)
    with torch.no_grad():
        ours = dense_encode(model.eval(), torch.tensor(encode(tokenizer, [TEXTS[0]])))
        expected = source(**theirs(TEXTS[0], return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_model_of_fewer_layers_takes_the_first_the_last_and_between(encoder: Path) -> None:
    tokenizer = cut_tokenizer(encoder, TEXTS, 4096)
    model = build_model(len(tokenizer), WIDTH, 3, 64)
    take_weights(encoder, model, tokenizer)
    source = BertModel.from_pretrained(encoder)
    for layer, number in zip(model.longformer.encoder.layer, (0, 2, 3), strict=True):
        taken = source.encoder.layer[number]
        assert torch.equal(layer.intermediate.dense.weight, taken.intermediate.dense.weight)
        keys = taken.attention.self.key.weight
        assert torch.equal(layer.attention.self.key.weight, keys)
        assert torch.equal(layer.attention.self.key_global.weight, keys)


def test_positions_are_repeated_to_the_models_length(encoder: Path) -> None:
    tokenizer = cut_tokenizer(encoder, TEXTS, 4096)
    model = build_model(len(tokenizer), WIDTH, LAYERS, 64)
    take_weights(encoder, model, tokenizer)
    table = model.longformer.embeddings.position_embeddings.weight[PAD_ID + 1 :]
    assert len(table) == MAX_TOKENS
    for start in range(0, MAX_TOKENS, POSITIONS):
        assert torch.equal(table[start : start + POSITIONS], table[:POSITIONS])


def test_a_model_of_another_width_is_refused(encoder: Path) -> None:
    tokenizer = cut_tokenizer(encoder, TEXTS, 4096)
    with pytest.raises(ValueError, match="--width must be 64"):
        take_weights(encoder, build_model(len(tokenizer), 32, 1), tokenizer)


def test_the_tokenizer_keeps_letters_then_what_was_seen_then_common_words(encoder: Path) -> None:
    roles = len(SPECIAL_TOKENS) + 1
    room = 2 * len(LETTERS) + 5 + roles  # "look at my screen", and "##shot"
    kept = set(cut_tokenizer(encoder, TEXTS, room).get_vocab())
    assert {"look", "at", "my", "screen", "a", "##z", "#", LINE_END, *SPECIAL_TOKENS} <= kept
    assert "zebra" not in kept
    assert len(kept) <= room


def test_any_text_can_be_written_and_line_ends_are_seen(encoder: Path) -> None:
    tokenizer = cut_tokenizer(encoder, TEXTS, 2 * len(LETTERS) + 12)
    (ids,) = encode(tokenizer, ["The ZEBRA\u2019s caf\u00e9 \n look"])
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces[0] == "<s>" and pieces[-1] == "</s>"
    assert pieces.count(LINE_END) == 1
    assert "<unk>" not in pieces
    assert "'" in pieces
