"""A variable that is wrong is refused in words that say what to give, and show no secret."""

import pytest
from pydantic import ValidationError

from tests.unit.settings_cases import KEY, USABLE, load, problem, problems
from yap.setting_kinds import bounds
from yap.settings import FIELDS, Settings, load_settings

NUMBERS = [name for name, field in FIELDS.items() if bounds(field)]


# Refusals, one variable at a time


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "WS_IDLE_TIMEOUT_S",
            "-3",
            "give a number of seconds from 1 to 86400 (default 150)",
        ),
        ("PORT", "0", "give a whole number from 1 to 65535 (default 8000)"),
        ("PORT", "80.5", "give a whole number from 1 to 65535 (default 8000)"),
        ("CHAT_TOP_K", "many", "give a whole number of tokens from 0 to 100000 (default 30)"),
        ("CHAT_GPU_FRAC", "nan", "give a number from 0.01 to 0.95"),
        ("GEN_TIMEOUT_S", "inf", "give a number of seconds from 0.1 to 3600 (default 60)"),
        ("TOOL_COMPILE", "maybe", "give 1, true, yes or on, or 0, false, no or off (default 1)"),
        ("DEPLOY_MODELS", "all", "give one of both, chat, tool (default both)"),
        ("TOOL_DEVICE", "tpu", "give one of auto, cpu, cuda (default auto)"),
        (
            "KV_DTYPE",
            "int8",
            (
                "the engine has no int8 KV cache, fp8 is as small; "
                "give one of auto, model, fp8, fp8_e4m3, fp8_e5m2 (default auto)"
            ),
        ),
        (
            "APP_LOG_FORMAT",
            "%(levelname)s %(message)s",
            "a format string is no longer taken; give one of text, json (default text)",
        ),
        (
            "HOST",
            "localhost",
            "give an IP address such as 127.0.0.1 or 0.0.0.0, not a name (default 127.0.0.1)",
        ),
        (
            "WS_CLOSE_IDLE_CODE",
            "1006",
            "give a WebSocket close code: 1000-1003, 1007-1014 or 3000-4999 (default 4000)",
        ),
        (
            "WS_END_SENTINEL",
            "{end}",
            "give 1 to 64 printable characters that do not start with { (default __END__)",
        ),
        (
            "WS_CLOSE_IDLE_REASON",
            "é" * 62,
            "it has 124 bytes; give text of up to 123 bytes in UTF-8 (default idle_timeout)",
        ),
    ],
)
def test_a_refusal_says_name_value_and_what_is_allowed(
    name: str, value: str, sentence: str
) -> None:
    assert problem(**{name: value}) == f'{name}="{value}" is not allowed: {sentence}'


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("[1]", "JSON, but not an object"),
        ("{1", "not JSON, Expecting property name enclosed in double quotes at character 2"),
        ('{"max_model_len": 9}', "max_model_len is set by CHAT_MAX_LEN"),
        ('{"trust-remote-code": true}', "trust-remote-code is set by TRUST_REMOTE_CODE_MODELS"),
    ],
)
def test_engine_args_that_are_refused(value: str, cause: str) -> None:
    sentence = problem(CHAT_ENGINE_ARGS=value)
    assert sentence.endswith(f'{cause}; give a JSON object such as {{"enforce_eager": true}}')


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_takes_its_ends_and_nothing_outside(name: str) -> None:
    span = bounds(FIELDS[name])
    assert span is not None
    for end, beyond in zip(span, (-1e-6, 1e-6), strict=True):
        assert getattr(Settings(**{name: end}), name) == float(end)
        for wrong in (str(float(end) + beyond * max(1, abs(float(end)))), "nan", "word"):
            with pytest.raises(ValidationError):
                Settings(**{name: wrong})


def test_every_problem_is_told_at_once() -> None:
    sentences = problems({"PORT": "x", "CHAT_MODEL": "a b", "CHAT_TOP_P": "0.3"})
    assert [sentence.split()[0].split("=")[0] for sentence in sentences[:3]] == [
        "TEXT_API_KEY",
        "PORT",
        "CHAT_MODEL",
    ]
    assert any(sentence.startswith("CHAT_TOP_P ") for sentence in sentences[3:])


def test_a_wrong_variable_is_told_once() -> None:
    assert problem(CHAT_TOP_P_MAX="5").startswith("CHAT_TOP_P_MAX=")


def test_long_values_and_broken_text_stay_readable() -> None:
    sentence = problem(PORT="9" * 500)
    assert len(sentence) < 200
    assert problem(PORT="8\udcff\n0").encode().startswith(b'PORT="8?\\n0" is not allowed')


# Keys are secret


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("tiny", "key 1 of 1 has 4 characters"),
        ("x" * 257, "key 1 of 1 has 257 characters"),
        (f"{KEY},", "key 2 of 2 has 0 characters"),
        (f"{KEY},two words", "key 2 of 2 has a blank or a character that is not printable ASCII"),
        (f"{KEY},clé-secrète", "key 2 of 2 has a blank or a character that is not printable ASCII"),
    ],
)
def test_a_wrong_key_is_told_but_not_shown(value: str, cause: str) -> None:
    sentence = problem(TEXT_API_KEY=value)
    assert sentence.startswith(f'TEXT_API_KEY="****" is not allowed: {cause}; give one or more')
    with pytest.raises(ValidationError) as raised:
        Settings(text_api_key=value)
    for text in (sentence, str(raised.value)):
        assert not any(key and key in text for key in value.split(","))


def test_keys_and_hub_tokens_are_never_shown() -> None:
    assert KEY not in repr(load()) + str(load())
    token = "hf_" + "a1B2" * 8
    assert token not in problem(CHAT_ENGINE_ARGS=f'{{"hf_token": "{token}"}}')
    assert problem(PORT=token).startswith('PORT="hf_****"')


def test_a_key_is_needed_to_serve_only() -> None:
    usable = {name: value for name, value in USABLE.items() if name != "TEXT_API_KEY"}
    (sentence,) = problems(usable)
    assert sentence.startswith("TEXT_API_KEY is not set: give one or more keys")
    assert load_settings(usable, serving=False).text_api_key is None
