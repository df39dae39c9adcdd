"""The tokenizer that prompts are built with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yap.chat.tuning.model_facts import ModelFacts

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)


def tokenizer_of(llm: AsyncLLM, facts: ModelFacts, *, trust_remote_code: bool) -> Any:
    """The engine's own tokenizer, or one that is mended.

    Some checkpoints of Mistral's cut text by another family's rule, so that the model reads words
    in pieces that it was never trained on. vLLM has no argument for transformers' remedy; since
    prompts reach it as token ids, they can be built with a tokenizer of our own.
    """
    if not facts.wrong_split:
        return llm.get_tokenizer()
    return mended(facts.model, trust_remote_code=trust_remote_code)


def mended(model: str, *, trust_remote_code: bool) -> Any:
    """A checkpoint's tokenizer with Mistral's own rule for cutting text."""
    from huggingface_hub import snapshot_download
    from transformers import AutoTokenizer

    # transformers mends what lies in a folder by its config, but asks the Hub about a Hub id.
    folder = model if Path(model).is_dir() else snapshot_download(model, local_files_only=True)
    log.info("The tokenizer of %s cuts text by a wrong rule, which is mended", model)
    return AutoTokenizer.from_pretrained(
        folder, trust_remote_code=trust_remote_code, fix_mistral_regex=True
    )
