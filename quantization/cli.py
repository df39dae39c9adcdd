"""The command line: `python -m quantization inspect|plan|run|pack|push`.

What a command found goes to standard output, and nothing else does; one sentence about what went
wrong goes to standard error, and the exit code (`errors.ExitCode`) says which kind it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from quantization import checkpoint, pack_command, push_command, report, run_command
from quantization.errors import ExitCode, QuantizationError
from quantization.options import add_hardware, add_recipe, hardware_of, plan_of
from quantization.serving import serving, settings_for

Command = Callable[[argparse.Namespace], int]

_EXIT_CODES = """\
exit codes:
  0  done                          5  offline, or the Hub does not answer
  2  arguments or settings         6  files are damaged or incomplete
  3  no such model or file         7  it must not, or cannot be quantized so
  4  private, gated, bad token     8  the quantizer failed; its log is named
                                   9  more was lost than allowed
                                  10  no room: disk or memory
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(argv)
    command: Command = options.command
    try:
        return command(options)
    except QuantizationError as error:
        if getattr(options, "json", False):
            _print_json({"error": {"code": int(error.code), "message": error.message}})
        sys.stderr.write(f"{error.message}\n")
        return int(error.code)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quantization",
        description="What a chat model is, and how to make it smaller.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = _command(commands, "inspect", _inspect, "what a model is, and how it would be served")
    add_hardware(inspect)

    plan_ = _command(commands, "plan", _plan, "how a model would be quantized, and why")
    add_recipe(plan_)
    add_hardware(plan_)

    run_command.add(commands)
    pack_command.add(commands)
    push_command.add(commands)
    return parser


def _command(commands: Any, name: str, command: Command, says: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=says,
        description=f"Tells {says}. Reads the model's small files and the headers of its weights.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    parser.add_argument("model", help="a folder or a Hub id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def _inspect(options: argparse.Namespace) -> int:
    where = hardware_of(options)
    settings = settings_for(options.model)
    found = checkpoint.read(options.model, options.revision)
    served = serving(found, where, settings)
    if options.json:
        _print_json(report.inspection(found, where, served))
    else:
        sys.stdout.write(report.inspection_text(found, where, served))
    return int(ExitCode.DONE)


def _plan(options: argparse.Namespace) -> int:
    made = plan_of(options)
    if options.json:
        _print_json(report.planned(made))
    else:
        sys.stdout.write(report.plan_text(made))
    return int(ExitCode.DONE)


def _print_json(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
