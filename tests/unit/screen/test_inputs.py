"""The classifier reads the newest lines that fit, and costs nothing for those that cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from yap.history import MAX_CHARS_PER_TOKEN
from yap.screen.inputs import join_lines, within_reach

LINES = st.lists(st.text("ab \n", min_size=1, max_size=50), max_size=12)
BUDGETS = st.integers(0, 12)


def words(line: str) -> int:
    return len(line.split())


def counter(seed: int) -> Callable[[str], int]:
    """A tokenizer's count: from 1 to 16 characters a token, and 1 token at least."""

    def count(line: str) -> int:
        chars_per_token = 1 + (seed + sum(map(ord, line))) % MAX_CHARS_PER_TOKEN
        return math.ceil(len(line) / chars_per_token)

    return count


COUNTERS = st.integers(0, 15).map(counter)


def newest_that_fit(
    utterance: str, earlier: Sequence[str], budget: int, count: Callable[[str], int]
) -> str:
    """What is promised, by counting every line."""
    starts = [i for i in range(len(earlier) + 1) if sum(map(count, earlier[i:])) <= budget]
    return "\n".join([*earlier[min(starts) :], utterance])


# The budget


@pytest.mark.parametrize(
    ("earlier", "budget", "joined"),
    [
        ([], 10, "now"),
        (["a b", "c d"], 4, "a b\nc d\nnow"),
        (["a b", "c d"], 3, "c d\nnow"),
        (["a", "b b b", "c"], 3, "c\nnow"),  # no line is left out between two that are read
        (["a b"], 1, "now"),
        (["a b"], 0, "now"),
        (["a"], 1, "a\nnow"),
        (["a", "b" * 1000], 60, "now"),
        (["same", "same", "same"], 2, "same\nsame\nnow"),
    ],
)
def test_the_newest_earlier_lines_that_fit_are_read_too(
    earlier: list[str], budget: int, joined: str
) -> None:
    assert join_lines("now", earlier, budget, words) == joined


@pytest.mark.parametrize("utterance", ["", "now", "a b c d e", "two\nlines"])
def test_the_utterance_is_read_whole_and_costs_nothing_of_the_budget(utterance: str) -> None:
    assert join_lines(utterance, ["a b"], 2, words) == f"a b\n{utterance}"
    assert join_lines(utterance, ["a b"], 0, words) == utterance


@given(LINES, BUDGETS, COUNTERS)
@example(["a" * MAX_CHARS_PER_TOKEN] * 3, 2, lambda line: 1)
@example(["a"] * 3, 2, lambda line: 1)
def test_the_lines_read_are_those_that_counting_every_line_gives(
    earlier: list[str], budget: int, count: Callable[[str], int]
) -> None:
    joined = newest_that_fit("now", earlier, budget, count)
    assert join_lines("now", earlier, budget, count) == joined
    assert join_lines("now", within_reach(earlier, budget), budget, count) == joined


# What is within reach


@pytest.mark.parametrize(
    ("lengths", "budget", "kept"),
    [
        ([], 2, 0),
        ([32], 2, 1),
        ([33], 2, 0),
        ([16, 16], 2, 2),
        ([17, 16], 2, 1),
        ([1, 1, 1], 2, 2),
        ([1, 33, 1], 2, 1),
        ([1], 0, 0),
    ],
)
def test_only_what_could_fit_by_its_length_is_within_reach(
    lengths: list[int], budget: int, kept: int
) -> None:
    earlier = [chr(ord("a") + i) * length for i, length in enumerate(lengths)]
    assert within_reach(earlier, budget) == earlier[len(earlier) - kept :]


@given(LINES, BUDGETS)
def test_what_is_within_reach_is_the_end_of_what_was_said_and_bounded(
    earlier: list[str], budget: int
) -> None:
    kept = within_reach(earlier, budget)
    assert kept == earlier[len(earlier) - len(kept) :]
    assert len(kept) <= budget
    assert sum(map(len, kept)) <= budget * MAX_CHARS_PER_TOKEN


@given(LINES, BUDGETS, COUNTERS)
def test_nothing_is_counted_that_cannot_fit(
    earlier: list[str], budget: int, count: Callable[[str], int]
) -> None:
    counted: list[str] = []

    def recorded(line: str) -> int:
        counted.append(line)
        return count(line)

    join_lines("now", earlier, budget, recorded)
    assert sum(map(len, counted)) <= budget * MAX_CHARS_PER_TOKEN
    assert len(counted) <= budget
    assert sum(map(count, counted[:-1])) <= budget  # and nothing after the first that did not


def test_a_line_of_a_million_characters_is_not_even_counted() -> None:
    def count(line: str) -> int:
        raise AssertionError(f"counted {len(line)} characters")

    assert join_lines("now", ["hi", "x" * 1_000_000], 1536, count) == "now"
