"""How long the context is, and how it is shared out."""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.chat.checkpoints import DEMO
from tests.unit.conftest import MakeSettings
from yap.chat.prompt import Budgets
from yap.chat.tuning import model_facts
from yap.chat.tuning.context import budgets, context_length
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError
from yap.settings import Settings


@pytest.fixture(scope="module")
def demo() -> ModelFacts:
    return model_facts.read(str(DEMO), trust_remote_code=False)


def made_for(demo: ModelFacts, longest: int | None) -> ModelFacts:
    return dataclasses.replace(demo, longest=longest)


def test_the_context_is_what_the_budgets_need(settings: Settings, demo: ModelFacts) -> None:
    wanted = 1650 + 3000 + 350 + 150 + 256
    assert settings.chat_max_len_wanted == wanted
    assert context_length(settings, made_for(demo, 8192)).value == wanted
    assert context_length(settings, made_for(demo, wanted)).value == wanted


def test_a_model_that_reads_less_sets_the_context(settings: Settings, demo: ModelFacts) -> None:
    decided = context_length(settings, made_for(demo, 2048))
    assert decided.value == 2048
    assert "5406" in decided.why


def test_a_model_that_does_not_say_is_asked_for_what_the_budgets_need(
    settings: Settings, demo: ModelFacts
) -> None:
    assert context_length(settings, made_for(demo, None)).value == settings.chat_max_len_wanted


def test_the_operators_context_is_taken(make_settings: MakeSettings, demo: ModelFacts) -> None:
    assert context_length(make_settings(chat_max_len=7000), demo).value == 7000


def test_a_context_that_the_operator_wants_and_the_model_has_not_is_refused(
    make_settings: MakeSettings, demo: ModelFacts
) -> None:
    with pytest.raises(StartupError, match="CHAT_MAX_LEN=8192 is more than the 2048"):
        context_length(make_settings(chat_max_len=8192), made_for(demo, 2048))


def test_in_a_whole_context_budgets_are_the_settings(settings: Settings) -> None:
    whole = budgets(settings, settings.chat_max_len_wanted)
    assert whole == Budgets(context=5406, prompt=1650, history=3000, utterance=350, output=150)
    assert budgets(settings, 10_000).history == 3000


@pytest.mark.parametrize("context", [256, 512, 1024, 2048, 4096])
def test_in_a_smaller_context_persona_utterance_and_reply_fit_together(
    settings: Settings, context: int
) -> None:
    smaller = budgets(settings, context)
    assert smaller.context == context
    assert min(smaller.prompt, smaller.history, smaller.utterance) > 0
    assert smaller.prompt + smaller.utterance + smaller.output <= context
