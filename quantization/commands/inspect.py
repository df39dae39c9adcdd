"""`python -m quantization inspect`: what a model is, and how it would be served."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from quantization.commands import report
from quantization.commands.options import add_hardware, add_looking, hardware_of
from quantization.errors import ExitCode
from quantization.model import checkpoint
from quantization.serving.judging import serving, settings_for


def add(commands: Any) -> None:
    """Add the command to the others."""
    parser = add_looking(commands, "inspect", "what a model is, and how it would be served")
    parser.set_defaults(command=_inspect)
    add_hardware(parser)


def _inspect(options: argparse.Namespace) -> int:
    where = hardware_of(options)
    settings = settings_for(options.model)
    found = checkpoint.read(options.model, options.revision)
    served = serving(found, where, settings)
    if options.json:
        sys.stdout.write(json.dumps(report.inspection(found, where, served), indent=2) + "\n")
    else:
        sys.stdout.write(report.inspection_text(found, where, served))
    return int(ExitCode.DONE)
