"""The operator's file and the clients' wishes, as the engine gets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from yap.chat.bias import NOTHING, BiasFile, Steering, read_bias_file
from yap.chat.phrases import Phrases
from yap.errors import RequestError, StartupError
from yap.protocol import ErrorCode, SamplingOptions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bias.json"


def steering(tokenizer: Any, *, takes_bias: bool = True, **file: Any) -> Steering:
    return Steering(tokenizer, len(tokenizer), BiasFile(**file), takes_bias=takes_bias)


# The file


def test_without_a_file_nothing_is_banned() -> None:
    assert not read_bias_file(None).phrases
    assert not NOTHING.phrases
    assert not NOTHING.bias


def test_minus_100_bans_and_other_numbers_bias(path: Path) -> None:
    entries = {"as an AI": -100, ":)": -100.0, r"/\bum+\b/": -100, "quick": -2.5, "dog": 3}
    path.write_text(json.dumps(entries), encoding="utf-8")
    file = read_bias_file(path)
    assert file.phrases.strings == ("as an ai", ":)")
    assert [pattern.pattern for pattern in file.phrases.patterns] == [r"\bum+\b"]
    assert file.biases == {"quick": -2.5, "dog": 3}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('["as an AI"]', "it is not a JSON object"),
        ('{"as an AI": "-100"}', '"as an AI" must have a number'),
        ('{"as an AI": true}', "must have a number"),
        ('{"as an AI": -101}', "must have a number"),
        ('{"as an AI": NaN}', "must have a number"),
        ('{" ": -100}', "must have 1 to 256 characters"),
        (json.dumps({"x" * 257: -100}), "must have 1 to 256 characters"),
        (r'{"/(/": -100}', "cannot be used: it is no regular expression"),
        (r'{"/a*/": -100}', "cannot be used: it matches the empty text"),
        ('{"/um+/": -5}', "can only have -100"),
        (json.dumps({f"/{i}x/": -100 for i in range(65)}), "at most 64 may be"),
        (json.dumps({f"p{i}": -100 for i in range(2001)}), "at most 2000 may be"),
        (" " * (2 << 20), "it is larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(
    path: Path, content: str, problem: str
) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StartupError) as refused:
        read_bias_file(path)
    assert str(refused.value).startswith(f"CHAT_LOGIT_BIAS_FILE {path}: ")
    assert problem in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_file_that_is_not_there_or_is_no_text_is_refused(path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        read_bias_file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="not JSON in UTF-8"):
        read_bias_file(path)


# With a model


def test_a_bias_reaches_the_tokens_that_are_the_text(tokenizer: Any) -> None:
    steered = steering(tokenizer, biases={"the": -3}).of(SamplingOptions())
    texts = {tokenizer.decode([token]) for token in steered.bias}
    assert {text.strip() for text in texts} == {"the"}
    assert set(steered.bias.values()) == {-3}


def test_a_bias_of_the_file_that_is_several_tokens_stops_the_start(tokenizer: Any) -> None:
    with pytest.raises(StartupError, match=r'CHAT_LOGIT_BIAS_FILE: .*"zebra" is \d tokens'):
        steering(tokenizer, biases={"zebra": -3})
    with pytest.raises(StartupError, match="speculatively"):
        steering(tokenizer, takes_bias=False, biases={"the": -3})


def test_without_wishes_there_is_nothing_to_work_out(tokenizer: Any) -> None:
    made = steering(tokenizer)
    assert made.of(SamplingOptions()) is made.of(SamplingOptions(temperature=1))
    assert not made.of(SamplingOptions()).phrases


def test_a_client_adds_to_what_the_operator_bans(tokenizer: Any) -> None:
    made = steering(tokenizer, phrases=Phrases(["as an AI"]))
    options = SamplingOptions(banned_strings=("Honey",), logit_bias={"so, ": -100, "5": -100})
    steered = made.of(options)
    assert steered.phrases.strings == ("as an ai", "honey", "so, ")
    assert steered.bias == {5: -100}
    assert made.of(options) is steered


def test_a_client_replaces_the_operators_bias_of_a_token(tokenizer: Any) -> None:
    made = steering(tokenizer, biases={"the": -3})
    (token, *others) = made.of(SamplingOptions()).bias
    steered = made.of(SamplingOptions(logit_bias={str(token): 7}))
    assert steered.bias == {token: 7, **dict.fromkeys(others, -3)}


@pytest.mark.parametrize(
    ("logit_bias", "takes_bias", "problem"),
    [
        ({"999999999": 1}, True, "999999999 is no token id; those are below"),
        ({"zebra": 1}, True, '"zebra" is'),
        ({"5": 1}, False, "speculatively"),
        ({"the": 1}, False, "speculatively"),
    ],
)
def test_what_the_model_cannot_be_given_is_refused(
    tokenizer: Any, logit_bias: dict[str, float], takes_bias: bool, problem: str
) -> None:
    made = steering(tokenizer, takes_bias=takes_bias)
    with pytest.raises(RequestError, match=problem) as refused:
        made.of(SamplingOptions(logit_bias=logit_bias))
    assert refused.value.code is ErrorCode.INVALID_LOGIT_BIAS


def test_a_ban_of_a_text_works_with_speculative_decoding(tokenizer: Any) -> None:
    made = steering(tokenizer, takes_bias=False)
    assert made.of(SamplingOptions(logit_bias={"zebra": -100})).phrases.strings == ("zebra",)


def test_what_needs_no_tokenizer_is_quick() -> None:
    assert Steering.is_quick(SamplingOptions())
    assert Steering.is_quick(SamplingOptions(logit_bias={"2": -100, "17": 1}))
    assert not Steering.is_quick(SamplingOptions(logit_bias={"2": -100, "hello": 1}))
    assert not Steering.is_quick(SamplingOptions(banned_strings=["um"]))
