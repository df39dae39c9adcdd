"""The token ids that stand for the texts of sampler options, with one model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from yap.chat.samplers.options import MAX_TOKEN_IDS
from yap.protocol.fields import MAX_BREAKERS

_BREAKERS_KEPT: Final = 256


class SamplerTokens:
    """Looks token ids up, once for each set of texts."""

    def __init__(self, tokenizer: Any, end_ids: Iterable[int], a_prompt: Sequence[int]) -> None:
        """
        Args:
            tokenizer: a Hugging Face tokenizer.
            end_ids: the tokens that end a reply.
            a_prompt: any prompt as the chat template writes it.
        """
        self._tokenizer = tokenizer
        special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        special |= set(tokenizer.all_special_ids)
        ends = dict.fromkeys(end_ids)
        marks = dict.fromkeys(i for i in a_prompt if i in special)
        # Each reply is framed by the same tokens of the template. That is no repetition, and the
        # end of a reply must not become less likely because earlier ones ended as it does.
        self._always = tuple(ends | marks)[: MAX_TOKEN_IDS - MAX_BREAKERS]
        line_breaks = (self._last_id(text) for text in ("\n", "\n\n"))
        self.protected = tuple(dict.fromkeys((*ends, *line_breaks)))[:MAX_TOKEN_IDS]
        self.breakers = lru_cache(_BREAKERS_KEPT)(self._breakers)

    def _breakers(self, texts: tuple[str, ...]) -> tuple[int, ...]:
        ids = (self._last_id(text) for text in texts)
        return tuple(dict.fromkeys((*self._always, *ids)))

    def _last_id(self, text: str) -> int:
        """The last token of `text` where it follows a letter, as DRY's author has it: at the start
        of a text many tokenizers write the same characters another way.
        """
        last: int = self._tokenizer.encode(f"a{text}", add_special_tokens=False)[-1]
        return last


def end_ids(model_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a reply: of the generation config, and of the tokenizer.

    Args:
        model_config: vLLM's.
    """
    found: list[int | None] = [tokenizer.eos_token_id]
    configured = model_config.try_get_generation_config().get("eos_token_id")
    found += configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(i for i in found if i is not None))
