"""Packs tokenized rows into padded batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.screen.data import Row
from models.training.screen.tokenizer import PAD_ID


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenized row: ids [length], label and the index of its class."""

    ids: NDArray[np.int32]
    label: int
    phrase_class: int


@dataclass(frozen=True, slots=True)
class Batch:
    """ids: [rows, length], labels and classes: [rows]."""

    ids: Tensor
    labels: Tensor
    classes: Tensor


def examples(rows: list[Row], ids: list[list[int]], class_names: list[str]) -> list[Example]:
    """Join rows with their token ids."""
    index = {name: i for i, name in enumerate(class_names)}
    return [
        Example(np.array(t, np.int32), row.label, index[row.phrase_class])
        for row, t in zip(rows, ids, strict=True)
    ]


def collate(members: list[Example], device: torch.device) -> Batch:
    """Pad on the right to a multiple of 16."""
    length = -(-max(len(e.ids) for e in members) // 16) * 16
    ids = np.full((len(members), length), PAD_ID, np.int64)
    for row, example in zip(ids, members, strict=True):
        row[: len(example.ids)] = example.ids
    return Batch(
        torch.from_numpy(ids).to(device, non_blocking=True),
        torch.tensor([e.label for e in members], device=device),
        torch.tensor([e.phrase_class for e in members], device=device),
    )


def plan(pool: list[Example], budget: int, rows: int) -> list[list[Example]]:
    """Cut a pool, sorted by length, into batches of at most `rows` rows and `budget` tokens."""
    out: list[list[Example]] = []
    current: list[Example] = []
    for example in sorted(pool, key=lambda e: len(e.ids)):
        if current and (len(current) == rows or (len(current) + 1) * len(example.ids) > budget):
            out.append(current)
            current = []
        current.append(example)
    return [*out, current] if current else out


def endless(
    pool: list[Example], budget: int, rows: int, rng: Random, device: torch.device
) -> Iterator[Batch]:
    """Shuffled batches without end; rows of like length meet in new company each epoch."""
    slab = rows * 40
    while True:
        order = rng.sample(pool, len(pool))
        for start in range(0, len(order), slab):
            packed = plan(order[start : start + slab], budget, rows)
            rng.shuffle(packed)
            for members in packed:
                yield collate(members, device)
