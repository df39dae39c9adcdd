"""The command line: `python -m quantization inspect|plan|run|pack|push`.

What a command found goes to standard output, and nothing else does; one sentence about what went
wrong goes to standard error, and the exit code (`errors.ExitCode`) says which kind it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from quantization.commands import inspect, pack, plan, push, run
from quantization.commands.options import EXIT_CODES
from quantization.errors import QuantizationError

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(argv)
    command: Command = options.command
    try:
        return command(options)
    except QuantizationError as error:
        if getattr(options, "json", False):
            said = {"error": {"code": int(error.code), "message": error.message}}
            sys.stdout.write(json.dumps(said, indent=2) + "\n")
        sys.stderr.write(f"{error.message}\n")
        return int(error.code)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quantization",
        description="What a chat model is, and how to make it smaller.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (inspect, plan, run, pack, push):
        command.add(commands)
    return parser
