"""The environment is read in full or refused in words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.unit.settings_cases import load, problem
from yap.setting_kinds import ROOT
from yap.settings import Settings, load_settings

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
