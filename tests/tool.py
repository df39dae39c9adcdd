"""Replay labelled utterances and count how often the screen decision is right."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.progress import Progress

from tests.client.arguments import (
    Setup,
    add_persona,
    add_prompts,
    count,
    endpoint,
    environment,
    non_negative,
    parser,
    positive,
    setup,
)
from tests.client.conversation import Conversation, TurnRecord, connect_to
from tests.client.endpoint import Endpoint
from tests.client.errors import (
    AtCapacityError,
    CannotConnectError,
    ConnectionLostError,
    ExitCode,
    InvalidFrameError,
    NotReadyError,
    RateLimitedError,
    ServerRefusedError,
    SilentError,
)
from tests.client.fixtures import TOOL_CASES, Step, ToolCase, read_cases
from tests.client.run import run
from tests.client.show import Output, milliseconds, printable
from tests.client.timing import summary
from yap.protocol import AnyServerFrame, ToolCall

EXAMPLES = """\
  TEXT_API_KEY=... python tests/tool.py
  python tests/tool.py --concurrency 4 --show-successes --log tool.log
  python tests/tool.py --cases my_cases.jsonl --min-accuracy 0.97 --json

A case is a line such as
  {"name": "menu", "kind": "single", "steps": [{"say": "Look at this menu!", "expect": "yes"}]}"""
# Why a step failed, and what that means.
REASONS = {
    "wrong_response": "the decision is not the label",
    "no_tool_response": "the turn was over without a toolcall",
    "timeout": "no toolcall came in time",
    "chat_timeout": "nothing came for too long after the toolcall",
    "wrong_format": "a frame was none of the protocol, or yes named no function",
    "cancelled": "the turn was cut short by somebody else",
    "incomplete": "the server hung up in the middle",
    "connection_failed": "there was no connection",
    "server_error": "the server sent an error",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step. `reason` is one of REASONS, or None where it was right."""

    case: ToolCase
    number: int
    step: Step
    reason: str | None
    answer: str | None = None
    toolcall_ms: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        told = f" ({self.detail})" if self.detail else ""
        return (
            f"{self.reason or 'ok'}: {self.case.name} step {self.number}: {self.step.say!r} is "
            f"{self.step.expect}, answered {self.answer or 'nothing'}{told}"
        )


class Pace:
    """Keeps one connection under the server's limit on messages."""

    def __init__(self, messages: int, window_s: float) -> None:
        self._messages = messages
        self._window_s = window_s
        self._sent: deque[float] = deque()

    async def wait(self) -> None:
        """Wait until one more message may be sent, and count it."""
        if not self._messages or not self._window_s:
            return
        if len(self._sent) >= self._messages:
            left = self._sent.popleft() + self._window_s - time.monotonic()
            await asyncio.sleep(max(0.0, left))
        self._sent.append(time.monotonic())


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, EXAMPLES)
    made.set_defaults(timeout=20.0)
    made.add_argument(
        "--cases", type=read_cases, default=str(TOOL_CASES), metavar="FILE", help="JSON lines"
    )
    made.add_argument("--concurrency", type=count(1), default=1, help="cases at once (default: 1)")
    made.add_argument("--limit", type=count(1), metavar="N", help="only the first N cases")
    made.add_argument(
        "--max-steps", type=count(1), default=25, metavar="N", help="of a case (default: 25)"
    )
    made.add_argument(
        "--min-accuracy",
        type=non_negative,
        default=0.9,
        metavar="SHARE",
        help="of all steps, 0 to 1; less is exit code 1 (default: %(default)s)",
    )
    made.add_argument("--show-successes", action="store_true", help="list the right ones too")
    made.add_argument("--log", type=Path, metavar="FILE", help="write every step there")
    limits = made.add_argument_group("the server's limits")
    limits.add_argument(
        "--post-tool-timeout",
        type=positive,
        metavar="S",
        default=environment("POST_TOOL_IDLE_MIN_S", "15"),
        help="longest silence after a toolcall (default: POST_TOOL_IDLE_MIN_S, 15)",
    )
    limits.add_argument(
        "--max-messages",
        type=count(0),
        metavar="N",
        default=environment("TOOL_WS_MAX_MESSAGES_PER_WINDOW", "25"),
        help="on one connection in the window (default: TOOL_WS_MAX_MESSAGES_PER_WINDOW, 25)",
    )
    limits.add_argument(
        "--message-window",
        type=non_negative,
        metavar="S",
        default=environment("TOOL_WS_MESSAGE_WINDOW_SECONDS", "60"),
        help="(default: TOOL_WS_MESSAGE_WINDOW_SECONDS, 60)",
    )
    add_persona(made)
    add_prompts(made)
    arguments = made.parse_args(argv)
    if arguments.log is not None:
        try:  # before minutes are spent on what cannot be written
            arguments.log.open("w").close()
        except OSError as error:
            made.error(f"--log cannot be written ({error})")
    return arguments


