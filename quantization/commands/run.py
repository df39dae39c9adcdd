"""`python -m quantization run`: from float weights to an export."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from quantization.commands.options import add_hardware, add_recipe, plan_of
from quantization.errors import ExitCode, QuantizationError
from quantization.home import ROOT, home
from quantization.planning.plan import Plan
from quantization.running.display import Display
from quantization.units import size

if TYPE_CHECKING:  # the other commands do without what these import
    from quantization.calibration import Request
    from quantization.gauge import Bounds
    from quantization.running.run import Made

_TERMINATED: Final = 143


def add(commands: Any) -> None:
    """Add the command to the others."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="quantize a model",
        description="Quantizes a model, measures what it lost, and leaves a complete folder to "
        "serve. What was made before is found again; a run that was killed goes on where it was.",
    )
    parser.set_defaults(command=_run)
    parser.add_argument("model", help="a folder or a Hub id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the project's cache")
    parser.add_argument("--force", action="store_true", help="make it again; replace what is there")
    parser.add_argument("--offline", action="store_true", help="fetch nothing")
    parser.add_argument("--json", action="store_true", help="for programs; progress on stderr")
    add_recipe(parser)
    parser.add_argument_group("calibration").add_argument(
        "--personas",
        type=Path,
        nargs="?",
        const=ROOT / "prompts",
        metavar="DIR",
        help="mix in talks with the personas of a folder (default prompts/)",
    )
    parser.add_argument_group("gauge").add_argument(
        "--held-out", type=Path, metavar="FILE", help="texts to measure with, one's own"
    )
    bounds = parser.add_argument_group("what may be lost (see the docs for defaults)")
    bounds.add_argument("--max-kl", type=float, metavar="NATS", help="KL divergence a token")
    bounds.add_argument("--max-perplexity-ratio", type=float, metavar="R", help="at least 1")
    bounds.add_argument("--min-agreement", type=float, metavar="SHARE", help="same likeliest token")
    bounds.add_argument("--no-serve", action="store_true", help="do not measure it in vLLM as well")
    add_hardware(parser)


def _run(options: argparse.Namespace) -> int:
    from quantization.running.run import run
    from quantization.running.supervising import Terminated
    from quantization.running.wanted import Wanted

    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    display = Display(sys.stderr)
    plan = plan_of(options)
    wanted = Wanted(
        plan=plan,
        request=_request(plan, options),
        bounds=_bounds(options),
        out=options.out.expanduser().absolute() if options.out else None,
        force=options.force,
        serve=not options.no_serve,
        held_out=_held_out(options.held_out),
    )
    try:
        with _told_to_end():
            made = run(wanted, home(), display)
    except Terminated:
        sys.stderr.write("Ended by SIGTERM; run it again to go on from here.\n")
        return _TERMINATED
    finally:
        display.close()
    sys.stdout.write(_printed(made) if options.json else _text(made))
    return int(ExitCode.DONE)


def _request(plan: Plan, options: argparse.Namespace) -> Request | None:
    """What to calibrate on; None where the method needs nothing."""
    from quantization.calibration import Request

    recipe = plan.recipe
    if recipe.dataset is None or recipe.samples is None or recipe.sequence_length is None:
        if options.personas is not None:
            raise QuantizationError(
                f"{recipe.method} needs no calibration: leave --personas out.", ExitCode.USAGE
            )
        return None
    return Request(
        dataset=recipe.dataset,
        samples=recipe.samples,
        sequence_length=recipe.sequence_length,
        personas=options.personas.expanduser().absolute() if options.personas else None,
        offline=options.offline,
    )


def _held_out(path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise QuantizationError(f"There is no file {path} to measure with.", ExitCode.NOT_FOUND)
    return path.absolute() if path is not None else None


def _bounds(options: argparse.Namespace) -> Bounds:
    from pydantic import ValidationError

    from quantization.gauge import Bounds

    names = ("max_kl", "max_perplexity_ratio", "min_agreement")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    try:
        return Bounds(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise QuantizationError(f"{option}: {first['msg']}.", ExitCode.USAGE) from error


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM ends the worker and then this, as Ctrl+C does."""

    from quantization.running.supervising import Terminated

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _printed(made: Made) -> str:
    metadata = made.metadata
    found = {
        "export": str(made.folder),
        "cached": made.cached,
        "key": metadata.key,
        "fingerprint": metadata.fingerprint,
        "method": metadata.recipe["method"],
        "bytes": sum(file.bytes for file in metadata.files.values()),
        "gauge": metadata.gauge,
        "seconds": metadata.seconds,
    }
    return json.dumps(found, indent=2) + "\n"


def _text(made: Made) -> str:
    from quantization.gauge import table

    metadata = made.metadata
    lines = ["It was made before; nothing was done." if made.cached else ""]
    measured = metadata.measured
    if measured is not None:
        lines.append(table(measured))
    for note in (metadata.gauge_note, metadata.served_note):
        if note:
            lines += [*textwrap.wrap(note, 100), ""]
    change = f"{size(metadata.source.weight_bytes)} -> {size(metadata.weight_bytes)}"
    lines.append(f"{made.folder}  ({change})")
    return "\n".join(lines).lstrip("\n") + "\n"
