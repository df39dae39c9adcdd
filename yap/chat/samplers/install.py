"""Adds the samplers to an engine that is about to be made, where that can be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from yap.chat.prompt import PromptBuilder
from yap.chat.samplers.token_ids import SamplerTokens, end_ids
from yap.errors import StartupError
from yap.history import Message
from yap.settings import Settings

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

_PACKAGE = "yap.chat.samplers"


def install(config: VllmConfig, settings: Settings) -> None:
    """Name the processors for the model runner that `config` chooses.

    vLLM refuses to start with processors of the other runner, and on one of them with any where
    it decodes speculatively; then they are left out.

    Raises:
        StartupError: they are left out, and replies are to be sampled with them.
    """
    drawn_with = settings.chat_dry_multiplier or settings.chat_xtc_probability
    wanted = settings.chat_samplers
    if wanted is None:
        wanted = bool(drawn_with) or not config.use_v2_model_runner
    if not wanted:
        return
    if config.speculative_config is not None:
        if drawn_with:
            raise StartupError(
                "DRY and XTC do not work with speculative decoding: set CHAT_DRY_MULTIPLIER and "
                "CHAT_XTC_PROBABILITY to 0, or CHAT_SPECULATION to none."
            )
        log.info("Clients cannot ask for DRY or XTC: the chat model decodes speculatively")
        return
    module = f"{_PACKAGE}.{'v2' if config.use_v2_model_runner else 'v1'}"
    config.model_config.logits_processors = [
        *(config.model_config.logits_processors or ()),
        f"{module}:DryProcessor",
        f"{module}:XtcProcessor",
    ]


def tokens_of(llm: AsyncLLM, tokenizer: Any, prompts: PromptBuilder) -> SamplerTokens | None:
    """What the samplers need of the model's tokenizer; None for an engine without them."""
    config = llm.model_config
    if not any(str(name).startswith(_PACKAGE) for name in config.logits_processors or ()):
        return None
    a_prompt = prompts.build("a", [Message("user", "a"), Message("assistant", "a")], "a")
    return SamplerTokens(tokenizer, end_ids(config, tokenizer), a_prompt.token_ids)
