"""`python -m quantization push`: an export to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from quantization.errors import ExitCode, QuantizationError
from quantization.publishing.push import (
    Access,
    Destination,
    Parcel,
    check,
    destination,
    parcel,
    push,
    token,
)

_EPILOG = """\
The token is read from HF_TOKEN, or from what `hf auth login` has stored. Without options:
  HF_AWQ_CHAT_REPO OWNER/NAME      HF_AWQ_PRIVATE       1      HF_AWQ_BRANCH  main
  HF_AWQ_COMMIT_MSG_CHAT           HF_AWQ_ALLOW_CREATE  1

exit codes: 0 done, 2 arguments, 3 no export or repository, 4 the token does not do,
5 the Hub does not answer, 6 the export is damaged, 7 refused: not made here, or public
"""


class _NoToken(argparse.Action):
    """Refuses a token on the command line without repeating it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        parser.error(
            "a token on a command line can be read by everybody on this machine: set HF_TOKEN, and "
            "make this token invalid on the Hub"
        )


def add(commands: Any) -> None:
    """Add the command to the others."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "push",
        help="upload an export to the Hugging Face Hub",
        description="Uploads what `run` has made, after comparing every file with its checksum.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_push)
    parser.add_argument("export", nargs="?", type=Path, help="the folder that `run` has made")
    parser.add_argument("--repo", metavar="OWNER/NAME")
    parser.add_argument("--branch", help="made where it is not there")
    privacy = parser.add_mutually_exclusive_group()
    privacy.add_argument("--private", action="store_true", default=None, dest="private")
    privacy.add_argument("--public", action="store_false", default=None, dest="private")
    parser.add_argument(
        "--no-create", action="store_false", default=None, dest="create", help="make nothing new"
    )
    parser.add_argument("--message", help="of the commit")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--dry-run", action="store_true", help="list what would go; ask nobody")
    only.add_argument("--check", action="store_true", help="ask the Hub whether it could; no more")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--token", action=_NoToken, nargs="?", help=argparse.SUPPRESS)


def _push(options: argparse.Namespace) -> int:
    names = ("repo", "branch", "private", "create", "message")
    wanted = destination({name: getattr(options, name) for name in names})
    if options.export is None and not options.check:
        raise QuantizationError("Name the export to push.", ExitCode.USAGE)
    packed = parcel(options.export) if options.export is not None else None
    said: dict[str, Any] = {"repo": wanted.repo, "branch": wanted.branch}
    lines = []
    if packed is not None:
        said |= {"files": dict(packed.files), "bytes": packed.size, "left_out": packed.left_out}
        lines = _listed(packed, wanted) if options.dry_run else []
    if options.dry_run:
        said |= {"private": wanted.private}
    elif options.check:
        access = check(_api(), wanted)
        said |= {"user": access.user, "exists": access.exists, "private": access.private}
        lines.append(_accessed(access, wanted))
    elif packed is not None:
        done = push(_api(), packed, wanted)
        said |= {"url": done.url, "commit": done.commit, "others": done.others}
        lines.append(f"{len(packed.files)} files, {packed.size / 1e6:,.1f} MB: {done.url}")
        if done.others:
            lines.append(f"  there before, and left: {', '.join(done.others)}")
    sys.stdout.write((json.dumps(said, indent=2) if options.json else "\n".join(lines)) + "\n")
    return int(ExitCode.DONE)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=token())


def _listed(packed: Parcel, wanted: Destination) -> list[str]:
    width = max(map(len, packed.files))
    files = [f"  {name:<{width}}  {size:>15,}" for name, size in packed.files.items()]
    privacy = "private" if wanted.private else "public"
    lines = [
        f'Would go to "{wanted.repo}" ({privacy} if it is made), branch {wanted.branch}:',
        *files,
        f"  {'in all':<{width}}  {packed.size:>15,}",
    ]
    if packed.left_out:
        lines.append(f"Would stay, not being part of the export: {', '.join(packed.left_out)}")
    return lines


def _accessed(access: Access, wanted: Destination) -> str:
    if not access.exists:
        how = "private" if wanted.private else "public"
        return f'{access.user} may push: "{wanted.repo}" would be made, {how}.'
    how = "private" if access.private else "public"
    return f'{access.user} may push to "{wanted.repo}", which is {how}.'
