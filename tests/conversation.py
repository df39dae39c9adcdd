"""Hold a scripted conversation: facts first, then questions that need them.

Every turn sends the whole conversation so far, as a client that keeps its own history does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.client.arguments import (
    Setup,
    add_persona,
    add_prompts,
    count,
    endpoint,
    non_negative,
    parser,
    setup,
)
from tests.client.checks import missing_parts
from tests.client.conversation import Conversation, TurnRecord, connect_to
from tests.client.errors import ExitCode
from tests.client.fixtures import Line, Script, find_script, script_names
from tests.client.run import run
from tests.client.show import Output, TurnView, as_data, milliseconds
from tests.client.timing import summary

EXAMPLES = """\
  TEXT_API_KEY=... python tests/conversation.py
  python tests/conversation.py --script weekend --history server
  python tests/conversation.py --min-recall 3 --json > figures.json
"""
METRICS = ("toolcall_ms", "ttft_ms", "first_3_words_ms", "first_sentence_ms", "total_ms")


@dataclass(slots=True)
class Talk:
    """What was said so far."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def add(self, said: str, answered: str) -> None:
        """A turn that is over."""
        self.messages.append({"role": "user", "content": said})
        if answered:
            self.messages.append({"role": "assistant", "content": answered})

    def fields(self, kind: str) -> dict[str, Any]:
        """What a `start` says about it."""
        if kind == "server":
            return {}
        if kind == "messages":
            return {"history": self.messages}
        # A transcript has one line a message; a line break in a reply is a blank there.
        lines = (
            f"{m['role'].capitalize()}: {' '.join(m['content'].split())}" for m in self.messages
        )
        return {"history_text": "\n".join(lines)}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, EXAMPLES)
    made.add_argument(
        "--script",
        type=find_script,
        default="first_call",
        metavar="NAME|FILE",
        help=f"what is said: {', '.join(script_names())}, or a file like them "
        "(default: %(default)s)",
    )
    made.add_argument(
        "--history",
        choices=("text", "messages", "server"),
        default="text",
        help="send it as history_text or history, or rely on the server (default: %(default)s)",
    )
    made.add_argument(
        "--min-recall",
        type=count(0),
        default=0,
        metavar="N",
        help="how many of the questions must be answered with the fact (default: %(default)s)",
    )
    made.add_argument(
        "--pause", type=non_negative, default=0.0, metavar="S", help="between turns (default: 0)"
    )
    add_persona(made)
    add_prompts(made)
    return made.parse_args(argv)


async def converse(arguments: argparse.Namespace, output: Output) -> ExitCode:
    """All turns of the script, and their figures."""
    ready, script = setup(arguments, "conversation"), arguments.script
    records: list[TurnRecord] = []
    talk = Talk()
    async with connect_to(endpoint(arguments)) as conversation:
        for number, line in enumerate(script.lines):
            if number:
                await asyncio.sleep(arguments.pause)
            fields = talk.fields(arguments.history)
            records.append(await _turn(conversation, ready, line, fields, output))
            talk.add(line.say, records[-1].text)
    return _conclude(script, records, arguments, output)


async def _turn(
    conversation: Conversation, ready: Setup, line: Line, fields: dict[str, Any], output: Output
) -> TurnRecord:
    output.labelled("you", line.say)
    view = TurnView(output)
    record = await conversation.turn(ready.start(line.say, **fields), view.show)
    view.end()
    if line.expect and record.tokens:
        recalled = "recalled" if line.is_answered_by(record.text) else "not recalled"
        output.labelled("", f"{recalled}: {' or '.join(line.expect)}", "dim")
    return record


def _conclude(
    script: Script, records: list[TurnRecord], arguments: argparse.Namespace, output: Output
) -> ExitCode:
    problems = [
        f"Turn {number}: {text}"
        for number, record in enumerate(records, 1)
        for text in missing_parts(record, arguments.prompt_mode)
    ]
    asked = [(line, r) for line, r in zip(script.lines, records, strict=True) if line.expect]
    recalled = sum(line.is_answered_by(record.text) for line, record in asked)
    if recalled < arguments.min_recall:
        problems.append(f"Recalled {recalled} of {len(asked)}; {arguments.min_recall} are needed.")
    figures = {name: summary(_times(records, name)) for name in METRICS}
    _show(records, figures, output)
    if any(record.tokens for record in records):
        output.line(f"Recalled {recalled} of {len(asked)} facts.")
    for problem in problems:
        print(problem, file=sys.stderr)
    output.result(
        {
            "ok": not problems,
            "problems": problems,
            "script": script.name,
            "recalled": recalled,
            "asked": len(asked),
            "figures": figures,
            "turns": [
                {"say": line.say, **as_data(record)}
                for line, record in zip(script.lines, records, strict=True)
            ],
        }
    )
    return ExitCode.CHECK_FAILED if problems else ExitCode.OK


def _times(records: list[TurnRecord], metric: str) -> list[float]:
    return [time for r in records if (time := getattr(r, metric)) is not None]


def _show(records: list[TurnRecord], figures: dict[str, dict[str, float]], output: Output) -> None:
    header = ["turn", "decision", "first token", "3 words", "sentence", "all", "prompt", "cached"]
    rows = []
    for number, record in enumerate(records, 1):
        usage = record.done.usage if record.done else None
        rows.append(
            [
                str(number),
                *(milliseconds(getattr(record, name)) for name in METRICS),
                *([str(usage.prompt_tokens), str(usage.cached_tokens)] if usage else ["-", "-"]),
            ]
        )
    for name in ("mean", "p50", "p90", "p95"):
        cells = [milliseconds(figures[metric].get(name)) for metric in METRICS]
        rows.append([name, *cells, "", ""])
    output.line()
    output.table(header, rows)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments(argv)
    output = Output(arguments.json)
    return run(lambda: converse(arguments, output), output)


if __name__ == "__main__":
    sys.exit(main())
