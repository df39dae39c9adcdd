"""The batch forms while the model is busy; none waits for ever, none is lost, none comes twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yap.screen.batcher import Batcher, Entry

SOON_S = 10.0  # what takes longer hangs


def entries(*lengths: int) -> list[Entry]:
    """Texts of so many tokens, their ids counted from 0."""
    return [Entry(i, [7] * length) for i, length in enumerate(lengths)]


def batcher_with(waiting: Sequence[Entry], texts: int = 32, tokens: int = 8192) -> Batcher:
    batcher = Batcher(texts, tokens)
    for entry in waiting:
        batcher.put(entry)
    return batcher


def take_ids(batcher: Batcher) -> list[int]:
    return [entry.id for entry in batcher.take()]


class Taking:
    """A thread that takes until there is no more, as the one that computes does."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.batches: list[list[Entry]] = []
        self.took = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while batch := self._batcher.take():
            self.batches.append(batch)
            self.took.release()

    def ended(self, within_s: float = SOON_S) -> bool:
        self._thread.join(within_s)
        return not self._thread.is_alive()


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    one = Batcher(32, 8192)
    yield one
    one.close()


# When


def test_a_lone_text_is_taken_at_once() -> None:
    (entry,) = entries(5)
    batcher = batcher_with([entry])
    assert batcher.take() == [entry]
    assert len(batcher) == 0


def test_what_came_while_the_model_was_busy_is_taken_together() -> None:
    first, *others = entries(5, 6, 5, 6)
    batcher = batcher_with([first])
    assert batcher.take() == [first]
    for entry in others:
        batcher.put(entry)
    assert len(batcher) == 3
    assert sorted(take_ids(batcher)) == [1, 2, 3]


def test_who_takes_waits_for_a_text(batcher: Batcher) -> None:
    taking = Taking(batcher)
    assert not taking.ended(within_s=0.05)
    (entry,) = entries(5)
    batcher.put(entry)
    assert taking.took.acquire(timeout=SOON_S)
    assert taking.batches == [[entry]]


# What


@pytest.mark.parametrize(
    ("lengths", "texts", "tokens", "batches"),
    [
        # by texts
        ([5, 5, 5], 2, 100, [[0, 1], [2]]),
        ([5, 5, 5], 1, 100, [[0], [1], [2]]),
        # by tokens, padding included: two of 10 are 20, and so are a 10 and a 1
        ([10, 10], 9, 20, [[0, 1]]),
        ([10, 10], 9, 19, [[0], [1]]),
        ([10, 1], 9, 20, [[1, 0]]),
        ([10, 1], 9, 19, [[0], [1]]),
        ([1, 10], 9, 19, [[0], [1]]),
        ([10, 9, 8], 9, 30, [[2, 1, 0]]),
        ([10, 9, 8], 9, 29, [[1, 0], [2]]),
        # the nearest in length go with the oldest
        ([10, 90, 11, 9, 91], 3, 1000, [[3, 0, 2], [1, 4]]),
        ([10, 90, 12, 8, 91], 2, 1000, [[0, 2], [1, 4], [3]]),
        # one that is over the bound by itself
        ([50, 1], 9, 20, [[0], [1]]),
        ([1, 50, 1], 9, 20, [[0, 2], [1]]),
        ([50, 50], 9, 20, [[0], [1]]),
    ],
)
def test_a_batch_is_bounded_by_texts_and_by_padded_tokens(
    lengths: list[int], texts: int, tokens: int, batches: list[list[int]]
) -> None:
    batcher = batcher_with(entries(*lengths), texts, tokens)
    assert [take_ids(batcher) for _ in batches] == batches
    assert len(batcher) == 0


@given(
    st.lists(st.integers(1, 60) | st.none(), max_size=40), st.integers(1, 6), st.integers(1, 120)
)
def test_each_is_taken_once_the_oldest_first_and_within_the_bounds(
    steps: list[int | None], texts: int, tokens: int
) -> None:
    """`steps`: a text of that length comes, or a batch is taken."""
    batcher = Batcher(texts, tokens)
    came = [length for length in steps if length is not None]
    coming = iter(entries(*came))
    waiting: list[Entry] = []
    taken: list[int] = []

    def take() -> None:
        batch = batcher.take()
        lengths = [len(entry.token_ids) for entry in batch]
        assert waiting[0] in batch
        assert all(entry in waiting for entry in batch)
        assert lengths == sorted(lengths)
        assert len(batch) <= texts
        assert len(batch) == 1 or len(batch) * max(lengths) <= tokens
        taken.extend(entry.id for entry in batch)
        waiting[:] = [entry for entry in waiting if entry not in batch]
        assert len(batcher) == len(waiting)

    for step in steps:
        if step is not None:
            waiting.append(next(coming))
            batcher.put(waiting[-1])
        elif waiting:
            take()
    while waiting:  # ends, as the oldest goes each time
        take()
    assert sorted(taken) == list(range(len(came)))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 6))
