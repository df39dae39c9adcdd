"""The engine is told what the operator set, and on a CPU what a CPU needs."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat.tuning import engine_args, prepare_environment
from yap.errors import StartupError
from yap.settings import Settings

VARIABLES = (
    "VLLM_NO_USAGE_STATS",
    "VLLM_ENGINE_READY_TIMEOUT_S",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "OMP_NUM_THREADS",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set later goes away again
        monkeypatch.delenv(name)


def prepared(settings: Settings, *, cpu: bool, parameters: int | None = None) -> dict[str, str]:
    prepare_environment(settings, cpu=cpu, parameters=parameters)
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


# The environment


def test_on_a_gpu_only_reporting_and_the_deadline_are_set(make_settings: MakeSettings) -> None:
    assert prepared(make_settings(chat_start_timeout_s=123.9), cpu=False) == {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": "123",
    }


def test_on_a_cpu_the_engine_core_gets_threads_by_the_size_of_the_model(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for parameters, threads in [(7_000_000, "1"), (7_000_000_000, "7"), (None, "7")]:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert prepared(settings, cpu=True, parameters=parameters)["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize("cores", [1, None])
def test_there_is_always_a_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, cores: int | None
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert prepared(settings, cpu=True)["OMP_NUM_THREADS"] == "1"


def test_the_operators_threads_are_taken(make_settings: MakeSettings) -> None:
    assert prepared(make_settings(chat_cpu_threads=3), cpu=True)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_environment_says_already_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "mine")
    assert prepared(settings, cpu=True)[name] == "mine"


# The arguments


def args(settings: Settings, *, cpu: bool = False) -> dict[str, Any]:
    return engine_args(settings, cpu=cpu, context=5000)


def test_what_every_engine_is_told(make_settings: MakeSettings) -> None:
    made = args(make_settings(chat_model="org/chat", chat_gpu_frac=0.5, drain_timeout_s=7.5))
    assert made == {
        "model": "org/chat",
        "max_model_len": 5000,
        "trust_remote_code": False,
        "scheduling_policy": "priority",
        "enable_prefix_caching": True,
        "kv_cache_dtype": "auto",
        "gpu_memory_utilization": 0.5,
        "shutdown_timeout": 7,
    }


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"kv_dtype": "fp8"}, "kv_cache_dtype", "fp8"),
        ({"chat_quantization": "awq"}, "quantization", "awq"),
        ({"chat_quantization": "auto"}, "quantization", None),
        ({"chat_quantization": "none"}, "quantization", None),
        ({"max_num_seqs_chat": 5}, "max_num_seqs", 5),
        ({"max_num_seqs_chat": None}, "max_num_seqs", None),
        ({"max_num_batched_tokens_chat": 99}, "max_num_batched_tokens", 99),
        ({"trust_remote_code_models": ("org/chat",)}, "trust_remote_code", True),
        ({"trust_remote_code_models": ("org/other",)}, "trust_remote_code", False),
        ({"chat_engine_args": {"seed": 5}}, "seed", 5),
        ({"chat_engine_args": {"enable_prefix_caching": False}}, "enable_prefix_caching", False),
    ],
)
def test_what_the_operator_sets_is_passed_on(
    make_settings: MakeSettings, fields: dict[str, Any], name: str, value: Any
) -> None:
    made = args(make_settings(**({"chat_model": "org/chat"} | fields)))
    assert made.get(name) == value
    assert (name in made) == (value is not None)


def test_a_cpu_runs_the_model_inside_the_engine_core(make_settings: MakeSettings) -> None:
    made = args(make_settings(chat_cpu_kv_cache_mib=64), cpu=True)
    assert made["distributed_executor_backend"] == "uni"
    assert made["enforce_eager"] is True
    assert made["kv_cache_memory_bytes"] == 64 * 1024 * 1024
    assert made["block_size"] == 32


def test_the_operator_has_the_last_word_on_a_cpu_too(make_settings: MakeSettings) -> None:
    assert args(make_settings(chat_engine_args={"block_size": 64}), cpu=True)["block_size"] == 64


@pytest.mark.parametrize("kv_dtype", ["auto", "fp8", "fp8_e4m3", "fp8_e5m2"])
def test_every_allowed_cache_dtype_works_on_a_cpu(
    make_settings: MakeSettings, kv_dtype: str
) -> None:
    assert args(make_settings(kv_dtype=kv_dtype), cpu=True)["kv_cache_dtype"] == kv_dtype


def test_a_cache_dtype_that_garbles_text_on_a_cpu_is_refused(settings: Settings) -> None:
    odd = settings.model_copy(update={"kv_dtype": "bfloat16"})
    with pytest.raises(StartupError, match="KV_DTYPE"):
        args(odd, cpu=True)
