"""Options that several commands have: what is made, and for which hardware."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError
from quantization.model import checkpoint
from quantization.planning.methods import METHODS
from quantization.planning.plan import Plan, plan
from quantization.planning.recipes import Choices, choices, load
from quantization.serving import target
from quantization.serving.judging import settings_for
from quantization.serving.target import Target

EXIT_CODES: Final = """\
exit codes:
  0  done                          5  offline, or the Hub does not answer
  2  arguments or settings         6  files are damaged or incomplete
  3  no such model or file         7  it must not, or cannot be quantized so
  4  private, gated, bad token     8  the quantizer failed; its log is named
                                   9  more was lost than allowed
                                  10  no room: disk or memory
"""


def add_looking(commands: Any, name: str, says: str) -> argparse.ArgumentParser:
    """A command that only reads what there is of a model."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=says,
        description=f"Tells {says}. Reads the model's small files and the headers of its weights.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a folder or a Hub id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The options that decide what is made."""
    group = parser.add_argument_group("recipe")
    group.add_argument("--to", choices=("4bit", "8bit"), help="bits of a weight")
    group.add_argument("--method", choices=tuple(METHODS), help="by default the one that suits")
    group.add_argument("--backend", choices=("llmcompressor", "autoawq"))
    group.add_argument("--recipe", type=Path, metavar="FILE", help="YAML or JSON; see the docs")
    group.add_argument("--group-size", type=int, metavar="N", help="weights that share a scale")
    group.add_argument("--dataset", help="calibration data; default AWQ_CALIB_DATASET")
    group.add_argument("--samples", type=int, metavar="N", help="default AWQ_NSAMPLES")
    group.add_argument("--sequence-length", type=int, metavar="TOKENS", help="default AWQ_SEQLEN")


def add_hardware(parser: argparse.ArgumentParser) -> None:
    """The options about hardware; without them it is this machine's."""
    group = parser.add_argument_group("hardware that need not be there")
    group.add_argument("--memory-gib", type=_positive, metavar="N", help="memory of each GPU")
    group.add_argument("--capability", type=_capability, help="its compute capability, as in 9.0")
    group.add_argument("--gpus", type=int, choices=range(1, 1025), metavar="N", help="default 1")
    group.add_argument("--cpu", action="store_true", help="this machine as if it had no GPU")


def hardware_of(options: argparse.Namespace) -> Target:
    """The hardware that the options mean.

    Raises:
        QuantizationError: they do not go together.
    """
    given = options.memory_gib is not None
    if given != (options.capability is not None):
        raise QuantizationError("--memory-gib and --capability belong together.", ExitCode.USAGE)
    if options.cpu and given:
        raise QuantizationError("Give --cpu or a GPU, not both.", ExitCode.USAGE)
    if options.gpus is not None and not given:
        raise QuantizationError("--gpus needs --memory-gib and --capability.", ExitCode.USAGE)
    if options.cpu:
        return target.this_cpu()
    if given:
        return target.imagined(options.memory_gib, options.capability, options.gpus or 1)
    return target.this_machine()


def choices_of(options: argparse.Namespace) -> tuple[Choices, dict[str, str]]:
    """What the recipe file and the options ask for, and for each part where that was said.

    Raises:
        QuantizationError: the file cannot be read, or both say different things.
    """
    names = ("method", "backend", "group_size", "dataset", "samples", "sequence_length")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    asked = choices(given, "What the options say")
    origin = {name: f"--{name.replace('_', '-')}" for name in given}
    if options.recipe is None:
        return asked, origin
    filed = load(options.recipe)
    for name in filed.model_fields_set:
        value = getattr(filed, name)
        if value is None:
            continue
        if name in given and given[name] != value:
            raise QuantizationError(
                f"{origin[name]} says {given[name]}, and {options.recipe} says {value}: leave one "
                "out.",
                ExitCode.USAGE,
            )
        origin.setdefault(name, str(options.recipe))
    merged = filed.model_copy(update=asked.model_dump(exclude_none=True))
    return merged, origin


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for.

    Raises:
        QuantizationError: there is none.
    """
    where = hardware_of(options)
    wanted, origin = choices_of(options)
    if options.to is None and wanted.method is None:
        raise QuantizationError("Say --to 4bit, --to 8bit, or a --method.", ExitCode.USAGE)
    settings = settings_for(options.model)
    found = checkpoint.read(options.model, options.revision)
    return plan(found, where, settings, width=options.to, wanted=wanted, origin=origin)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 100_000:
        raise ValueError(text)
    return value


def _capability(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d{1,2}\.\d", text):
        raise ValueError(text)
    major, minor = text.split(".")
    return int(major), int(minor)
