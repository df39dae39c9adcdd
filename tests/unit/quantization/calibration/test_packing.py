"""How sequences are made of documents."""

from __future__ import annotations

from collections.abc import Iterator

from quantization.calibration.packing import pack

DOCUMENTS = [[1] * 5, [2] * 6, [3] * 30, [4] * 3, [5] * 2]


def test_sequences_begin_where_a_document_does() -> None:
    packed = pack(DOCUMENTS, 2, 10)
    assert packed.sequences == [[1] * 5 + [2] * 5, [3] * 10]
    assert packed.documents == 3


def test_the_last_one_counts_when_half_full() -> None:
    assert pack(DOCUMENTS, 9, 10).sequences[2:] == [[4] * 3 + [5] * 2]
    assert pack(DOCUMENTS[:-1], 9, 10).sequences[2:] == []


def test_the_only_one_always_counts() -> None:
    assert pack([[1]], 9, 10).sequences == [[1]]


def test_no_more_documents_are_taken_than_needed() -> None:
    taken = []

    def documents() -> Iterator[list[int]]:
        for number in range(100):
            taken.append(number)
            yield [number] * 10

    assert len(pack(documents(), 3, 10).sequences) == 3
    assert len(taken) == 3
    assert pack(documents(), 0, 10).sequences == [] and len(taken) == 3


def test_nothing_makes_nothing() -> None:
    assert pack([], 3, 10).sequences == []
