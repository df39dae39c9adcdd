"""`python -m quantization pack`: a model folder into BentoML's model store."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from quantization.errors import ExitCode
from quantization.publishing.pack import Packed, pack
from quantization.running.display import Display


def add(commands: Any) -> None:
    """Add the command to the others."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "pack",
        help="put a model into the Bento model store",
        description="Puts a complete model into BentoML's model store, under a version that its "
        "content decides, so that a Bento can carry it. Packing the same again changes nothing.",
    )
    parser.set_defaults(command=_pack)
    parser.add_argument("model", help="a folder (an export, or any model), or a Hub id")
    parser.add_argument("--name", help="in the store; by default from the model's name")
    parser.add_argument("--version", help="by default from the content")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--link",
        action="store_true",
        help="hard links, also to a folder that may be edited; exports and the Hub cache have them "
        "anyway",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def _pack(options: argparse.Namespace) -> int:
    display = Display(sys.stderr)
    try:
        packed = pack(
            options.model,
            options.name,
            options.version,
            revision=options.revision,
            link=options.link,
            progress=display.progress,
        )
    finally:
        display.close()
    if options.json:
        sys.stdout.write(json.dumps(_printed(packed), indent=2) + "\n")
    else:
        sys.stdout.write(_text(packed))
    return int(ExitCode.DONE)


def _printed(packed: Packed) -> dict[str, Any]:
    return {
        "tag": packed.tag,
        "path": str(packed.path),
        "kind": packed.kind,
        "bytes": packed.size,
        "files": packed.files,
        "new": packed.new,
        "linked": packed.linked,
        "left_out": list(packed.left_out),
    }


def _text(packed: Packed) -> str:
    how = ("linked" if packed.linked else "copied") if packed.new else "there already"
    lines = [f"{packed.tag}  {packed.size / 1e6:,.1f} MB in {packed.files} files, {how}"]
    if packed.left_out:
        lines.append(f"  left out: {', '.join(packed.left_out)}")
    return "\n".join(lines) + "\n"
