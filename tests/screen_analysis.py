"""Ask about a screen: the server must want to see it, then react to what was seen."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.client.arguments import Setup, add_persona, add_prompts, endpoint, parser, setup
from tests.client.checks import has_chat_model
from tests.client.conversation import Conversation, TurnRecord, connect_to
from tests.client.errors import ExitCode
from tests.client.fixtures import SCREENS, Screen, read_screens
from tests.client.run import run
from tests.client.show import Output, TurnView, as_data, one_line, shown_turn

EXAMPLES = """\
  TEXT_API_KEY=... python tests/screen_analysis.py
  python tests/screen_analysis.py --only recipe --persona anna
  python tests/screen_analysis.py --screens my_screens.json --json
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One screen: the turn that asks, and what followed; None without a chat model."""

    screen: Screen
    asked: TurnRecord
    followed: TurnRecord | None

    def problems(self, mode: str) -> list[str]:
        """What is wrong, in sentences."""
        found = []
        decision = self.asked.toolcall
        if decision is None:
            if mode in ("both", "tool"):
                found.append("there was no toolcall: the server has no classifier")
        elif "take_screenshot" not in {function.name for function in decision.raw}:
            found.append("the server did not want to see the screen")
        if self.followed is not None and not self.followed.text.strip():
            found.append("the reply to what was seen is empty")
        if self.followed is None and mode in ("both", "chat"):
            found.append("there was no followup: the server has no chat model")
        return [f"{self.screen.name}: {problem}." for problem in found]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, EXAMPLES)
    made.add_argument(
        "--screens",
        type=read_screens,
        default=str(SCREENS),
        metavar="FILE",
        help="what is asked and seen (default: %(default)s)",
    )
    made.add_argument("--only", metavar="NAME", help="one of them (default: all)")
    add_persona(made)
    add_prompts(made)
    arguments = made.parse_args(argv)
    names = [screen.name for screen in arguments.screens]
    if arguments.only not in (None, *names):
        made.error(f"there is no screen {arguments.only!r}; there is {', '.join(names)}")
    return arguments


async def look(arguments: argparse.Namespace, output: Output) -> ExitCode:
    """Every screen in a session of its own."""
    ready = setup(arguments, "screen")
    chosen = [s for s in arguments.screens if arguments.only in (None, s.name)]
    async with connect_to(endpoint(arguments)) as conversation:
        outcomes = [
            await _screen(conversation, ready.new_session(), screen, output) for screen in chosen
        ]
    problems = [problem for outcome in outcomes for problem in outcome.problems(ready.mode)]
    for problem in problems:
        print(problem, file=sys.stderr)
    output.line(f"{len(outcomes)} screens, {len(problems)} problems.")
    output.result(
        {
            "ok": not problems,
            "problems": problems,
            "screens": [
                {
                    "name": outcome.screen.name,
                    "asked": as_data(outcome.asked),
                    "followed": as_data(outcome.followed) if outcome.followed else None,
                }
                for outcome in outcomes
            ],
        }
    )
    return ExitCode.CHECK_FAILED if problems else ExitCode.OK


async def _screen(
    conversation: Conversation, ready: Setup, screen: Screen, output: Output
) -> Outcome:
    for line in screen.before:
        await shown_turn(conversation, ready.start(line), output)
    asked = await shown_turn(conversation, ready.start(screen.say), output)
    if not has_chat_model(asked):
        return Outcome(screen, asked, None)
    output.labelled("on screen", screen.analysis)
    view = TurnView(output)
    followed = await conversation.followup(screen.analysis, view.show)
    view.end()
    output.line(one_line(followed), "dim")
    output.line()
    return Outcome(screen, asked, followed)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments(argv)
    output = Output(arguments.json)
    return run(lambda: look(arguments, output), output)


if __name__ == "__main__":
    sys.exit(main())
