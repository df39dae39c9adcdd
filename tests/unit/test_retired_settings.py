"""A variable that is set but not read is told in the log."""

import pytest

from tests.unit.settings_cases import USABLE, load
from yap.retired_settings import KNOWN_ELSEWHERE, RETIRED, Retired
from yap.settings import load_settings, variables


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
