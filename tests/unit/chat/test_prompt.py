"""A prompt is what was said and nothing else, within its budgets, and its prefix holds still."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.unit.stand_ins import CHAT_TEMPLATE, SPECIAL_TOKENS, make_tokenizer
from yap.chat.prompt import Budgets, Prompt, PromptBuilder, fits_surely
from yap.errors import RequestError
from yap.history import Message, Role
from yap.protocol import ErrorCode

ROOMY = Budgets(context=2000, prompt=200, history=500, utterance=100, output=50)
PERSONA = "You are Mira, warm and kind."

# Refuses a system message, as Gemma's template does.
NO_SYSTEM_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>model\n' }}"
)
# Takes a system message, and then wants user and assistant in turn, as Mistral's template does.
ALTERNATING_TEMPLATE = (
    "{% if messages[0].role == 'system' %}"
    "{{ '[' + messages[0].content + ']' }}{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|im_start|>' + message.content + '<|im_end|>' }}"
    "{% endfor %}"
)
THINKING_TEMPLATE = "{{ 'thinking' if enable_thinking else 'quick' }}"

Talk = Sequence[tuple[Role, str]]


class Built:
    """A builder, and its prompts as text."""

    def __init__(self, tokenizer: Any, budgets: Budgets = ROOMY, *, thinking: bool = False) -> None:
        self.tokenizer = tokenizer
        self.builder = PromptBuilder(tokenizer, budgets, enable_thinking=thinking)

    def prompt(self, persona: str | None, talk: Talk, user: str) -> Prompt:
        return self.builder.build(persona, [Message(role, text) for role, text in talk], user)

    def text(self, persona: str | None, talk: Talk, user: str) -> str:
        decoded: str = self.tokenizer.decode(self.prompt(persona, talk, user).token_ids)
        return decoded


@pytest.fixture(scope="session")
def built(tokenizer: Any) -> Built:
    return Built(tokenizer)


def chatml(*messages: tuple[str, str]) -> str:
    said = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)
    return f"{said}<|im_start|>assistant\n"


# The template


def test_persona_history_and_utterance_come_in_order(built: Built) -> None:
    text = built.text(PERSONA, [("user", "hi"), ("assistant", "hey")], "how are you?")
    assert text == chatml(
        ("system", PERSONA), ("user", "hi"), ("assistant", "hey"), ("user", "how are you?")
    )


def test_without_persona_there_is_no_system_message(built: Built) -> None:
    assert built.text(None, [], "hi") == chatml(("user", "hi"))
    assert built.text("", [], "hi") == chatml(("user", "hi"))


def test_neighbours_of_the_same_role_are_merged(built: Built) -> None:
    talk: Talk = [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d")]
    assert built.text(None, [*talk, ("user", "e")], "f") == chatml(
        ("user", "a\n\nb"), ("assistant", "c\n\nd"), ("user", "e\n\nf")
    )


def test_merging_changes_no_message_of_the_history(built: Built) -> None:
    messages = [Message("user", "a"), Message("user", "b")]
    built.builder.build(None, messages, "c")
    assert [message.content for message in messages] == ["a", "b"]


def test_a_model_without_a_template_gets_chatml() -> None:
    built = Built(make_tokenizer(None))
    assert built.text(PERSONA, [], "hi") == chatml(("system", PERSONA), ("user", "hi"))


def test_where_the_template_refuses_the_system_role_the_persona_speaks_first() -> None:
    built = Built(make_tokenizer(NO_SYSTEM_TEMPLATE))
    text = built.text("Be kind.", [("user", "hi"), ("assistant", "hey")], "bye")
    assert text == (
        "<|im_start|>user\nBe kind.\n\nhi<|im_end|>\n<|im_start|>assistant\nhey<|im_end|>\n"
        "<|im_start|>user\nbye<|im_end|>\n<|im_start|>model\n"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM_TEMPLATE, ALTERNATING_TEMPLATE])
@pytest.mark.parametrize("persona", [PERSONA, None])
@pytest.mark.parametrize(
    "talk",
    [
        pytest.param([("assistant", "welcome")], id="a greeting"),
        pytest.param([("assistant", "welcome"), ("user", "hi"), ("assistant", "hey")], id="longer"),
        pytest.param([("user", "hi"), ("user", "hi")], id="no reply"),
        pytest.param([], id="nothing"),
    ],
)
def test_a_template_that_wants_alternating_roles_serves_any_history(
    template: str, persona: str | None, talk: Talk
) -> None:
    """A reply comes first where the client's transcript opens so, or nothing had been said."""
    built = Built(make_tokenizer(template))
    assert "how are you?" in built.text(persona, talk, "how are you?")


