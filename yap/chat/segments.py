"""Text to token ids, with what was encoded before kept.

A prompt is the last one and a little more, and encoding thousands of tokens anew takes
milliseconds of every turn. A tokenizer first cuts a text at its control tokens and then encodes
what is between them, each piece by itself. So the pieces, a message each, can be remembered.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

Encode = Callable[[str], list[int]]

# Of all pieces together: some 10 MB, and more than the sessions of a full server have.
_MOST_TOKENS: Final = 1_000_000
# What tokenizers treat differently at the beginning or the end of a text.
_PROBES: Final = ("word", " word", "\nword\n", "word ", "\n\n", " ", "1", "é🙂", "_", "\tword. ")


class SegmentEncoder:
    """Gives what `encode` gives. Threads may share it if they may share `encode`."""

    def __init__(self, encode: Encode, control_tokens: dict[str, int]) -> None:
        """
        Args:
            encode: a text to token ids, no special tokens added.
            control_tokens: those at which the tokenizer cuts, with their ids; see
                `control_tokens_of`. With none, or where pieces turn out to depend on what is
                around them, nothing is remembered.
        """
        self._encode = encode
        self._ids = control_tokens
        self._known: OrderedDict[str, list[int]] = OrderedDict()
        self._tokens = 0
        self._lock = threading.Lock()
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._cuts = bool(control_tokens) and self._pieces_are_independent()

    def __call__(self, text: str) -> list[int]:
        """The token ids of `text`."""
        return self._in_pieces(text) if self._cuts else self._encode(text)

    def _in_pieces(self, text: str) -> list[int]:
        ids: list[int] = []
        for number, piece in enumerate(self._cut.split(text)):
            if number % 2:
                ids.append(self._ids[piece])
            elif piece:
                ids += self._of(piece)
        return ids

    def _of(self, piece: str) -> list[int]:
        with self._lock:
            known = self._known.get(piece)
            if known is not None:
                self._known.move_to_end(piece)
                return known
        ids = self._encode(piece)
        with self._lock:
            if piece not in self._known:
                self._known[piece] = ids
                self._tokens += len(ids)
            while self._tokens > _MOST_TOKENS and len(self._known) > 1:
                self._tokens -= len(self._known.popitem(last=False)[1])
        return ids

    def _pieces_are_independent(self) -> bool:
        """Whether this tokenizer does as they do, tried with what might make a difference."""
        token = next(iter(self._ids))
        texts = [before + token + after for before in _PROBES for after in _PROBES]
        texts += [token * 2, "", "word" + "word".join(self._ids)]
        try:
            return all(self._in_pieces(text) == self._encode(text) for text in texts)
        finally:
            self._known.clear()
            self._tokens = 0


def control_tokens_of(tokenizer: Any) -> dict[str, int]:
    """The tokens at which a Hugging Face tokenizer cuts a text before all else, with their ids.

    Empty where one of them minds the blanks or words around it.
    """
    first = {
        number: token
        for number, token in tokenizer.added_tokens_decoder.items()
        if not token.normalized
    }
    if any(token.lstrip or token.rstrip or token.single_word for token in first.values()):
        return {}
    return {token.content: number for number, token in first.items()}
