"""The dense Longformer is the stock one: the same logits, whatever its shape and its input's."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from yap.screen.longformer import DenseLongformer

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "models" / "yap-screen-demo"
VOCABULARY = 50
FIRST_WORD = 4  # the ids below are special tokens'
POSITIONS = 160
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Shape:
    windows: tuple[int, ...]  # one a layer
    heads: int = 2
    head_width: int = 8
    padding: int = 1
    labels: int = 2


SHAPES = [
    Shape(windows=(8,)),
    Shape(windows=(4,), heads=1),
    Shape(windows=(4, 16)),
    Shape(windows=(32, 4), heads=4, head_width=4),
    Shape(windows=(8, 8, 8), heads=3, padding=0),
    Shape(windows=(4, 16, 64), padding=3, labels=5),
]
# From nothing said to several windows: on the edge of one, beside it, and far behind it.
LENGTHS = (3, 4, 5, 7, 8, 9, 16, 17, 33, 64, 65, 100, 150)


def stock_longformer(shape: Shape) -> Any:
    """A random Longformer whose weights are large enough for every part of it to matter."""
    from transformers import LongformerConfig, LongformerForSequenceClassification

    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.heads * shape.head_width,
        num_hidden_layers=len(shape.windows),
        num_attention_heads=shape.heads,
        intermediate_size=24,
        attention_window=list(shape.windows),
        max_position_embeddings=POSITIONS + shape.padding + 1,
        type_vocab_size=1,
        pad_token_id=shape.padding,
        sep_token_id=2,
        initializer_range=0.5,
        num_labels=shape.labels,
    )
    model = LongformerForSequenceClassification(config).eval()
    with torch.no_grad():  # biases begin at zero, where a forgotten one does not show
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.5)
    return model


def random_rows(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    words = random.Random(seed)
    return [[words.randrange(FIRST_WORD, VOCABULARY) for _ in range(n)] for n in lengths]


def padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, both [rows, longest]."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
    return ids, mask


def stock_logits(model: Any, row: Sequence[int]) -> Tensor:
    ids = torch.tensor([row])
    with torch.inference_mode():
        logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits[0]


def dense_logits(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = DenseLongformer(model).eval()(*padded(rows, model.config.pad_token_id))
    return logits


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_text_gets_the_stock_logits_alone_and_in_a_padded_batch(shape: Shape) -> None:
    model = stock_longformer(shape)
    rows = random_rows(LENGTHS)
    stock = torch.stack([stock_logits(model, row) for row in rows])
    alone = torch.cat([dense_logits(model, [row]) for row in rows])
    together = dense_logits(model, rows)
    assert together.shape == (len(rows), shape.labels)
    torch.testing.assert_close(alone, stock, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(together, stock, atol=TOLERANCE, rtol=TOLERANCE)
    assert stock.std(dim=0).min() > 0.05  # the texts differ by far more than the tolerance


@pytest.mark.parametrize("seed", range(6))
def test_a_longformer_of_any_shape_gets_the_stock_logits(seed: int) -> None:
    choose = random.Random(seed)
    shape = Shape(
        windows=tuple(choose.choice((4, 8, 16, 32)) for _ in range(choose.randint(1, 3))),
        heads=choose.randint(1, 4),
        head_width=choose.choice((4, 8)),
        padding=choose.randint(0, 3),
    )
    model = stock_longformer(shape)
    rows = random_rows([choose.randint(3, POSITIONS) for _ in range(5)], seed)
    stock = torch.stack([stock_logits(model, row) for row in rows])
    torch.testing.assert_close(dense_logits(model, rows), stock, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_batch_gets_what_the_stock_model_gives_a_batch() -> None:
    model = stock_longformer(SHAPES[2])
    ids, mask = padded(random_rows((3, 40, 17, 100)), model.config.pad_token_id)
    with torch.inference_mode():
        stock = model(input_ids=ids, attention_mask=mask.long()).logits
        dense = DenseLongformer(model).eval()(ids, mask)
    torch.testing.assert_close(dense, stock, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_what_stands_in_the_padding_does_not_matter(shape: Shape) -> None:
    model = stock_longformer(shape)
    short, long = random_rows((9, 60))
    ids, mask = padded([short, long], shape.padding)
    dense = DenseLongformer(model).eval()
    with torch.inference_mode():
        before = dense(ids, mask)
        ids[0, len(short) :] = 17
        after = dense(ids, mask)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    assert after.isfinite().all()


def test_a_row_beside_which_all_is_padding_gives_numbers() -> None:
    """As a row of a captured batch that stands for no text."""
    model = stock_longformer(SHAPES[2])
    ids, mask = padded([[0], *random_rows((100,))], model.config.pad_token_id)
    with torch.inference_mode():
        assert DenseLongformer(model).eval()(ids, mask).isfinite().all()


def test_a_window_that_is_one_number_is_every_layers() -> None:
    from transformers import LongformerForSequenceClassification

    config = stock_longformer(SHAPES[4]).config
    config.attention_window = 8
    model = LongformerForSequenceClassification(config).eval()
    (row,) = random_rows((50,))
    torch.testing.assert_close(
        dense_logits(model, [row])[0], stock_logits(model, row), atol=TOLERANCE, rtol=TOLERANCE
    )


def test_the_stock_model_is_left_as_it_was() -> None:
    model = stock_longformer(SHAPES[3])
    (row,) = random_rows((40,))
    before = stock_logits(model, row)
    dense_logits(model, [row])
    assert torch.equal(stock_logits(model, row), before)


def test_logits_are_float32_where_the_weights_are_not() -> None:
    model = stock_longformer(SHAPES[2])
    rows = random_rows((5, 40))
    exact = dense_logits(model, rows)
    rough = dense_logits(model.to(torch.bfloat16), rows)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=1.0, rtol=0)


# The model that comes with the service


@pytest.fixture(scope="module")
def demo() -> Any:
    from transformers import LongformerForSequenceClassification

    return LongformerForSequenceClassification.from_pretrained(DEMO).eval()


@pytest.fixture(scope="module")
def demo_rows() -> list[list[int]]:
    """Utterances, short talks, and a text of more tokens than the model can read."""
    from transformers import AutoTokenizer

    licence = (ROOT / "LICENSE").read_text()
    texts = [
        "",
        "hey",
        "look at my screen",
        "what do you think of this one here?",
        "hi there\nI am painting a boat today\ncan you see if the sail is straight",
        licence[:600],
        licence[:3000],
        licence,
    ]
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    return [tokenizer(text, truncation=True, max_length=1536)["input_ids"] for text in texts]


def test_the_demo_model_gives_the_stock_logits(demo: Any, demo_rows: list[list[int]]) -> None:
    lengths = [len(row) for row in demo_rows]
    assert max(lengths) == 1536 and min(lengths) == 2
    assert sum(64 < length < 1536 for length in lengths) >= 2
    stock = torch.stack([stock_logits(demo, row) for row in demo_rows])
    alone = torch.cat([dense_logits(demo, [row]) for row in demo_rows])
    together = dense_logits(demo, demo_rows)
    torch.testing.assert_close(alone, stock, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, stock, atol=1e-4, rtol=0)
    assert stock.std(dim=0).min() > 0.5