async def replay(arguments: argparse.Namespace, output: Output) -> ExitCode:
    """All cases, so many at once."""
    cases: tuple[ToolCase, ...] = arguments.cases[: arguments.limit]
    server, ready = endpoint(arguments), setup(arguments, "tool")
    async with connect_to(server):  # a server that is not there is no failure of 90 cases
        pass
    waiting = deque(cases)
    outcomes: list[Outcome] = []
    with Progress(console=output.console, transient=True, disable=not output.interactive) as bar:
        task = bar.add_task("cases", total=len(cases))

        async def work() -> None:
            while waiting:
                outcomes.extend(
                    await _case(waiting.popleft(), server, ready.new_session(), arguments)
                )
                bar.advance(task)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(arguments.concurrency, len(cases))):
                group.create_task(work())
    return _conclude(cases, outcomes, arguments, output)


async def _case(
    case: ToolCase, server: Endpoint, ready: Setup, arguments: argparse.Namespace
) -> list[Outcome]:
    """The steps up to the first that could not be served."""
    outcomes: list[Outcome] = []
    pace = Pace(arguments.max_messages, arguments.message_window)
    steps = case.steps[: arguments.max_steps]
    try:
        async with connect_to(server) as conversation:
            for number, step in enumerate(steps, 1):
                await pace.wait()
                try:
                    record = await _turn(conversation, ready.start(step.say), arguments)
                except ServerRefusedError as error:
                    reason = _reason(error)
                    outcomes.append(Outcome(case, number, step, reason, detail=str(error)))
                    break
                outcomes.append(_judge(case, number, step, record))
    except ServerRefusedError as error:
        outcomes.append(Outcome(case, 1, steps[0], "connection_failed", detail=str(error)))
    return outcomes


async def _turn(
    conversation: Conversation, start: dict[str, Any], arguments: argparse.Namespace
) -> TurnRecord:
    def after_toolcall(frame: AnyServerFrame) -> None:
        if isinstance(frame, ToolCall):
            conversation.timeout = arguments.post_tool_timeout

    while True:
        conversation.timeout = arguments.timeout
        try:
            return await conversation.turn(start, after_toolcall)
        except RateLimitedError as error:  # its limit is lower than we were told
            await asyncio.sleep(error.retry_in)


def _reason(error: ServerRefusedError) -> str:
    match error:
        case SilentError():
            decided = error.record is not None and error.record.toolcall is not None
            return "chat_timeout" if decided else "timeout"
        case InvalidFrameError():
            return "wrong_format"
        case ConnectionLostError():
            return "incomplete"
        case CannotConnectError() | AtCapacityError() | NotReadyError():
            return "connection_failed"
        case _:
            return "server_error"


