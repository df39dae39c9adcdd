"""Tokenized training data: shards from worker processes, batches of equal length.

Every conversation has a row of its own (no packing across conversations, so a reply can only
attend to its own system prompt); rows of similar length share a batch, padded on the right.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult
from random import Random

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from models.training.chat.dialogue import Composer, Conversation
from models.training.chat.template import END, PAD, START, render

SHARD_CONVERSATIONS = 1024
LENGTHS = (128, 192, 256, 320, 384, 512, 768, 1024, 1536, 2048, 4096)
_SHARD_SEEDS = 10_000_019


@dataclass(frozen=True, slots=True)
class Shard:
    """Token ids and loss mask of many conversations, end to end; `ends` has their end offsets."""

    tokens: npt.NDArray[np.uint16]
    mask: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """`tokens` [rows, length]; `mask` marks the tokens that are to be predicted."""

    tokens: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]


class Encoder:
    """Turns conversations into token ids and a mask over trained replies and their end token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._start = tokenizer.token_to_id(START)
        self._end = tokenizer.token_to_id(END)
        self._header = tokenizer.encode("assistant\n").ids

    def encode(self, conversations: list[Conversation]) -> Shard:
        """Encode a list of conversations into one shard."""
        texts = [render(conversation.messages) for conversation in conversations]
        tokens: list[npt.NDArray[np.uint16]] = []
        masks: list[npt.NDArray[np.bool_]] = []
        for conversation, encoding in zip(
            conversations, self.tokenizer.encode_batch(texts), strict=True
        ):
            ids = np.array(encoding.ids, dtype=np.uint16)
            tokens.append(ids)
            masks.append(self._mask(ids, conversation))
        ends = np.cumsum([len(ids) for ids in tokens], dtype=np.int64)
        return Shard(np.concatenate(tokens), np.concatenate(masks), ends)

    def _mask(
        self, ids: npt.NDArray[np.uint16], conversation: Conversation
    ) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(ids), dtype=np.bool_)
        starts = np.flatnonzero(ids == self._start)
        ends = np.flatnonzero(ids == self._end)
        for message, start, end in zip(conversation.messages, starts, ends, strict=True):
            if message.role == "assistant" and message.trained:
                mask[start + 1 + len(self._header) : end + 1] = True
        return mask


@functools.cache
def _tools(tokenizer_path: str) -> tuple[Composer, Encoder | None]:
    """The composer and encoder of a worker process, built at its first task."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    encoder = Encoder(Tokenizer.from_file(tokenizer_path)) if tokenizer_path else None
    return Composer(), encoder


def conversations(composer: Composer, seed: int, index: int, count: int) -> list[Conversation]:
    """The `count` conversations of shard `index`; the same for the same seed and index."""
    rng = Random(seed * _SHARD_SEEDS + index)
    return [composer.conversation(Random(rng.getrandbits(63))) for _ in range(count)]


def _make_texts(seed: int, index: int) -> list[str]:
    composer, _ = _tools("")
    made = conversations(composer, seed, index, SHARD_CONVERSATIONS)
    return [render(conversation.messages) for conversation in made]


def _make_shard(tokenizer_path: str, seed: int, index: int) -> Shard:
    composer, encoder = _tools(tokenizer_path)
    if encoder is None:
        raise ValueError("making shards needs the path of a trained tokenizer.json")
    return encoder.encode(conversations(composer, seed, index, SHARD_CONVERSATIONS))


def sample_texts(seed: int, shards: int, workers: int) -> list[str]:
    """Rendered conversations for the tokenizer, from shard indices that training never uses."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        made = pool.starmap(_make_texts, [(seed, -1 - index) for index in range(shards)])
    return [text for texts in made for text in texts]


def stream_shards(tokenizer_path: str, seed: int, workers: int) -> Iterator[Shard]:
    """Endless shards in index order, a few dozen made ahead by worker processes."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pending: deque[AsyncResult[Shard]] = deque()
        index = 0
        while True:
            while len(pending) < 4 * workers:
                pending.append(pool.apply_async(_make_shard, (tokenizer_path, seed, index)))
                index += 1
            yield pending.popleft().get()


def stream_batches(shards: Iterator[Shard], tokens_a_batch: int, pad_id: int) -> Iterator[Batch]:
    """Batches of about `tokens_a_batch` tokens, in an order that the shards alone decide."""
    waiting: dict[int, list[tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]]] = {
        length: [] for length in LENGTHS
    }
    for shard in shards:
        begin = 0
        for end in shard.ends.tolist():
            length = next((size for size in LENGTHS if size >= end - begin), 0)
            if length:
                rows = waiting[length]
                rows.append((shard.tokens[begin:end], shard.mask[begin:end]))
                if len(rows) * length >= tokens_a_batch:
                    yield _pad(rows, length, pad_id)
                    waiting[length] = []
            begin = end


def _pad(
    rows: list[tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]], length: int, pad_id: int
) -> Batch:
    tokens = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.bool_)
    for row, (ids, trained) in enumerate(rows):
        tokens[row, : len(ids)] = ids
        mask[row, : len(ids)] = trained
    return Batch(tokens, mask)


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token; raises ValueError when the tokenizer lacks it."""
    found: int | None = tokenizer.token_to_id(PAD)
    if found is None:
        raise ValueError(f"the tokenizer has no {PAD} token; train it with train_tokenizer()")
    return found
