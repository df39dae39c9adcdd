"""From documents of any length to sequences of one length.

Documents are put one behind another, each with the tokens that mark its beginning or its end, until
a sequence is full; what is left of the document that filled it is not used, so that every sequence
begins where a document does. All sequences are full but for the last, which is kept if it is at
least half full, or if it is the only one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Packed:
    """Sequences of token ids, and how many documents went into them."""

    sequences: list[list[int]] = field(default_factory=list)
    documents: int = 0

    @property
    def tokens(self) -> int:
        """Of all sequences."""
        return sum(map(len, self.sequences))


def pack(documents: Iterable[list[int]], count: int, length: int) -> Packed:
    """At most `count` sequences of `length` tokens; no more documents are taken than they need."""
    packed = Packed()
    if count <= 0:
        return packed
    current: list[int] = []
    for ids in documents:
        current = [*current, *ids]
        packed.documents += 1
        if len(current) >= length:
            packed.sequences.append(current[:length])
            current = []
            if len(packed.sequences) == count:
                return packed
    if current and (2 * len(current) >= length or not packed.sequences):
        packed.sequences.append(current)
    return packed
