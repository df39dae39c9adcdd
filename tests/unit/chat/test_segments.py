"""Encoding piece by piece gives what encoding the whole gives, and memory has its bound."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.stand_ins import CHAT_TEMPLATE, SPECIAL_TOKENS, make_tokenizer
from yap.chat import segments
from yap.chat.segments import SegmentEncoder, control_tokens_of
from yap.setting_kinds import ROOT

DEMO = ROOT / "models" / "yap-chat-demo"
SPARE = ("[INST]", "<think>")


def encoder_of(tokenizer: Any) -> tuple[SegmentEncoder, Callable[[str], list[int]]]:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    return SegmentEncoder(encode, control_tokens_of(tokenizer)), encode


def demo_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO)


def word_tokenizer(prepend: str, **of_token: bool) -> Any:
    """Words with a mark for the blank before them, as SentencePiece models have."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁hello", "hello", "▁you", "you", "▁word", "word", "▁"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    raw.add_special_tokens([AddedToken("<s>", special=True, normalized=False, **of_token)])
    return PreTrainedTokenizerFast(tokenizer_object=raw)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_tokenizer(CHAT_TEMPLATE),
        lambda: make_tokenizer(CHAT_TEMPLATE, more_tokens=SPARE),
        demo_tokenizer,
        lambda: word_tokenizer("always"),
    ],
)
def test_pieces_give_what_the_whole_gives(make: Callable[[], Any]) -> None:
    tokenizer = make()
    encoder, encode = encoder_of(tokenizer)
    assert encoder._cuts
    dice = random.Random(7)
    parts = [*control_tokens_of(tokenizer), *SPECIAL_TOKENS, *SPARE, "hello", " you", "\n", "\n\n"]
    parts += [" ", "  x ", "é🙂", "\t", "12", "<|im", "_end|>", "[", "|", "don't", "\u200b", "ﬁ"]
    for _ in range(1000):
        text = "".join(dice.choices(parts, k=dice.randrange(12)))
        assert encoder(text) == encode(text), repr(text)
        assert encoder(text) == encode(text), repr(text)  # from memory


def test_a_longer_prompt_encodes_only_what_is_new() -> None:
    encoded: list[str] = []
    encoder, encode = encoder_of(make_tokenizer(CHAT_TEMPLATE))

    def count(text: str) -> list[int]:
        encoded.append(text)
        return encode(text)

    encoder._encode = count
    said = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nhi there<|im_end|>\n"
    assert encoder(said) == encode(said)
    encoded.clear()
    more = said + "<|im_start|>user\nhow are you?<|im_end|>\n"
    assert encoder(more) == encode(more)
    assert encoded == ["user\nhow are you?"]


def test_where_pieces_depend_on_what_is_around_them_the_whole_is_encoded() -> None:
    tokenizer = word_tokenizer("first")
    encoder, encode = encoder_of(tokenizer)
    assert not encoder._cuts
    text = "hello<s>you hello"
    assert encoder(text) == encode(text)


@pytest.mark.parametrize("attribute", ["lstrip", "rstrip", "single_word"])
def test_a_control_token_that_minds_its_surroundings_is_no_place_to_cut(attribute: str) -> None:
    tokenizer = word_tokenizer("always", **{attribute: True})
    assert control_tokens_of(tokenizer) == {}
    encoder, encode = encoder_of(tokenizer)
    for text in ("hello <s> you", "hello<s>you", ""):
        assert encoder(text) == encode(text)


def test_it_remembers_so_many_tokens_and_forgets_what_was_used_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "_MOST_TOKENS", 20)
    encoder, _ = encoder_of(make_tokenizer(CHAT_TEMPLATE))
    for number in range(100):
        encoder("hello<|im_end|>" + chr(ord("a") + number % 26) * (number % 7))
        assert "hello" in encoder._known  # it is used every time
        assert encoder._tokens == sum(map(len, encoder._known.values()))
        assert encoder._tokens <= 20
