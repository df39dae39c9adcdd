"""DRY ("don't repeat yourself"): the mathematics, once on the host and once on tensors.

Defined by its author, p-e-w, in text-generation-webui's pull request 5677: where the last n tokens
have been there before, the token that followed them then is made less likely, the more so the
larger n is. A repetition is at most `MAX_MATCH` tokens, and a sequence breaker ends it: it is
neither part of one nor made less likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from yap.chat.samplers.options import MAX_MATCH, DryOptions

if TYPE_CHECKING:
    from torch import Tensor

NO_TOKEN: Final = -1  # where a row of token ids has none
_NEVER: Final = -2  # equals no token, and no absent one
# Comparing windows takes this many bytes of memory at a time, twice.
_WINDOW_BYTES: Final = 1 << 26
# Tokens of a reply before its text needs another array.
_ROOM: Final = 256

TokenIds = NDArray[np.int32]


# --- on the host, one request at a time -----------------------------------------------------


class Repetitions:
    """Where the text of one request says again what it said before; kept up token by token."""

    def __init__(self, options: DryOptions, prompt: Sequence[int], reply: list[int]) -> None:
        """
        Args:
            reply: the request's own list, which grows while it runs.
        """
        self._options = options
        self._breakers = frozenset(options.breaker_ids)
        self._prompt, self._reply = prompt, reply
        self._read_all()

    def penalties(self) -> dict[int, float]:
        """What to subtract from the logits of the next token: token id to penalty."""
        self._read_fresh()
        options, lengths = self._options, self._lengths[: self._size - 1]
        if options.range:
            lengths = lengths[: options.range - 1]
        back = np.flatnonzero(lengths >= options.allowed_length)
        if not back.size:
            return {}
        found = lengths[back]
        if options.range:  # what reaches out of range is shorter
            found = np.minimum(found, options.range - 1 - back)
        order = np.argsort(found)  # the longest before each token comes last, and stays
        followers = self._text[self._newest + back[order]]
        longest = dict(zip(followers.tolist(), found[order].tolist(), strict=True))
        return {
            token: options.multiplier * options.base ** (length - options.allowed_length)
            for token, length in longest.items()
            if length >= options.allowed_length and token not in self._breakers
        }

    # The text is written backwards, and grows to the left. `_lengths[n]` says for how many tokens
    # it ends as it did n + 1 tokens ago: one token more, and each of them is one more or none.

    def _read_all(self) -> None:
        said = [*self._prompt, *_settled(self._reply)]
        self._read = len(said) - len(self._prompt)
        self._newest = _ROOM
        self._text: TokenIds = np.empty(_ROOM + len(said), np.int32)
        self._text[_ROOM:] = said[::-1]
        self._lengths: NDArray[np.uint8] = np.zeros(len(self._text), np.uint8)
        for back in reversed(range(min(self._size, MAX_MATCH))):
            self._compare(self._newest + back)

    def _read_fresh(self) -> None:
        if len(self._reply) < self._read:  # the engine has taken tokens back
            self._read_all()
        for token in _settled(self._reply[self._read :]):
            if self._newest == 0:
                self._grow()
            self._newest -= 1
            self._text[self._newest] = token
            self._read += 1
            self._compare(self._newest)

    def _grow(self) -> None:
        more = len(self._text)
        self._text = np.concatenate((np.empty(more, np.int32), self._text))
        self._lengths = np.concatenate((self._lengths, np.zeros(more, np.uint8)))
        self._newest = more

    def _compare(self, place: int) -> None:
        token = self._text[place]
        earlier = self._text[place + 1 :]
        lengths = self._lengths[: len(earlier)]
        if int(token) in self._breakers:
            lengths.fill(0)
            return
        np.add(lengths, 1, out=lengths)
        np.minimum(lengths, MAX_MATCH, out=lengths)
        np.multiply(lengths, earlier == token, out=lengths)

    @property
    def _size(self) -> int:
        return len(self._text) - self._newest


def _settled(reply: list[int]) -> list[int]:
    """A reply without places that are held for tokens on their way."""
    return reply[: reply.index(NO_TOKEN)] if NO_TOKEN in reply else reply


# --- on tensors, a whole batch at a time ----------------------------------------------------


def penalty_table(
    token_ids: Tensor, numbers: Tensor, breaker_ids: Tensor, vocab_size: int
) -> Tensor:
    """What to subtract from the logits, [rows, vocab_size], float32. Never waits for the device.

    Args:
        token_ids: [rows, length], the newest token last in each row, `NO_TOKEN` where there is
            none or where it is out of range.
        numbers: [rows, 3] float32: multiplier, base and allowed length.
        breaker_ids: [rows, any], filled up with `vocab_size`.
    """
    rows, length = token_ids.shape
    table = torch.zeros(rows, vocab_size + 1, dtype=torch.float32, device=token_ids.device)
    at_once = max(1, _WINDOW_BYTES // (length * MAX_MATCH))
    for first in range(0, rows, at_once):
        some = slice(first, first + at_once)
        _penalize(table[some], token_ids[some], numbers[some], breaker_ids[some])
    table.scatter_(1, breaker_ids, 0.0)
    return table[:, :vocab_size]


def _penalize(table: Tensor, token_ids: Tensor, numbers: Tensor, breaker_ids: Tensor) -> None:
    multiplier, base, allowed = numbers.unsqueeze(1).unbind(-1)
    lengths = _match_lengths(token_ids, breaker_ids)
    penalty = multiplier * base ** (lengths - allowed)
    penalty.masked_fill_(lengths < allowed, 0.0)
    followers = token_ids[:, 1:].long()
    absent = table.shape[1] - 1
    followers.masked_fill_(followers == NO_TOKEN, absent)
    table.scatter_reduce_(1, followers, penalty, "amax")


def _match_lengths(token_ids: Tensor, breaker_ids: Tensor) -> Tensor:
    """For how many tokens the text up to each position, the last one left out, ends as the whole
    text does, [rows, length - 1].
    """
    padded = torch.nn.functional.pad(token_ids, (MAX_MATCH - 1, 0), value=NO_TOKEN)
    end = padded[:, -MAX_MATCH:]
    broken = (end.unsqueeze(-1) == breaker_ids.unsqueeze(1)).any(-1) | (end == NO_TOKEN)
    # What lies before a break equals nothing.
    before_break = broken.flip(1).cumsum(1).flip(1) > 0
    end = end.masked_fill(before_break, _NEVER)
    windows = padded[:, :-1].unfold(1, MAX_MATCH, 1)  # [rows, length - 1, MAX_MATCH]
    differs = windows != end.unsqueeze(1)
    place = torch.arange(1, MAX_MATCH + 1, dtype=torch.uint8, device=token_ids.device)
    return MAX_MATCH - (differs * place).amax(-1).int()
