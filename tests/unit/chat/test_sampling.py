"""The client's values over the operator's defaults, and nothing that holds text back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat.samplers.options import dry_options, xtc_options
from yap.chat.samplers.token_ids import SamplerTokens
from yap.chat.sampling import sampling_params, sampling_ranges
from yap.protocol import SAMPLING_FIELDS, SamplingOptions
from yap.settings import Settings

FRAME = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
CHOSEN = {
    "temperature": 0.25,
    "top_p": 0.75,
    "top_k": 7,
    "min_p": 0.125,
    "repetition_penalty": 1.25,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.375,
}
SAMPLERS = {
    "dry_multiplier": 0.75,
    "dry_base": 1.5,
    "dry_allowed_length": 3,
    "dry_range": 100,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
}


def params(settings: Settings, **asked: Any) -> dict[str, Any]:
    made = sampling_params(SamplingOptions(**asked), settings, 150)
    return {name: getattr(made, name) for name in CHOSEN}


@pytest.fixture(scope="module")
def tokens(tokenizer: Any) -> SamplerTokens:
    return SamplerTokens(tokenizer, [tokenizer.eos_token_id], tokenizer.encode(FRAME))


def sampler_args(settings: Settings, tokens: SamplerTokens, **asked: Any) -> dict[str, Any] | None:
    args: dict[str, Any] | None
    args = sampling_params(SamplingOptions(**asked), settings, 150, tokens).extra_args
    return args


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


@pytest.mark.parametrize("name", CHOSEN)
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


def test_no_two_requests_share_what_vllm_writes_into(settings: Settings) -> None:
    one, other = (sampling_params(SamplingOptions(), settings, 42) for _ in range(2))
    assert one.skip_clone  # so that vLLM writes into the very objects
    before = repr(other)
    eos = {"eos_token_id": [7, 8]}
    one.clone().update_from_generation_config(eos, 9)
    assert repr(other) == before


def test_the_ranges_are_those_that_clients_know(settings: Settings) -> None:
    assert sampling_ranges(settings) == {
        "temperature": (0, 1.2),
        "top_p": (0.6, 1),
        "top_k": (0, 60),
        "min_p": (0, 0.2),
        "repetition_penalty": (1, 1.3),
        "presence_penalty": (0, 0.5),
        "frequency_penalty": (0, 0.5),
        "dry_multiplier": (0, 5),
        "dry_base": (1, 4),
        "dry_allowed_length": (1, 20),
        "dry_range": (0, 1_048_576),
        "xtc_probability": (0, 1),
        "xtc_threshold": (0.05, 1),
    }


def test_every_sampling_field_is_tried_here() -> None:
    assert {*CHOSEN, *SAMPLERS} == set(SAMPLING_FIELDS)


def test_the_ranges_are_the_operators(make_settings: MakeSettings) -> None:
    ranges = sampling_ranges(make_settings(chat_top_k_min=5, chat_top_k_max=6))
    assert ranges["top_k"] == (5, 6)


# DRY and XTC


def test_a_turn_that_asks_for_no_sampler_carries_nothing_for_one(
    settings: Settings, tokens: SamplerTokens
) -> None:
    assert sampler_args(settings, tokens) is None
    assert sampler_args(settings, tokens, dry_base=2, xtc_threshold=0.2) is None
    assert sampler_args(settings, tokens, dry_multiplier=0, xtc_probability=0) is None


def test_what_the_client_asks_of_the_samplers_is_taken(
    settings: Settings, tokens: SamplerTokens, tokenizer: Any
) -> None:
    args = sampler_args(settings, tokens, **SAMPLERS, dry_sequence_breakers=("!",))
    dry, xtc = dry_options(args), xtc_options(args)
    assert dry is not None and xtc is not None
    assert (dry.multiplier, dry.base, dry.allowed_length, dry.range) == (0.75, 1.5, 3, 100)
    assert (xtc.probability, xtc.threshold) == (0.5, 0.2)
    special = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    assert set(dry.breaker_ids) == {*special, *tokenizer.encode("!")}
    assert set(xtc.protected_ids) == {special[0], *tokenizer.encode("\n")}


def test_the_operators_samplers_are_taken(
    make_settings: MakeSettings, tokens: SamplerTokens, tokenizer: Any
) -> None:
    settings = make_settings(
        **{f"chat_{name}": value for name, value in SAMPLERS.items()},
        chat_dry_sequence_breakers=("?",),
    )
    args = sampler_args(settings, tokens)
    assert args is not None
    assert {name: args[name] for name in SAMPLERS} == SAMPLERS
    assert tokenizer.encode("?")[0] in args["dry_breaker_ids"]
    off = sampler_args(settings, tokens, dry_multiplier=0)
    assert off is not None
    assert "dry_multiplier" not in off and off["xtc_probability"] == 0.5


def test_an_engine_without_samplers_is_asked_for_none(settings: Settings) -> None:
    assert sampling_params(SamplingOptions(**SAMPLERS), settings, 150).extra_args is None
