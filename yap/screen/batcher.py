"""Which waiting texts the model takes next: the batch forms while the model is busy.

There is no timer. A lone text is taken at once; texts that come while the model works are taken
together when it is free. It is the queue of text-embeddings-inference, in small.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A text that waits. token_ids: with the model's own special tokens, never empty."""

    id: int
    token_ids: list[int]


class Batcher:
    """Texts on their way from the threads that read to the one that computes."""

    def __init__(self, most_texts: int, most_tokens: int, most_padding: int | None = None) -> None:
        """
        Args:
            most_texts: in one batch.
            most_tokens: in one batch, padding included; a single text may have more.
            most_padding: tokens of padding for each text, on average; any number, if not given.
        """
        self._most_texts = most_texts
        self._most_tokens = most_tokens
        self._most_padding = most_padding
        self._waiting: OrderedDict[int, Entry] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entry: Entry) -> None:
        """Add a text."""
        with self._changed:
            self._waiting[entry.id] = entry
            self._changed.notify()

    def drop(self, entry_id: int) -> None:
        """Forget a text that nobody waits for any more, if it is not being computed yet."""
        with self._changed:
            self._waiting.pop(entry_id, None)

    def close(self) -> None:
        """End `take`, at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[Entry]:
        """The next batch, by length; waits for a text. Nothing, once closed.

        The oldest text is always in it, so that none waits for ever; with it go the texts that
        are nearest to it in length, so that little is computed for padding.
        """
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return []
            batch = self._choose()
            for entry in batch:
                del self._waiting[entry.id]
            return batch

    def _choose(self) -> list[Entry]:
        oldest = next(iter(self._waiting.values()))
        length = len(oldest.token_ids)
        nearest = sorted(self._waiting.values(), key=lambda e: abs(len(e.token_ids) - length))
        batch: list[Entry] = []
        longest = tokens = 0
        for entry in nearest:
            longest = max(longest, len(entry.token_ids))
            tokens += len(entry.token_ids)
            if batch and not self._may_be(len(batch) + 1, longest, tokens):
                break
            batch.append(entry)
            if len(batch) == self._most_texts:
                break
        return sorted(batch, key=lambda e: len(e.token_ids))

    def _may_be(self, texts: int, longest: int, tokens: int) -> bool:
        """Whether a batch may have so many texts, the longest so long, and tokens in all."""
        padded = texts * longest
        if padded > self._most_tokens:
            return False
        return self._most_padding is None or padded - tokens <= self._most_padding * texts
