"""The history remembers what was said, and moves the prompt's prefix seldom."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yap.history import Heard, History, Message, Role, overflow, parse_transcript


def talk(*tokens: int) -> list[Message]:
    """A conversation, user first, with messages of so many tokens."""
    roles: tuple[Role, Role] = ("user", "assistant")
    return [Message(roles[i % 2], f"m{i}", count) for i, count in enumerate(tokens)]


def no_count(_text: str) -> int:
    raise AssertionError("was counted already")


def said(text: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in parse_transcript(text)]


def test_messages_come_back_in_order() -> None:
    history = History()
    history.append("user", "hi")
    history.append("assistant", "hey")
    history.append("user", "how are you?")
    assert [(m.role, m.content) for m in history.messages] == [
        ("user", "hi"),
        ("assistant", "hey"),
        ("user", "how are you?"),
    ]
    assert history.user_lines() == ["hi", "how are you?"]
    assert len(history) == 3


def test_an_empty_message_is_not_remembered() -> None:
    history = History()
    history.append("assistant", "")
    assert len(history) == 0


def test_the_list_of_messages_is_the_callers_own() -> None:
    history = History(talk(1, 1))
    history.messages.clear()
    assert len(history) == 2


def test_the_oldest_are_dropped_first() -> None:
    history = History(talk(1, 1, 1, 1))
    history.drop(2)
    assert [message.content for message in history.messages] == ["m2", "m3"]


# Trimming


@pytest.mark.parametrize(
    ("tokens", "budget", "dropped"),
    [
        pytest.param((), 0, 0, id="nothing"),
        pytest.param((10, 10, 10), 30, 0, id="just fits"),
        pytest.param((10, 10, 10, 10), 39, 2, id="cut to two thirds"),
        pytest.param((10, 10), 0, 2, id="no budget"),
        pytest.param((100,), 50, 1, id="one too large"),
        pytest.param((1, 1, 100), 50, 3, id="the newest too large"),
        pytest.param((30, 10, 10, 10), 50, 2, id="a reply never comes first"),
        pytest.param((0, 0, 0), 0, 0, id="weightless"),
    ],
)
def test_over_budget_the_oldest_go_at_once(
    tokens: tuple[int, ...], budget: int, dropped: int
) -> None:
    assert overflow(talk(*tokens), budget, no_count) == dropped


def test_each_message_is_counted_once() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 4

    messages = [Message("user", "a"), Message("assistant", "b")]
    for _ in range(3):
        overflow(messages, 100, count)
    assert counted == ["b", "a"]
    assert [message.tokens for message in messages] == [4, 4]


def test_after_a_cut_the_prefix_holds_still_for_many_turns() -> None:
    """300 tokens of budget, 20 a turn: a cut frees 100, so it comes every fifth turn."""
    history = History()
    cuts = []
    for turn in range(100):
        history.append("user", f"u{turn}")
        history.append("assistant", f"a{turn}")
        dropped = overflow(history.messages, 300, lambda _text: 10)
        if dropped:
            cuts.append(turn)
            history.drop(dropped)
    gaps = [later - earlier for earlier, later in pairwise(cuts)]
    assert len(cuts) > 10
    assert min(gaps) >= 5


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 500))
def test_what_is_kept_fits_and_opens_with_the_user(tokens: list[int], budget: int) -> None:
    messages = talk(*tokens)
    dropped = overflow(messages, budget, no_count)
    kept = messages[dropped:]
    total = sum(message.tokens or 0 for message in kept)
    if sum(tokens) <= budget:
        assert dropped == 0
    else:
        assert total <= budget * 2 / 3
        assert not kept or kept[0].role == "user"


# Transcripts


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("just words", [], id="no speaker"),
        pytest.param("User: hi", [("user", "hi")], id="one line"),
        pytest.param(
            "User: hi\nAssistant: hey\n\nUser: bye",
            [("user", "hi"), ("assistant", "hey"), ("user", "bye")],
            id="turns with a blank line between",
        ),
        pytest.param(
            "User: hi\r\nAssistant: hey\r\n", [("user", "hi"), ("assistant", "hey")], id="CRLF"
        ),
        pytest.param("User:hi", [("user", "hi")], id="no blank after the colon"),
        pytest.param("User: one\ntwo\n three", [("user", "one\ntwo\n three")], id="more lines"),
        pytest.param("lost\nUser: hi", [("user", "hi")], id="before the first speaker"),
        pytest.param("Assistant: welcome", [("assistant", "welcome")], id="a reply first"),
        pytest.param(
            "User: hi\nAssistant: a\nAssistant: b",
            [("user", "hi"), ("assistant", "a"), ("assistant", "b")],
            id="two replies are both kept",
        ),
        pytest.param("User: \nAssistant: hey", [("assistant", "hey")], id="an empty one"),
        pytest.param("user: hi\nUSER: hi", [], id="case matters"),
        pytest.param("User: say User: twice", [("user", "say User: twice")], id="inside a line"),
        pytest.param("User: hi\n User: x", [("user", "hi\n User: x")], id="indented"),
        pytest.param("Users: hi", [], id="another word"),
    ],
)
def test_a_transcript_is_read(text: str, messages: list[tuple[str, str]]) -> None:
    assert said(text) == messages


@given(st.text())
def test_any_text_is_a_transcript(text: str) -> None:
    assert all(content and content == content.strip() for _, content in said(text))


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        (Heard(), ["hi", "Hello there."]),
        (Heard(chars=5), ["hi", "Hello"]),
        (Heard(chars=0), ["hi"]),
        (Heard(chars=999), ["hi", "Hello there."]),
        (Heard(text="Hello th"), ["hi", "Hello th"]),
        (Heard(text="Hello you"), ["hi", "Hello "]),
        (Heard(text=""), ["hi"]),
        (Heard(chars=1, text="Hello"), ["hi", "Hello"]),
    ],
)
def test_of_the_last_reply_only_what_was_heard_is_kept(heard: Heard, kept: list[str]) -> None:
    history = History([Message("user", "hi"), Message("assistant", "Hello there.")])
    history.keep_heard(heard)
    assert [message.content for message in history.messages] == kept


def test_what_the_user_said_was_heard_in_any_case() -> None:
    history = History([Message("assistant", "Hello."), Message("user", "hi")])
    history.keep_heard(Heard(chars=0))
    assert len(history) == 2


def test_a_shortened_reply_is_counted_anew() -> None:
    history = History([Message("assistant", "Hello there.", tokens=3)])
    history.keep_heard(Heard(chars=5))
    assert history.messages[0].tokens is None


def test_of_a_transcript_without_end_the_newest_messages_are_kept() -> None:
    text = "".join(f"User: {number}\nAssistant: yes\n" for number in range(5000))
    messages = parse_transcript(text)
    assert len(messages) == 1000
    assert [m.content for m in messages[-2:]] == ["4999", "yes"]


def test_no_more_is_counted_than_could_fit() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 10

    messages = [Message("user", "word") for _ in range(1000)]
    assert overflow(messages, 100, count) == 994
    assert len(counted) == 11


def test_a_message_that_cannot_fit_is_not_even_counted() -> None:
    def count(text: str) -> int:
        assert len(text) < 100
        return 1

    messages = [Message("user", "x" * 1_000_000), Message("user", "word")]
    assert overflow(messages, 100, count) == 1
