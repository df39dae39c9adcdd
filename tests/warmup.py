"""Send one turn and show what comes back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.client.arguments import add_persona, add_prompts, endpoint, parser, setup
from tests.client.checks import missing_parts
from tests.client.conversation import connect_to
from tests.client.errors import ExitCode
from tests.client.run import run
from tests.client.show import Output, as_data, shown_turn

GREETING = "Hi there! What's your name?"
EXAMPLES = """\
  TEXT_API_KEY=... python tests/warmup.py
  python tests/warmup.py "Can you look at my screen?" --personality playful
  python tests/warmup.py --double-ttfb --json
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, EXAMPLES)
    made.add_argument("message", nargs="*", help="what to say (default: a greeting)")
    made.add_argument(
        "--double-ttfb",
        action="store_true",
        help="say it twice, in two sessions: the second reply finds its prompt in the cache",
    )
    add_persona(made)
    add_prompts(made)
    return made.parse_args(argv)


async def warm_up(arguments: argparse.Namespace, output: Output) -> ExitCode:
    """One turn, or two, shown as they come."""
    message = " ".join(arguments.message) or GREETING
    ready = setup(arguments, "warmup")
    async with connect_to(endpoint(arguments)) as conversation:
        first = await shown_turn(conversation, ready.start(message), output)
        data, records = as_data(first), [first]
        if arguments.double_ttfb:
            second = await shown_turn(conversation, ready.new_session().start(message), output)
            data["second"], records = as_data(second), [first, second]
    problems = [text for record in records for text in missing_parts(record, ready.mode)]
    for problem in problems:
        print(problem, file=sys.stderr)
    output.result(data | {"ok": not problems, "problems": problems})
    return ExitCode.CHECK_FAILED if problems else ExitCode.OK


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments(argv)
    output = Output(arguments.json)
    return run(lambda: warm_up(arguments, output), output)


if __name__ == "__main__":
    sys.exit(main())
