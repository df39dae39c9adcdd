"""What a row is: a talk, a text, nothing, or not understood."""

from __future__ import annotations

from typing import Any

import pytest

from quantization.calibration.rows import Message, NotUnderstood, Talk, Text, document

SAID = Talk((Message("user", "Hi."), Message("assistant", "Hello.")))


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                {"role": "user", "content": "Hi."},
                {"role": "assistant", "content": "Hello."},
            ]
        },
        {"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]},
        [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}],
        {"instruction": "Hi.", "input": "", "output": "Hello."},
        {"prompt": "Hi.", "response": "Hello."},
        {"prompt": " Hi.\n", "completion": "Hello."},
        {"question": "Hi.", "answer": "Hello."},
        # Whatever else there is, a talk comes first.
        {"text": "something else", "prompt": "Hi.", "response": "Hello."},
        # Contents in parts, of which pictures are left out.
        {
            "messages": [
                {"role": "User", "content": [{"type": "image"}, {"type": "text", "text": "Hi."}]},
                {"role": "model", "content": "Hello."},
                {"role": "user", "content": "  "},
            ]
        },
    ],
)
def test_talks(row: Any) -> None:
    assert document(row) == SAID


def test_an_instruction_with_its_input_and_a_system_prompt() -> None:
    row = {"instruction": "Add.", "input": "2 and 3", "output": "5", "system": "Be brief."}
    assert document(row) == Talk(
        (
            Message("system", "Be brief."),
            Message("user", "Add.\n\n2 and 3"),
            Message("assistant", "5"),
        )
    )


def test_neighbours_of_one_role_are_one_message() -> None:
    said = [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d")]
    found = document([{"role": role, "content": text} for role, text in said])
    assert found == Talk((Message("user", "a\n\nb"), Message("assistant", "c\n\nd")))


@pytest.mark.parametrize("name", ["text", "content", "article", "document", "story"])
def test_texts(name: str) -> None:
    assert document({"id": 7, name: " Once. "}) == Text("Once.")


@pytest.mark.parametrize(
    "row",
    [
        "  ",
        {"text": ""},
        {"messages": []},
        {"messages": [{"role": "user", "content": "Is anybody there?"}]},
        {"messages": [{"role": "system", "content": "Be kind."}]},
    ],
)
def test_nothing(row: Any) -> None:
    assert document(row) is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (7, "a row that is a int"),
        (None, "NoneType"),
        ({"pixels": [1, 2], "label": 3}, "pixels, label"),
        ({}, "nothing in it"),
        ({"messages": ["Hi."]}, "no objects"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "'tool'"),
        ({"messages": [{"content": "Hi."}]}, "None"),
        ({"prompt": "Hi."}, "prompt"),
    ],
)
def test_what_is_not_understood_is_said(row: Any, says: str) -> None:
    with pytest.raises(NotUnderstood, match=says):
        document(row)
