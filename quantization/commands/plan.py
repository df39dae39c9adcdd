"""`python -m quantization plan`: how a model would be quantized, and why."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from quantization.commands import report
from quantization.commands.options import add_hardware, add_looking, add_recipe, plan_of
from quantization.errors import ExitCode


def add(commands: Any) -> None:
    """Add the command to the others."""
    parser = add_looking(commands, "plan", "how a model would be quantized, and why")
    parser.set_defaults(command=_plan)
    add_recipe(parser)
    add_hardware(parser)


def _plan(options: argparse.Namespace) -> int:
    made = plan_of(options)
    if options.json:
        sys.stdout.write(json.dumps(report.planned(made), indent=2) + "\n")
    else:
        sys.stdout.write(report.plan_text(made))
    return int(ExitCode.DONE)
