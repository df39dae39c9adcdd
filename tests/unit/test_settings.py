"""The environment is read in full or refused in words."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from yap.retired_settings import KNOWN_ELSEWHERE, RETIRED, Retired
from yap.setting_kinds import ROOT, allowed, bounds, choices, default_text, extra
from yap.settings import (
    FIELDS,
    GROUPS,
    TEMPLATE_ROOM_TOKENS,
    Settings,
    SettingsError,
    load_settings,
    variables,
)

KEY = "a-key-for-tests"
USABLE = {"TEXT_API_KEY": KEY, "CHAT_MODEL": "org/chat", "TOOL_MODEL": "org/screen"}
NUMBERS = [name for name, field in FIELDS.items() if bounds(field)]


def load(**variables: str) -> Settings:
    return load_settings(USABLE | variables)


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        load_settings(environ)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def problem(**variables: str) -> str:
    """The one sentence that these variables give."""
    (sentence,) = problems(USABLE | variables)
    return sentence


# Defaults


def test_defaults_are_those_that_existing_clients_and_deployments_expect() -> None:
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.deploy_models == "both"
    assert settings.chat_max_out == 150
    assert settings.chat_prompt_max_tokens == 1650
    assert settings.history_max_tokens == 3000
    assert settings.user_utt_max_tokens == 350
    assert settings.personality_max_len == 20
    assert (settings.max_personalities, settings.max_synonyms_per_personality) == (50, 10)
    assert settings.check_screen_prefix == "MUST CHECK SCREEN:"
    assert settings.screen_checked_prefix == "ON THE SCREEN NOW:"
    assert settings.screen_prefix_max_chars == 30
    assert (settings.gen_timeout_s, settings.tool_timeout_s) == (60, 10)
    assert settings.tool_decision_threshold == 0.66
    assert (settings.ws_idle_timeout_s, settings.ws_watchdog_tick_s) == (150, 5)
    assert settings.ws_handshake_acquire_timeout_s == 0.5
    assert (settings.ws_message_window_seconds, settings.ws_max_messages_per_window) == (60, 25)
    assert (settings.ws_end_sentinel, settings.ws_cancel_sentinel) == ("__END__", "__CANCEL__")
    assert settings.ws_close_unauthorized_code == 1008
    assert settings.ws_close_busy_code == 1013
    assert settings.ws_close_idle_code == 4000
    assert settings.ws_close_client_request_code == 1000
    assert settings.ws_close_idle_reason == "idle_timeout"
    assert settings.session_idle_ttl_seconds == 1800


@pytest.mark.parametrize(
    ("parameter", "default", "least", "most"),
    [
        ("temperature", 0.8, 0, 1.2),
        ("top_p", 0.95, 0.6, 1),
        ("top_k", 30, 0, 60),
        ("min_p", 0, 0, 0.2),
        ("repetition_penalty", 1, 1, 1.3),
        ("presence_penalty", 0, 0, 0.5),
        ("frequency_penalty", 0, 0, 0.5),
        ("dry_multiplier", 0, 0, 5),
        ("dry_base", 1.75, 1, 4),
        ("dry_allowed_length", 2, 1, 20),
        ("dry_range", 0, 0, 1_048_576),
        ("xtc_probability", 0, 0, 1),
        ("xtc_threshold", 0.1, 0.05, 1),
    ],
)
def test_sampling_defaults_and_client_ranges(
    parameter: str, default: float, least: float, most: float
) -> None:
    settings = load()
    assert getattr(settings, f"chat_{parameter}") == default
    assert getattr(settings, f"chat_{parameter}_min") == least
    assert getattr(settings, f"chat_{parameter}_max") == most


def test_a_blank_variable_is_unset() -> None:
    assert load(PORT="", HOST="  ", CHAT_MAX_LEN=" ") == load()


def test_default_models_do_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({}, serving=False)
    assert settings.chat_model == str(ROOT / "models" / "yap-chat-demo")
    assert settings.tool_model == str(ROOT / "models" / "yap-screen-demo")


def test_settings_are_frozen_and_know_their_fields() -> None:
    with pytest.raises(ValidationError):
        load().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(no_such_field=1)  # type: ignore[call-arg]


def test_the_real_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8123")
    assert load_settings(serving=False).port == 8123


# What is read


@pytest.mark.parametrize("word", ["1", "true", "YES", "On", " 1 "])
def test_flags_on(word: str) -> None:
    assert load(CHAT_TEMPLATE_ENABLE_THINKING=word).chat_template_enable_thinking is True


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF"])
def test_flags_off(word: str) -> None:
    assert load(TOOL_LANGUAGE_FILTER=word).tool_language_filter is False


def test_choices_may_be_in_any_case() -> None:
    settings = load(DEPLOY_MODELS="Chat", APP_LOG_LEVEL="debug", APP_LOG_FORMAT="JSON")
    assert settings.deploy_models == "chat"
    assert settings.app_log_level == "DEBUG"
    assert settings.app_log_format == "json"


def test_several_keys_may_be_valid_at_once() -> None:
    assert load(TEXT_API_KEY="first-key, second-key").api_keys == ("first-key", "second-key")


def test_without_a_key_nobody_is_let_in() -> None:
    assert Settings().api_keys == ()


def test_engine_args_are_a_json_object() -> None:
    settings = load(CHAT_ENGINE_ARGS='{"enforce_eager": true, "block_size": 32}')
    assert settings.chat_engine_args == {"enforce_eager": True, "block_size": 32}


def test_chat_quantization_goes_before_its_older_name() -> None:
    assert load(QUANTIZATION="awq").chat_quantization == "awq"
    assert load(QUANTIZATION="awq", CHAT_QUANTIZATION="fp8").chat_quantization == "fp8"
    assert load(QUANTIZATION="awq", CHAT_QUANTIZATION="").chat_quantization == "awq"


def test_an_error_names_the_alias_that_was_set() -> None:
    assert problem(QUANTIZATION="4bit").startswith('QUANTIZATION="4bit" is not allowed: give one')


# Models


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_a_model_may_be_a_folder_by_any_kind_of_path(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setenv("HOME", str(model.parent))
    for path in (
        str(model),
        "./weights",
        "weights",
        f"../{model.parent.name}/weights",
        "~/weights",
    ):
        assert load(CHAT_MODEL=path).chat_model == str(model)


@pytest.mark.parametrize("name", ["org/name", "name", "Org-1/name_2.v3"])
def test_a_model_may_be_a_hub_id(name: str) -> None:
    assert load(TOOL_MODEL=name).tool_model == name


@pytest.mark.parametrize("name", ["a b", "a/b/c", "org/", "x" * 5000 + "/" + "é"])
def test_a_model_that_is_neither(name: str) -> None:
    assert "neither a folder here nor a Hub id; give a folder" in problem(CHAT_MODEL=name)


def test_a_model_folder_must_be_there_and_hold_a_config(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        assert problem(CHAT_MODEL=str(path)) == (
            f"CHAT_MODEL is the folder {path}, whose config.json does not exist: give a folder "
            "that holds a model, or a Hub id such as org/name"
        )


def test_a_model_that_is_not_deployed_need_not_be_there() -> None:
    assert load(DEPLOY_MODELS="chat", TOOL_MODEL="/no/model/here").chat_enabled
    assert load(DEPLOY_MODELS="tool", CHAT_MODEL="/no/model/here").tool_enabled


def test_remote_code_is_trusted_for_named_models_only(model: Path) -> None:
    settings = load(TRUST_REMOTE_CODE_MODELS=f"org/chat, {model}/", CHAT_MODEL=str(model))
    assert settings.trusts_remote_code("org/chat")
    assert settings.trusts_remote_code(settings.chat_model)
    assert not settings.trusts_remote_code("org/chat-2")
    assert not load().trusts_remote_code("org/chat")


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


# Variables that depend on each other


def test_a_sampling_default_must_lie_in_the_client_range() -> None:
    assert problem(CHAT_TOP_P="0.3") == (
        "CHAT_TOP_P 0.3 is not from CHAT_TOP_P_MIN 0.6 to CHAT_TOP_P_MAX 1: change one of the three"
    )
    assert problem(CHAT_TOP_K_MIN="40").startswith("CHAT_TOP_K 30 is not from CHAT_TOP_K_MIN 40")
    assert load(CHAT_TOP_P="0.3", CHAT_TOP_P_MIN="0.2").chat_top_p == 0.3


@pytest.mark.parametrize(
    ("mode", "chat", "tool"), [("both", 0.70, 0.20), ("chat", 0.90, 0.90), ("tool", 0.90, 0.90)]
)
def test_gpu_shares_follow_the_mode(mode: str, chat: float, tool: float) -> None:
    settings = load(DEPLOY_MODELS=mode)
    assert (settings.chat_gpu_share, settings.tool_gpu_share) == (chat, tool)
    assert settings.chat_enabled == (mode != "tool")
    assert settings.tool_enabled == (mode != "chat")


def test_two_models_must_fit_one_gpu() -> None:
    assert problem(CHAT_GPU_FRAC="0.9") == (
        "CHAT_GPU_FRAC 0.9 and TOOL_GPU_FRAC 0.2 are 1.1 together, more than 0.95: lower one, or "
        "serve one model with DEPLOY_MODELS"
    )
    assert load(CHAT_GPU_FRAC="0.75").chat_gpu_share == 0.75
    assert load(CHAT_GPU_FRAC="0.9", DEPLOY_MODELS="chat").chat_gpu_share == 0.9


def test_the_context_must_hold_the_budgets_and_the_reply() -> None:
    needed = 1650 + 3000 + 350 + 150 + TEMPLATE_ROOM_TOKENS
    assert load().chat_max_len_wanted == needed
    assert load(CHAT_MAX_LEN=str(needed)).chat_max_len_wanted == needed
    assert problem(CHAT_MAX_LEN="5025") == (
        f"CHAT_MAX_LEN 5025 is {needed - 5025} tokens short of {needed} = "
        "CHAT_PROMPT_MAX_TOKENS 1650 + HISTORY_MAX_TOKENS 3000 + USER_UTT_MAX_TOKENS 350 + "
        f"CHAT_MAX_OUT 150 + the template's {TEMPLATE_ROOM_TOKENS}: raise it, lower one of these, "
        "or unset it"
    )
    assert load(CHAT_MAX_LEN="5025", HISTORY_MAX_TOKENS="2000").chat_max_len_wanted == 5025
    assert load(CHAT_MAX_LEN="5025", DEPLOY_MODELS="tool").tool_enabled


def test_prompt_characters_follow_the_context() -> None:
    assert load(CHAT_MAX_LEN="6000").prompt_max_chars == 36_000
    assert load(PROMPT_SANITIZE_MAX_CHARS="77").prompt_max_chars == 77


def test_a_step_must_hold_a_token_for_each_reply() -> None:
    sentence = problem(MAX_NUM_SEQS_CHAT="65", MAX_NUM_BATCHED_TOKENS_CHAT="64")
    assert sentence.startswith("MAX_NUM_SEQS_CHAT 65 is more than MAX_NUM_BATCHED_TOKENS_CHAT 64")


def test_screen_prefixes_must_be_allowed_to_clients_too() -> None:
    assert problem(CHECK_SCREEN_PREFIX="LOOK " * 8) == (
        f'CHECK_SCREEN_PREFIX="{("LOOK " * 8).strip()}" has 39 characters and '
        "SCREEN_PREFIX_MAX_CHARS is 30: shorten the first or raise the second"
    )
    assert len(problems(USABLE | {"SCREEN_PREFIX_MAX_CHARS": "5"})) == 2


def test_sentinels_must_differ() -> None:
    assert problem(WS_END_SENTINEL="__CANCEL__").endswith('both "__CANCEL__": make them differ')


def test_cancel_limits_are_the_message_limits_unless_set() -> None:
    settings = load(WS_MESSAGE_WINDOW_SECONDS="30", WS_MAX_MESSAGES_PER_WINDOW="7")
    assert (settings.cancel_window_seconds, settings.max_cancels_per_window) == (30, 7)
    settings = load(WS_CANCEL_WINDOW_SECONDS="0", WS_MAX_CANCELS_PER_WINDOW="3")
    assert (settings.cancel_window_seconds, settings.max_cancels_per_window) == (0, 3)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "phrases.json"
    sentence = problem(CHAT_LOGIT_BIAS_FILE=str(path))
    assert sentence.startswith(f"CHAT_LOGIT_BIAS_FILE is {path}, which does not exist: give")
    path.write_text("{}")
    assert load(CHAT_LOGIT_BIAS_FILE=str(path)).chat_logit_bias_file == path


# Notices


def test_an_ordinary_environment_gives_no_notices() -> None:
    surroundings = {
        "PATH": "/bin",
        "HOME": "/root",
        "HOSTNAME": "host",
        "SESSION_MANAGER": "local/host",
        "SSH_CONNECTION": "1 2 3 4",
        "CHAT_PORT": "tcp://10.0.0.1:80",
        "CHAT_SERVICE_HOST": "10.0.0.1",
        "TOOL_SERVICE_PORT": "80",
        "MAX_JOBS": "4",
        "VLLM_LOGGING_LEVEL": "INFO",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    settings = load(**surroundings, **dict.fromkeys(KNOWN_ELSEWHERE, "x"))
    assert settings.notices == ()


@pytest.mark.parametrize("retired", RETIRED, ids=lambda retired: retired.names[0])
def test_a_retired_variable_is_told_with_what_to_do(retired: Retired) -> None:
    names, advice = retired.names, retired.advice
    for name in (pattern.replace("*", "ANYTHING") for pattern in names):
        assert load(**{name: "1"}).notices == (f"{name} is not read: {advice}. Remove it.",)


def test_no_variable_is_both_read_and_retired() -> None:
    exact = {name for retired in RETIRED for name in retired.names if "*" not in name}
    assert exact.isdisjoint(variables())
    assert KNOWN_ELSEWHERE.isdisjoint(variables())
    assert load(MAX_NUM_SEQS_CHAT="8").notices == ()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WS_IDLE_TIMEOUT", "WS_IDLE_TIMEOUT_S"),
        ("CHTA_MODEL", "CHAT_MODEL"),
        ("TOOL_DECISION_TRESHOLD", "TOOL_DECISION_THRESHOLD"),
        ("chat_max_out", "CHAT_MAX_OUT"),
        ("MAX_CONCURENT_CONNECTIONS", "MAX_CONCURRENT_CONNECTIONS"),
    ],
)
def test_a_misspelt_variable_is_told(name: str, meant: str) -> None:
    environ = {key: value for key, value in USABLE.items() if key != meant}
    settings = load_settings(environ | {name: "1"}, serving=False)
    assert settings.notices == (f"{name} is not read: did you mean {meant}?",)


# Documentation


def test_every_field_says_what_it_means_and_takes() -> None:
    assert len(FIELDS) == len(Settings.model_fields)
    for name, field in FIELDS.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert allowed(field), name
        number = bounds(field) is not None
        assert number or choices(field) or field.annotation is bool or "allowed" in extra(field)
        assert default_text(field) or field.default in ((), {}) or "unset" in extra(field), name


def test_a_documented_default_is_the_default() -> None:
    written = {name.upper(): default_text(field) for name, field in FIELDS.items()}
    environ = {name: text for name, text in written.items() if not name.endswith("_MODEL")}
    read = load_settings(environ, serving=False)
    assert read.model_dump() == load_settings({}, serving=False).model_dump()


def test_every_variable_is_in_one_table() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in FIELDS:
        assert page.count(f"\n| `{name.upper()}` |") == 1
    for group in GROUPS:
        assert page.count(f"\n## {group.title}\n") == 1


def test_the_documentation_is_current() -> None:
    script = ROOT / "scripts" / "generate_config_docs.py"
    command = [sys.executable, str(script), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
