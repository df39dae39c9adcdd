"""The client's values over the operator's defaults, and nothing that holds text back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat.sampling import sampling_params, sampling_ranges
from yap.protocol import SAMPLING_FIELDS, SamplingOptions
from yap.settings import Settings

CHOSEN = {
    "temperature": 0.25,
    "top_p": 0.75,
    "top_k": 7,
    "min_p": 0.125,
    "repetition_penalty": 1.25,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.375,
}


def params(settings: Settings, **asked: Any) -> dict[str, Any]:
    made = sampling_params(SamplingOptions(**asked), settings, 150)
    return {name: getattr(made, name) for name in SAMPLING_FIELDS}


def test_the_defaults_are_those_that_clients_know(settings: Settings) -> None:
    assert params(settings) == {
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 30,
        "min_p": 0,
        "repetition_penalty": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
    }


def test_what_the_client_asks_for_is_taken(settings: Settings) -> None:
    assert params(settings, **CHOSEN) == CHOSEN


@pytest.mark.parametrize("name", SAMPLING_FIELDS)
def test_each_value_is_taken_alone(settings: Settings, name: str) -> None:
    assert params(settings, **{name: CHOSEN[name]}) == params(settings) | {name: CHOSEN[name]}


def test_the_operators_defaults_are_taken(make_settings: MakeSettings) -> None:
    settings = make_settings(**{f"chat_{name}": value for name, value in CHOSEN.items()})
    assert params(settings) == CHOSEN


@pytest.mark.parametrize("name", ["temperature", "top_k", "min_p"])
def test_zero_is_a_choice(settings: Settings, name: str) -> None:
    assert params(settings, **{name: 0})[name] == 0


def test_no_stop_string_holds_text_back_and_pieces_are_deltas(settings: Settings) -> None:
    from vllm.sampling_params import RequestOutputKind

    made = sampling_params(SamplingOptions(), settings, 42)
    assert made.max_tokens == 42
    assert not made.stop
    assert made.output_kind is RequestOutputKind.DELTA
    assert made.seed is None


def test_the_ranges_are_those_that_clients_know(settings: Settings) -> None:
    assert sampling_ranges(settings) == {
        "temperature": (0, 1.2),
        "top_p": (0.6, 1),
        "top_k": (0, 60),
        "min_p": (0, 0.2),
        "repetition_penalty": (1, 1.3),
        "presence_penalty": (0, 0.5),
        "frequency_penalty": (0, 0.5),
    }


def test_the_ranges_are_the_operators(make_settings: MakeSettings) -> None:
    ranges = sampling_ranges(make_settings(chat_top_k_min=5, chat_top_k_max=6))
    assert ranges["top_k"] == (5, 6)