def test_a_batch_is_as_full_as_it_can_be_with_the_nearest(lengths: list[int], texts: int) -> None:
    tokens = 120
    waiting = entries(*lengths)
    batch = batcher_with(waiting, texts, tokens).take()
    left = [entry for entry in waiting if entry not in batch]

    def apart(entry: Entry) -> int:
        return abs(len(entry.token_ids) - lengths[0])

    if left:
        nearest = min(map(apart, left))
        assert max(map(apart, batch)) <= nearest
        longest = [
            max(len(entry.token_ids) for entry in [*batch, next_one])
            for next_one in left
            if apart(next_one) == nearest
        ]
        assert len(batch) == texts or (len(batch) + 1) * max(longest) > tokens


# Who has gone


def test_who_has_gone_is_not_taken() -> None:
    batcher = batcher_with(entries(5, 5, 5))
    batcher.drop(0)
    batcher.drop(2)
    assert len(batcher) == 1
    assert take_ids(batcher) == [1]


def test_to_drop_what_is_not_there_is_nothing() -> None:
    batcher = batcher_with(entries(5, 5), texts=1)
    assert take_ids(batcher) == [0]
    for gone in (0, 0, 99):
        batcher.drop(gone)
    assert take_ids(batcher) == [1]


def test_who_takes_goes_on_waiting_where_the_only_text_was_dropped(batcher: Batcher) -> None:
    first, second = entries(5, 5)
    taking = Taking(batcher)
    assert not taking.ended(within_s=0.05)
    with batcher._changed:  # who waits is woken, and finds nothing
        batcher.put(first)
        batcher.drop(first.id)
    assert not taking.ended(within_s=0.05)
    batcher.put(second)
    assert taking.took.acquire(timeout=SOON_S)
    assert taking.batches == [[second]]


# Threads


def test_closing_ends_who_waits(batcher: Batcher) -> None:
    taking = [Taking(batcher), Taking(batcher)]
    assert not taking[0].ended(within_s=0.05)
    batcher.close()
    assert all(one.ended() for one in taking)


def test_once_closed_nothing_is_taken() -> None:
    batcher = batcher_with(entries(5))
    batcher.close()
    assert batcher.take() == []
    batcher.put(Entry(9, [7]))
    assert batcher.take() == []


def test_between_two_threads_nothing_is_lost_and_nothing_comes_twice() -> None:
    batcher = Batcher(8, 256)
    taking = Taking(batcher)
    lengths = random.Random(0).choices(range(1, 64), k=1000)
    for entry in entries(*lengths):
        batcher.put(entry)
    for _ in lengths:
        if sum(map(len, taking.batches)) >= len(lengths):
            break
        assert taking.took.acquire(timeout=SOON_S)
    batcher.close()
    assert taking.ended()
    assert sorted(entry.id for batch in taking.batches for entry in batch) == list(range(1000))
    assert all(len(entry.token_ids) == lengths[entry.id] for b in taking.batches for entry in b)


def test_what_is_dropped_from_another_thread_is_taken_or_gone_and_never_both() -> None:
    batcher = Batcher(8, 256)
    taking = Taking(batcher)
    for entry in entries(*[5] * 1000):
        batcher.put(entry)
        if entry.id % 2:
            batcher.drop(entry.id)
    last = Entry(1000, [7])
    batcher.put(last)
    while not any(last in batch for batch in list(taking.batches)):
        assert taking.took.acquire(timeout=SOON_S)
    batcher.close()
    assert taking.ended()
    taken = [entry.id for batch in taking.batches for entry in batch]
    assert len(taken) == len(set(taken))
    assert set(range(0, 1001, 2)) <= set(taken)


def test_a_batch_holds_no_more_padding_than_it_may() -> None:
    batcher = Batcher(32, 8192, most_padding=8)
    for number, length in enumerate((10, 300, 12, 14, 40, 290, 1000)):
        batcher.put(Entry(number, [1] * length))
    taken = [[len(entry.token_ids) for entry in batcher.take()] for _ in range(4)]
    assert taken == [[10, 12, 14], [290, 300], [40], [1000]]
