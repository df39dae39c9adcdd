"""From decided arguments to vLLM's own configuration, on the CPU that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.chat.checkpoints import CONFIGS, DEMO, checkpoint
from tests.unit.conftest import MakeSettings
from yap.chat.tuning import hardware, model_facts, planning
from yap.chat.tuning.engine_args import check_names, engine_config
from yap.chat.tuning.speculation import speculation
from yap.errors import StartupError


def config_of(settings: Any) -> Any:
    plan = planning.decide(settings, hardware.only_cpu(), model_facts.read_for(settings))
    return engine_config(plan.engine_args)


def test_the_demo_model_gets_what_was_decided(make_settings: MakeSettings) -> None:
    config = config_of(make_settings(chat_model=str(DEMO), max_concurrent_connections=16))
    assert config.model_config.max_model_len == 5406
    assert config.scheduler_config.max_num_seqs == 20
    assert config.scheduler_config.max_num_batched_tokens == 512
    assert config.scheduler_config.policy == "priority"
    assert config.cache_config.enable_prefix_caching
    assert config.cache_config.block_size == 32
    assert config.parallel_config.world_size == 1
    assert config.speculative_config is None


@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_how_tokens_are_guessed_is_taken(make_settings: MakeSettings, method: str) -> None:
    settings = make_settings(
        chat_min_p_max=0,
        chat_speculation=method,
        chat_speculation_model=str(DEMO) if method == "draft" else None,
        chat_speculation_tokens=3,
    )
    decided = speculation(settings, hardware.imagined(80, (9, 0), 1))
    assert decided is not None
    args = {"model": str(DEMO), "max_model_len": 512, decided.name: decided.value}
    assert engine_config(args).speculative_config.num_speculative_tokens == 3


# Those that vLLM's CPU platform can be configured for; their weights are not there, nor needed.
@pytest.mark.parametrize(
    "name",
    ["nemo-12b", "llama-3.1-8b", "qwen2.5-7b", "qwen3-14b", "qwen3-30b-a3b", "gemma-2-9b"],
)
def test_vllm_takes_what_was_decided_for_other_models(
    make_settings: MakeSettings, name: str, tmp_path: Path
) -> None:
    assert name in CONFIGS
    settings = make_settings(
        chat_model=checkpoint(tmp_path, name),
        chat_engine_args={"skip_tokenizer_init": True, "load_format": "dummy"},
        chat_cpu_kv_cache_mib=4096,
    )
    facts = model_facts.read_for(settings)
    roomy = hardware.Hardware((), 512 * hardware.GIB, 64)
    config = engine_config(planning.decide(settings, roomy, facts).engine_args)
    assert config.model_config.max_model_len == 5406
    assert config.model_config.get_num_layers(config.parallel_config) == facts.kv.full + (
        facts.kv.windowed
    )


# Refusals


def test_an_argument_that_vllm_does_not_know_is_named() -> None:
    args = {"model": str(DEMO), "seed": 1, "no_such_argument": 2, "nor_this": 3}
    for refuse in (check_names, engine_config):
        with pytest.raises(StartupError, match=r"CHAT_ENGINE_ARGS.*: no_such_argument, nor_this\."):
            refuse(args)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_num_seqs": "many"},
        {"kv_cache_dtype": "fp3"},
        {"max_num_batched_tokens": 0},
        {"quantization": "magic"},
        {"max_model_len": 1_000_000},
    ],
)
def test_what_vllm_refuses_is_told_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(StartupError) as caught:
        engine_config({"model": str(DEMO), "max_model_len": 512} | wrong)
    message = str(caught.value)
    assert message.startswith(f'vLLM does not take CHAT_MODEL="{DEMO}" with these settings: ')
    assert "\n" not in message
    assert len(message) < 500
