"""The short ways give what the long ways give, and are left alone where they would not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stand_ins import CHAT_TEMPLATE, SPECIAL_TOKENS, make_tokenizer
from yap.chat.prompt import CHATML_TEMPLATE, Budgets, PromptBuilder
from yap.chat.shortcuts import encoder_of, renderer_of
from yap.history import Message
from yap.setting_kinds import ROOT

DEMO = ROOT / "models" / "yap-chat-demo"
# What may join or part tokens: blanks, control tokens, and characters of several bytes.
PARTS = [*SPECIAL_TOKENS, "<", "|", " ", "\n", "Hello", " there", "don't", "é", "🙂", "\u200d", "7"]
TEXT = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PARTS), max_size=20).map("".join))
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}),
    min_size=1,
    max_size=6,
)
# Refuses what does not alternate, uses what a template may, and trims.
STRICT_TEMPLATE = """{{ bos_token or '' }}{% for m in messages %}
{% if m.role == 'system' and not loop.first %}
{{ raise_exception('system must be first') }}
{% endif %}
[{{ m.role | upper }}] {{ m.content | trim }}{{ eos_token }}
{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}
{% if add_generation_prompt %}[A]{% if enable_thinking %}<think>{% endif %}{% endif %}"""


def demo_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO)


class Both:
    """A tokenizer and its short ways."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.encode = encoder_of(tokenizer)
        self.render = renderer_of(tokenizer, None, enable_thinking=True)


@pytest.fixture(scope="module", params=["demo", "small", "strict"])
def both(request: pytest.FixtureRequest) -> Both:
    match request.param:
        case "demo":
            return Both(demo_tokenizer())
        case "small":
            return Both(make_tokenizer(CHAT_TEMPLATE, more_tokens=("[INST]", "<think>")))
    return Both(make_tokenizer(STRICT_TEMPLATE))


def test_both_short_ways_are_taken(both: Both) -> None:
    assert both.encode.__name__ == "bare"
    assert both.render.__name__ == "direct"


@given(text=TEXT)
def test_any_text_has_the_same_tokens(both: Both, text: str) -> None:
    assert both.encode(text) == both.tokenizer.encode(text, add_special_tokens=False)


@given(messages=MESSAGES)
def test_any_conversation_is_rendered_alike(both: Both, messages: list[Any]) -> None:
    assert both.render(messages) == both.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )


def test_what_a_template_refuses_is_refused_in_its_words() -> None:
    from jinja2.exceptions import TemplateError

    render = Both(make_tokenizer(STRICT_TEMPLATE)).render
    user, system = {"role": "user", "content": "a"}, {"role": "system", "content": "b"}
    with pytest.raises(TemplateError, match="system must be first"):
        render([user, system])


def test_a_template_for_a_tokenizer_that_has_none() -> None:
    tokenizer = make_tokenizer(None)
    render = renderer_of(tokenizer, CHATML_TEMPLATE, enable_thinking=False)
    assert render.__name__ == "direct"
    assert render([{"role": "user", "content": "a"}]) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    )


def test_truncation_that_somebody_turns_on_cuts_no_prompt() -> None:
    tokenizer = make_tokenizer(CHAT_TEMPLATE)
    tokenizer.backend_tokenizer.enable_truncation(3)
    encode = encoder_of(tokenizer)
    assert len(encode("hello there my friend, how are you?")) > 3
    tokenizer.backend_tokenizer.enable_padding(length=1000)
    assert len(encode("hello")) < 10


class OtherWrapper:
    """A tokenizer whose wrapper does something of its own to a text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **options: Any) -> Any:
        return self._tokenizer.encode(text.replace("\u200b", ""), **options)

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        return str(self._tokenizer.apply_chat_template(messages, **options)).strip()


class NoBackend(OtherWrapper):
    """A tokenizer that is written in Python throughout."""

    backend_tokenizer = None


@pytest.mark.parametrize("kind", [OtherWrapper, NoBackend])
def test_the_long_way_is_taken_where_it_differs(kind: type[OtherWrapper]) -> None:
    tokenizer = kind(make_tokenizer(CHAT_TEMPLATE))
    encode = encoder_of(tokenizer)
    render = renderer_of(tokenizer, None, enable_thinking=False)
    assert (encode.__name__, render.__name__) == ("wrapper", "wrapper")
    assert encode("a\u200bb") == encode("ab")


@given(
    history=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXT), max_size=5), user=TEXT
)
def test_a_prompt_is_the_whole_conversation_encoded_at_once(
    both: Both, builder: PromptBuilder, history: list[Any], user: str
) -> None:
    messages = [Message(role, content) for role, content in history]
    built = [builder.build("You are Mira.", messages, user) for _ in range(2)]
    text = "".join(both.tokenizer.decode(built[0].token_ids, skip_special_tokens=False))
    whole = both.tokenizer.encode(text, add_special_tokens=False)
    assert built[0] == built[1]
    if "\ufffd" not in text:
        assert built[0].token_ids == whole


@pytest.fixture(scope="module")
def builder(both: Both) -> PromptBuilder:
    budgets = Budgets(context=8192, prompt=1500, history=3000, utterance=700, output=64)
    return PromptBuilder(both.tokenizer, budgets, enable_thinking=False)