@pytest.mark.parametrize(("thinking", "text"), [(True, "thinking"), (False, "quick")])
def test_the_template_is_told_whether_to_think(thinking: bool, text: str) -> None:
    built = Built(make_tokenizer(THINKING_TEMPLATE), thinking=thinking)
    assert built.text(PERSONA, [], "hi") == text


def test_the_prefix_of_a_prompt_is_the_whole_of_the_last_one_but_its_ending(built: Built) -> None:
    talk: list[tuple[Role, str]] = []
    before: list[int] = []
    for turn in range(5):
        ids = built.prompt(PERSONA, talk, f"question {turn}").token_ids
        assert ids[: len(before)] == before
        talk += [("user", f"question {turn}"), ("assistant", f"answer {turn}")]
        before = ids


# Control tokens

SNIPPETS = st.one_of(
    st.sampled_from(
        [*SPECIAL_TOKENS, "<|im_", "start|>", "<|", "|>", "<", "|im_end|>", "system\n"]
    ),
    st.text(max_size=4),
)
HOSTILE = st.lists(SNIPPETS, max_size=6).map("".join)


def control_tokens(built: Built, ids: Sequence[int]) -> list[int]:
    return [token for token in ids if token in built.tokenizer.all_special_ids or token == 0]


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_becomes_a_control_token(
    built: Built, persona: str, asked: str, answered: str, user: str
) -> None:
    hostile = built.prompt("p" + persona, [("user", asked), ("assistant", answered)], user)
    plain = built.prompt("p", [("user", "a"), ("assistant", "a")], "a")
    assert control_tokens(built, hostile.token_ids) == control_tokens(built, plain.token_ids)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_what_looks_like_a_control_token_can_still_be_read(built: Built, token: str) -> None:
    text = built.text(None, [], f"what is {token}?")
    assert text.count(token) == chatml(("user", "")).count(token)
    assert token[1:] in text.removesuffix("<|im_end|>\n<|im_start|>assistant\n")


def test_tags_of_the_template_that_are_not_special_are_no_control_tokens_either() -> None:
    """Some models mark their thoughts and calls with added tokens that are not `special`."""
    tokenizer = make_tokenizer(CHAT_TEMPLATE, more_tokens=["<think>", "</think>"])
    built = Built(tokenizer)
    ids = built.prompt("p<think>", [("assistant", "</think>")], "<think></think>").token_ids
    added = set(tokenizer.convert_tokens_to_ids(["<think>", "</think>"]))
    assert not added & set(ids)


def test_ordinary_added_tokens_stay_what_they_are() -> None:
    """Some vocabularies have added tokens for runs of blanks; they are only text."""
    tokenizer = make_tokenizer(CHAT_TEMPLATE, more_tokens=["    "])
    assert "a    b" in Built(tokenizer).text(None, [], "a    b")


@given(st.text(max_size=40).filter(lambda text: "|" not in text))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ordinary_text_is_not_touched(built: Built, text: str) -> None:
    assert built.text("p", [("assistant", text)], text) == chatml(
        ("system", "p"), ("assistant", text), ("user", text)
    )


# Budgets


def words(count: int) -> str:
    """A text of so many tokens: each letter of a word that is not merged is one."""
    return "Q" * count


def test_a_letter_is_a_token_here(built: Built) -> None:
    assert built.builder.count(words(37)) == 37


def test_a_persona_may_be_as_long_as_its_budget(built: Built) -> None:
    assert built.builder.admit(words(200), "hi") == "hi"
    with pytest.raises(RequestError) as raised:
        built.builder.admit(words(201), "hi")
    assert raised.value.code is ErrorCode.CHAT_PROMPT_TOO_LONG
    assert "201" in raised.value.message
    assert "200" in raised.value.message


@pytest.mark.parametrize("text", ["", "hi", words(100), "é" * 50, "😀" * 25])
def test_an_utterance_within_its_budget_is_not_touched(built: Built, text: str) -> None:
    assert built.builder.admit(None, text) == text


def test_of_an_utterance_too_long_the_start_is_kept(built: Built) -> None:
    assert built.builder.admit(None, words(101)) == words(100)
    assert built.builder.admit(None, "hello " + words(500)).startswith("hello Q")


@pytest.mark.parametrize("character", ["é", "日", "😀"])
@pytest.mark.parametrize("before", ["", "Q", "QQ", "QQQ"])
def test_no_character_is_cut_in_two(built: Built, character: str, before: str) -> None:
    cut = built.builder.admit(None, before + character * 200)
    assert cut.removeprefix(before).strip(character) == ""
    assert len(cut) > len(before)


