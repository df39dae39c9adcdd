"""What people and programs see: text that streams in a terminal, plain text in a pipe, or JSON."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.client.conversation import Conversation, TurnRecord
from yap.protocol import AnyServerFrame, ControlFunction, Final, Token, ToolCall

LABEL_WIDTH = 12
_PIPE_WIDTH = 120


class Output:
    """Where a client prints. With `json` there is nothing but what `result` is given."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        console = Console(highlight=False, soft_wrap=True, quiet=as_json)
        if not console.is_terminal:
            console.width = _PIPE_WIDTH
        self.console = console

    @property
    def interactive(self) -> bool:
        """Whether a person reads along in a terminal."""
        return self.console.is_terminal and not self.as_json

    def line(self, text: str = "", style: str = "") -> None:
        """A line of text, which may come from the server."""
        self.console.print(Text(printable(text), style=style))

    def labelled(self, label: str, text: str, style: str = "") -> None:
        """A line that begins with what it is."""
        self.console.print(_label(label), Text(printable(text), style=style), sep="")

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """Columns; all but the first are to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self.console.print(table, soft_wrap=False)

    def result(self, data: dict[str, Any]) -> None:
        """What a program reads; one line, and only with --json."""
        if self.as_json:
            print(json.dumps(data, ensure_ascii=False), flush=True)


class TurnView:
    """Shows the frames of one turn as they come."""

    def __init__(self, output: Output, label: str = "reply", only_yes: bool = False) -> None:
        """
        Args:
            only_yes: leave out decisions that nothing is to be done, where a reply follows.
        """
        self._console = output.console
        self._reply = label
        self._only_yes = only_yes
        self.shown = 0  # characters of the reply, by code points
        self._begun = False
        self._left_out: ToolCall | None = None

    def show(self, frame: AnyServerFrame) -> None:
        """Take the next frame."""
        if isinstance(frame, ToolCall):
            if self._only_yes and frame.status == "no":
                self._left_out = frame
            else:
                self._show_decision(frame)
        elif isinstance(frame, Final):
            if self._left_out is not None and not self._begun:
                self._show_decision(self._left_out)
        elif isinstance(frame, Token):
            if not self._begun:
                self._begun = True
                self._console.print(_label(self._reply), end="")
            self._console.out(printable(frame.text), end="", highlight=False)
            self.shown += len(frame.text)

    def _show_decision(self, toolcall: ToolCall) -> None:
        self._console.print(_label("screenshot?"), Text(decision(toolcall)), sep="")

    def end(self, note: str = "") -> None:
        """Close the line."""
        if note:
            self._console.print(Text(f" {note}", style="yellow"), end="")
        if self._begun or note:
            self._console.print()


async def shown_turn(
    conversation: Conversation, message: dict[str, Any], output: Output
) -> TurnRecord:
    """One turn as it streams: what is said, the reply, and its times."""
    output.labelled("you", message["user_utterance"])
    view = TurnView(output)
    record = await conversation.turn(message, view.show)
    view.end()
    output.line(one_line(record), "dim")
    return record


def _label(label: str) -> Text:
    return Text(label.ljust(LABEL_WIDTH), style="bold")


def printable(text: str) -> str:
    """`text` without what a terminal would obey, or could not encode."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cs")


def decision(toolcall: ToolCall) -> str:
    """A decision in words: yes, no, or the other functions that are called."""
    if toolcall.status == "no":
        return "no"
    called = [_function(function) for function in toolcall.raw]
    if called == ["take_screenshot"]:
        return "yes"
    return ", ".join(called) or "yes"


def _function(function: ControlFunction) -> str:
    return f"{function.name} {function.param}" if function.param else function.name


def milliseconds(value: float | None) -> str:
    """A time as a cell of a table."""
    return "-" if value is None else f"{value:.0f} ms"


def one_line(record: TurnRecord) -> str:
    """Times and token counts of a turn."""
    times = (
        ("decision", record.toolcall_ms),
        ("first token", record.ttft_ms),
        ("all", record.total_ms),
    )
    parts = [f"{label} {ms:.0f} ms" for label, ms in times if ms is not None]
    if record.done is not None and record.done.usage is not None:
        usage = record.done.usage
        parts.append(
            f"{usage.prompt_tokens} prompt tokens ({usage.cached_tokens} cached), "
            f"{usage.completion_tokens} in the reply"
        )
    return " · ".join(parts)


def as_data(record: TurnRecord) -> dict[str, Any]:
    """A turn as plain data. Times are in milliseconds, from the sending of its message."""
    done = record.done
    timings = done.timings if done is not None else None
    return {
        "ok": done is not None and record.error is None,
        "screenshot": record.toolcall.status if record.toolcall else None,
        "functions": [f.model_dump(exclude_none=True) for f in record.toolcall.raw]
        if record.toolcall
        else None,
        "reply": record.text,
        "finish_reason": done.finish_reason if done else None,
        "usage": done.usage.model_dump() if done and done.usage else None,
        "server_ms": timings.model_dump() if timings else None,
        "ack_ms": _rounded(record.ack_ms),
        "toolcall_ms": _rounded(record.toolcall_ms),
        "ttft_ms": _rounded(record.ttft_ms),
        "first_3_words_ms": _rounded(record.first_3_words_ms),
        "first_sentence_ms": _rounded(record.first_sentence_ms),
        "stream_ms": _rounded(record.stream_ms),
        "total_ms": _rounded(record.total_ms),
        "chunks": len(record.tokens),
        "chars": len(record.text),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
