"""The figures that clients make of a turn."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.timing import first_sentence_ms, first_words_ms, quantile, summary

TOKENS = ["Well", ", it", " costs", " 3.", "50", ' now."', " Good", "?"]
TIMES = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]


def test_three_words_are_there_when_the_third_begins() -> None:
    assert first_words_ms(TOKENS, TIMES, 3) == 30
    assert first_words_ms(["a b"], [5.0], 3) is None


def test_a_sentence_ends_with_its_mark_and_what_closes_it() -> None:
    assert first_sentence_ms(TOKENS, TIMES) == 60  # not at the point of 3.50
    assert first_sentence_ms(["Hi", "!"], [1.0, 2.0]) == 2
    assert first_sentence_ms(["no end"], [1.0]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], q: float) -> None:
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), abs=1e-6)


def test_the_95th_percentile_is_never_below_the_median() -> None:
    for count in range(1, 40):
        figures = summary([float(number) for number in range(count)])
        assert figures["p50"] <= figures["p90"] <= figures["p95"] <= count - 1
        assert figures["p50"] == statistics.median(range(count))
    assert summary([]) == {}
