"""Texts become the token ids that stand for them in the middle of a text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.stand_ins import CHAT_TEMPLATE, make_tokenizer
from yap.chat.samplers.options import MAX_TOKEN_IDS
from yap.chat.samplers.token_ids import SamplerTokens
from yap.protocol.fields import MAX_BREAKERS

FRAME = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def tokens(tokenizer: Any) -> SamplerTokens:
    return SamplerTokens(tokenizer, [tokenizer.eos_token_id], tokenizer.encode(FRAME))


def test_of_each_text_the_last_token_counts(tokens: SamplerTokens, tokenizer: Any) -> None:
    always = tokens.breakers(())
    (dot,) = tokenizer.encode(".")
    assert set(tokens.breakers((".", "a.", "..."))) - set(always) == {dot}


def test_the_templates_own_tokens_always_break_and_no_other_special_one(
    tokens: SamplerTokens, tokenizer: Any
) -> None:
    ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    assert set(tokens.breakers(())) == set(ids)


def test_the_end_and_line_breaks_are_protected(tokens: SamplerTokens, tokenizer: Any) -> None:
    (line_break,) = tokenizer.encode("\n")
    assert set(tokens.protected) == {tokenizer.eos_token_id, line_break}


def test_a_set_of_texts_is_looked_up_once(tokens: SamplerTokens) -> None:
    assert tokens.breakers(("!", "?")) is tokens.breakers(("!", "?"))


def test_there_is_room_for_every_breaker_of_a_client() -> None:
    marks = [f"<|mark{n}|>" for n in range(100)]
    crowded = make_tokenizer(CHAT_TEMPLATE)
    crowded.add_special_tokens({"additional_special_tokens": marks})
    many = SamplerTokens(crowded, [crowded.eos_token_id], crowded.encode("".join(marks)))
    asked = tuple(chr(ord("A") + n) for n in range(MAX_BREAKERS))
    found = many.breakers(asked)
    assert len(found) == MAX_TOKEN_IDS
    assert {crowded.eos_token_id, *(crowded.encode(text)[0] for text in asked)} <= set(found)