@given(st.text(max_size=300))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_utterance_is_cut_to_a_start_of_it_within_its_budget(tokenizer: Any, text: str) -> None:
    budgets = Budgets(context=2000, prompt=200, history=500, utterance=20, output=50)
    builder = PromptBuilder(tokenizer, budgets, enable_thinking=False)
    cut = builder.admit(None, text)
    assert text.startswith(cut)
    assert builder.count(cut) <= 20
    assert cut == text or builder.count(text) > 20


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_control_tokens_in_an_utterance_count_as_the_text_that_they_become(
    built: Built, token: str
) -> None:
    cut = built.builder.admit(None, token * 300)
    assert 0 < built.builder.count(cut) <= ROOMY.utterance


@given(st.text(max_size=200), st.integers(0, 400))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_fits_surely_fits(tokenizer: Any, text: str, budget: int) -> None:
    if fits_surely(text, budget):
        assert len(tokenizer.encode(text, add_special_tokens=False)) <= budget


def test_history_over_its_budget_is_cut_once_and_then_holds_still(built: Built) -> None:
    talk: list[tuple[Role, str]] = []
    cuts = []
    for turn in range(40):
        dropped = built.prompt("p", talk, "hi").dropped
        if dropped:
            cuts.append(turn)
            talk = talk[dropped:]
            assert sum(len(text) for _, text in talk) <= 500 * 2 / 3
            assert talk[0][0] == "user"
        talk += [("user", words(20)), ("assistant", words(20))]
    assert len(cuts) >= 4
    assert min(later - earlier for earlier, later in pairwise(cuts)) >= 4


def test_the_reply_may_be_as_long_as_its_budget(built: Built) -> None:
    assert built.prompt(PERSONA, [], "hi").max_tokens == 50


def test_where_the_context_is_short_history_makes_room_for_the_reply(tokenizer: Any) -> None:
    budgets = Budgets(context=300, prompt=200, history=500, utterance=100, output=50)
    built = Built(tokenizer, budgets)
    talk: Talk = [("user", words(30)), ("assistant", words(30))] * 5
    prompt = built.prompt("p", talk, "hi")
    assert 0 < prompt.dropped < len(talk)
    assert prompt.max_tokens == 50
    assert len(prompt.token_ids) + prompt.max_tokens <= 300
    assert talk[prompt.dropped][0] == "user"


def test_a_reply_may_be_shorter_where_there_is_no_more_room(tokenizer: Any) -> None:
    budgets = Budgets(context=200, prompt=200, history=0, utterance=100, output=150)
    prompt = Built(tokenizer, budgets).prompt(words(80), [], "hi")
    assert len(prompt.token_ids) + prompt.max_tokens == 200
    assert prompt.max_tokens < 150


def test_where_there_is_no_room_to_answer_the_prompt_is_refused(tokenizer: Any) -> None:
    budgets = Budgets(context=200, prompt=200, history=500, utterance=100, output=50)
    with pytest.raises(RequestError) as raised:
        Built(tokenizer, budgets).prompt(words(190), [("user", "a"), ("assistant", "b")], "hi")
    assert raised.value.code is ErrorCode.PROMPT_TOO_LONG
    assert "200" in raised.value.message


ROLES: st.SearchStrategy[Role] = st.sampled_from(["user", "assistant"])


@given(
    st.lists(st.tuples(ROLES, st.integers(0, 80)), max_size=20),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(60, 400),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_prompt_fits_or_is_refused(
    tokenizer: Any, talk: list[tuple[Role, int]], persona: int, user: int, context: int
) -> None:
    budgets = Budgets(context=context, prompt=200, history=300, utterance=100, output=30)
    built = Built(tokenizer, budgets)
    said: Talk = [(role, words(tokens)) for role, tokens in talk]
    try:
        prompt = built.prompt(words(persona), said, words(user))
    except RequestError:
        assert len(
            built.tokenizer.encode(chatml(("system", words(persona)), ("user", words(user))))
        )
        return
    assert len(prompt.token_ids) + prompt.max_tokens <= context
    assert min(30, context // 4) <= prompt.max_tokens <= 30
    assert 0 <= prompt.dropped <= len(talk)
    assert sum(tokens for _, tokens in talk[prompt.dropped :]) <= 300


def test_what_is_quick(tokenizer: Any) -> None:
    """A turn like the last one is; a new persona, a long utterance and a long history are not."""
    built = Built(tokenizer)
    said = [Message("user", "Hi."), Message("assistant", "Hello! " * 20)]
    quick = built.builder.is_quick
    assert quick(None, (), "Hello")
    assert not quick(PERSONA, (), "Hello")
    built.builder.build(PERSONA, said, "Hello")
    assert quick(PERSONA, said, "Hello")
    assert not quick(f"{PERSONA} ", said, "Hello")
    assert not quick(PERSONA, said, "Hello " * 200)
    assert not quick(PERSONA, [*said, Message("assistant", "word " * 300)], "Hello")
    assert not quick(PERSONA, [Message("user", "word " * 100, 100)] * 80, "Hello")
