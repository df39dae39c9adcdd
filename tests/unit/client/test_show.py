"""What a client shows of a turn."""

from __future__ import annotations

import pytest

from tests.client.show import Output, TurnView
from yap.protocol import Final, Token, ToolCall


@pytest.mark.parametrize(
    ("only_yes", "status", "tokens", "shown"),
    [
        (True, "no", [], "screenshot? no\n"),  # there is no chat model, and nothing else to show
        (True, "no", ["Hi", " you"], "reply       Hi you\n"),
        (True, "yes", [], "screenshot? yes\n"),
        (False, "no", ["Hi"], "screenshot? no\nreply       Hi\n"),
    ],
)
def test_a_decision_that_asks_for_nothing_is_left_out_where_a_reply_follows(
    only_yes: bool,
    status: str,
    tokens: list[str],
    shown: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = TurnView(Output(), only_yes=only_yes)
    view.show(ToolCall.model_validate({"status": status, "raw": [], "turn_id": "t"}))
    for text in tokens:
        view.show(Token(text=text, turn_id="t"))
    view.show(Final(normalized_text="".join(tokens), turn_id="t"))
    view.end()
    assert capsys.readouterr().out == shown
