"""The processors are those of the runner that vLLM chooses, and none where it would not start."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.sample.logits_processor import LogitsProcessor as ProcessorOfV1
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as ProcessorOfV2

from tests.unit.conftest import MakeSettings
from yap.chat.samplers.install import install, tokens_of
from yap.errors import StartupError
from yap.settings import Settings


def a_config(*, v2: bool = False, speculative: Any = None, named: Any = None) -> Any:
    return SimpleNamespace(
        use_v2_model_runner=v2,
        speculative_config=speculative,
        model_config=SimpleNamespace(logits_processors=named),
    )


@pytest.mark.parametrize(("v2", "interface"), [(False, ProcessorOfV1), (True, ProcessorOfV2)])
def test_each_runner_gets_processors_of_its_own(
    make_settings: MakeSettings, v2: bool, interface: Any
) -> None:
    config = a_config(v2=v2)
    install(config, make_settings(chat_samplers=True))
    named = config.model_config.logits_processors
    assert len(named) == 2
    for name in named:
        module, _, processor = name.partition(":")
        assert issubclass(getattr(importlib.import_module(module), processor), interface)


def test_an_operators_own_processors_stay(settings: Settings) -> None:
    config = a_config(named=["mine:Processor"])
    install(config, settings)
    assert config.model_config.logits_processors[0] == "mine:Processor"
    assert len(config.model_config.logits_processors) == 3


@pytest.mark.parametrize(("v2", "dry", "count"), [(False, 0, 2), (True, 0, 0), (True, 0.8, 2)])
def test_unset_they_are_there_where_they_are_measured_or_wanted(
    make_settings: MakeSettings, v2: bool, dry: float, count: int
) -> None:
    config = a_config(v2=v2)
    install(config, make_settings(chat_dry_multiplier=dry))
    assert len(config.model_config.logits_processors or ()) == count


def test_turned_off_there_are_none(make_settings: MakeSettings) -> None:
    config = a_config()
    install(config, make_settings(chat_samplers=False))
    assert config.model_config.logits_processors is None
    llm: Any = SimpleNamespace(model_config=config.model_config)
    nothing: Any = None
    assert tokens_of(llm, nothing, nothing) is None


def test_with_speculative_decoding_there_are_none(settings: Settings) -> None:
    config = a_config(speculative=object())
    install(config, settings)
    assert config.model_config.logits_processors is None


@pytest.mark.parametrize("name", ["chat_dry_multiplier", "chat_xtc_probability"])
def test_replies_that_need_them_are_not_served_without(
    make_settings: MakeSettings, name: str
) -> None:
    with pytest.raises(StartupError, match="CHAT_DRY_MULTIPLIER and CHAT_XTC_PROBABILITY to 0"):
        install(a_config(speculative=object()), make_settings(**{name: 0.5}))