def _judge(case: ToolCase, number: int, step: Step, record: TurnRecord) -> Outcome:
    toolcall = record.toolcall
    if toolcall is None:
        missing = "cancelled" if record.cancelled else "no_tool_response"
        return Outcome(case, number, step, missing)
    functions = [function.name for function in toolcall.raw]
    # Other functions, such as switch_gender, want no screenshot.
    answer = "yes" if "take_screenshot" in functions else "no"
    reason = None if answer == step.expect else "wrong_response"
    if bool(functions) != (toolcall.status == "yes"):
        reason = "wrong_format"
    return Outcome(case, number, step, reason, answer, record.toolcall_ms, ", ".join(functions))


def _conclude(
    cases: tuple[ToolCase, ...],
    outcomes: list[Outcome],
    arguments: argparse.Namespace,
    output: Output,
) -> ExitCode:
    order = {case.name: number for number, case in enumerate(cases)}
    outcomes.sort(key=lambda outcome: (order[outcome.case.name], outcome.number))
    asked = sum(min(len(case.steps), arguments.max_steps) for case in cases)
    right = sum(outcome.reason is None for outcome in outcomes)
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    latency = summary([o.toolcall_ms for o in outcomes if o.toolcall_ms is not None])
    code = _code(asked, right, reasons, arguments.min_accuracy)
    for outcome in outcomes:
        if outcome.reason or arguments.show_successes:
            output.line(str(outcome), "red" if outcome.reason else "green")
    if arguments.log is not None:
        text = "".join(f"{printable(str(outcome))}\n" for outcome in outcomes)
        arguments.log.write_text(text, encoding="utf-8")
    _show(cases, outcomes, arguments.max_steps, output)
    output.line(f"{right} of {asked} steps are right ({right / asked:.1%}).", "bold")
    for why, times in reasons.most_common():
        output.line(f"  {times} x {why}: {REASONS[why]}")
    if latency:
        shown = (f"{name} {milliseconds(value)}" for name, value in latency.items())
        output.line(f"decision: {', '.join(shown)}")
    if code is ExitCode.NOT_DEPLOYED:
        print("The server has no classifier, so no decision to judge.", file=sys.stderr)
    output.result(
        {
            "ok": code is ExitCode.OK,
            "exit_code": int(code),
            "cases": len(cases),
            "steps": asked,
            "right": right,
            "accuracy": round(right / asked, 4),
            "reasons": dict(reasons),
            "toolcall_ms": latency,
            "failures": [_data(outcome) for outcome in outcomes if outcome.reason],
        }
    )
    return code


def _code(asked: int, right: int, reasons: Counter[str], min_accuracy: float) -> ExitCode:
    if reasons and not right and set(reasons) == {"no_tool_response"}:
        return ExitCode.NOT_DEPLOYED
    unanswered = asked - right - reasons["wrong_response"]
    passed = right / asked >= min_accuracy and not unanswered
    return ExitCode.OK if passed else ExitCode.CHECK_FAILED


def _show(
    cases: tuple[ToolCase, ...], outcomes: list[Outcome], max_steps: int, output: Output
) -> None:
    """Right and wrong by kind of case."""
    asked: Counter[str] = Counter()
    for case in cases:
        asked[case.kind] += min(len(case.steps), max_steps)
    right = Counter(o.case.kind for o in outcomes if o.reason is None)
    wrong = [o for o in outcomes if o.reason == "wrong_response"]
    captures = Counter(o.case.kind for o in wrong if o.answer == "yes")
    misses = Counter(o.case.kind for o in wrong if o.answer == "no")
    output.table(
        ["kind", "steps", "right", "false captures", "misses"],
        [
            [kind, str(steps), str(right[kind]), str(captures[kind]), str(misses[kind])]
            for kind, steps in asked.items()
        ],
    )


def _data(outcome: Outcome) -> dict[str, Any]:
    return {
        "case": outcome.case.name,
        "step": outcome.number,
        "say": outcome.step.say,
        "expect": outcome.step.expect,
        "answer": outcome.answer,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments(argv)
    output = Output(arguments.json)
    return run(lambda: replay(arguments, output), output)


if __name__ == "__main__":
    sys.exit(main())
