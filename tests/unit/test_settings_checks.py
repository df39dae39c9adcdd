"""Variables that depend on each other, or on a file, fit together or are refused."""

from pathlib import Path

import pytest

from tests.unit.settings_cases import USABLE, load, problem, problems
from yap.settings import TEMPLATE_ROOM_TOKENS


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
