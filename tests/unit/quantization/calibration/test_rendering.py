"""Token ids of documents, by real tokenizers with lenient, strict and missing chat templates."""

from __future__ import annotations

from typing import Any

import pytest

from quantization.calibration.rendering import Renderer
from quantization.calibration.rows import Message, Talk, Text
from tests.unit.stand_ins import CHAT_TEMPLATE, make_tokenizer

# As Mistral and Gemma have it: no system role, and the user begins.
STRICT = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "[{{ message.role }}]{{ message.content }}"
    "{% endfor %}"
)
TALK = Talk(
    (Message("system", "Be kind."), Message("user", "Hello."), Message("assistant", "Hi there."))
)
GREETING = Talk((Message("system", "Be kind."), *TALK.messages[2:], *TALK.messages[1:]))


def rendered(template: str | None, document: Talk | Text, most: int = 1000) -> str | None:
    tokenizer: Any = make_tokenizer(template)
    ids = Renderer(tokenizer, most).ids(document)
    return None if ids is None else str(tokenizer.decode(ids))


def test_a_talk_goes_through_the_models_own_template() -> None:
    tokenizer: Any = make_tokenizer(CHAT_TEMPLATE)
    messages = [{"role": one.role, "content": one.content} for one in TALK.messages]
    expected = tokenizer.apply_chat_template(messages, tokenize=False)
    assert rendered(CHAT_TEMPLATE, TALK) == expected
    ids = Renderer(tokenizer, 1000).ids(TALK)
    assert ids is not None and tokenizer.eos_token_id in ids  # tokens, not their spelling


def test_a_template_without_a_system_role_gets_its_words_from_the_user() -> None:
    assert rendered(STRICT, TALK) == "[user]Be kind.\n\nHello.[assistant]Hi there."


def test_a_greeting_goes_where_the_user_must_begin() -> None:
    # The assistant greets, the user says hello, the assistant answers.
    assert (
        rendered(STRICT, GREETING)
        == "[user]Be kind.[assistant]Hi there.[user]Hello.[assistant]Hi there."
    )
    bare = Talk(GREETING.messages[1:])
    assert rendered(STRICT, bare) == "[user]Hello.[assistant]Hi there."


def test_a_template_that_takes_nothing() -> None:
    assert rendered("{{ raise_exception('no') }}", TALK) is None


def test_without_a_template_a_talk_is_lines() -> None:
    text = rendered(None, TALK)
    assert text == "system: Be kind.\nuser: Hello.\nassistant: Hi there.<|im_end|>"


def test_a_text_ends_where_nothing_marks_its_beginning() -> None:
    assert rendered(CHAT_TEMPLATE, Text("Once upon a time.")) == "Once upon a time.<|im_end|>"


def test_a_tokenizer_with_a_beginning_needs_no_end() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer: Any = make_tokenizer(CHAT_TEMPLATE)
    begin = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", begin)]
    )
    renderer = Renderer(tokenizer, 1000)
    ids = renderer.ids(Text("Once."))
    assert ids is not None and ids[0] == begin and tokenizer.eos_token_id not in ids
    talk = renderer.ids(TALK)
    assert talk is not None and begin not in talk  # the template would have written it


@pytest.mark.parametrize("document", [TALK, Text("word " * 5000)])
def test_ids_are_sliced_and_the_tokenizer_stays_as_it_was(document: Talk | Text) -> None:
    tokenizer: Any = make_tokenizer(CHAT_TEMPLATE)
    whole = Renderer(tokenizer, 100_000).ids(document)
    cut = Renderer(tokenizer, 9).ids(document)
    assert whole is not None and cut == whole[:9]
    # An export would carry it to everyone who uses the file.
    assert tokenizer.backend_tokenizer.truncation is None
