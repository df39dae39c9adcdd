"""An export to the Hugging Face Hub: exactly the files that this pipeline has made, and no others.

The token comes from the environment (HF_TOKEN, or what `hf auth login` has stored), never from the
command line, and no message holds it. Everything that can be wrong is looked for before the first
byte is sent; what was sent stays on the Hub, and the same push again goes on where it broke off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quantization.errors import ExitCode, QuantizationError, refusal
from quantization.export.metadata import CARD, NAME, Metadata, check_files, read_metadata
from quantization.publishing.hub_errors import on_hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKENS: Final = ("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN")
MAIN: Final = "main"
_REPO: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_BRANCH: Final = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[\w][\w./-]{0,127}(?<![./])")
_FLAGS: Final = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)
_PLACEHOLDER: Final = "your-org/"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an export goes; `message` is empty for one that says what it is."""

    repo: str
    branch: str = MAIN
    private: bool = True
    create: bool = True
    message: str = ""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What would go: name -> bytes, and what lies beside it and stays."""

    folder: Path
    metadata: Metadata
    files: Mapping[str, int]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.files.values())


@dataclass(frozen=True, slots=True)
class Access:
    """What the Hub said before anything was sent."""

    user: str
    exists: bool
    private: bool | None  # None: there is no repository yet
    branch_exists: bool


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is on the Hub now. `others` are files of the branch that were there before and stay."""

    url: str
    commit: str
    others: tuple[str, ...]


def destination(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Destination:
    """Where to push, from the options, else from the HF_AWQ_ variables.

    Args:
        given: fields of `Destination`; None where the option was not given.

    Raises:
        QuantizationError: no repository is named, or a value cannot be.
    """
    found: dict[str, Any] = {
        "repo": environ.get("HF_AWQ_CHAT_REPO", "").strip(),
        "branch": environ.get("HF_AWQ_BRANCH", "").strip() or MAIN,
        "private": _flag(environ, "HF_AWQ_PRIVATE"),
        "create": _flag(environ, "HF_AWQ_ALLOW_CREATE"),
        "message": environ.get("HF_AWQ_COMMIT_MSG_CHAT", "").strip(),
    } | {name: value for name, value in given.items() if value is not None}
    wanted = Destination(**found)
    if not wanted.repo or wanted.repo.startswith(_PLACEHOLDER):
        raise QuantizationError(
            "Say where to push: set HF_AWQ_CHAT_REPO to OWNER/NAME, or give --repo.", ExitCode.USAGE
        )
    if not _REPO.fullmatch(wanted.repo):
        raise QuantizationError(
            f'"{wanted.repo}" is no repository: write it as OWNER/NAME.', ExitCode.USAGE
        )
    if not _BRANCH.fullmatch(wanted.branch):
        raise QuantizationError(f'"{wanted.branch}" is no name of a branch.', ExitCode.USAGE)
    return wanted


def parcel(folder: Path) -> Parcel:
    """What a push of this folder sends. Every file is read and compared with its checksum.

    Raises:
        QuantizationError: it is no export of this pipeline, or not as it was made.
    """
    metadata = read_metadata(folder)
    foreign = [name for name in metadata.files if Path(name).name != name or name.startswith(".")]
    if foreign or not any(name.endswith(".safetensors") for name in metadata.files):
        raise refusal(f"{folder / NAME} names no weights of its own: this project made no such.")
    names = [*metadata.files, NAME, *([CARD] if (folder / CARD).exists() else [])]
    linked = [name for name in names if (folder / name).is_symlink()]
    if linked:
        raise refusal(f"{linked[0]} in {folder} is a link, which this project never makes.")
    check_files(folder, metadata, deep=True)
    sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
    beside = {path.name for path in folder.iterdir()} - sizes.keys()
    return Parcel(folder, metadata, sizes, tuple(sorted(beside)))


def token(environ: Mapping[str, str] = os.environ) -> str:
    """The token to push with.

    Raises:
        QuantizationError: there is none.
    """
    from huggingface_hub import get_token

    given = (environ.get(name, "").strip() for name in TOKENS)
    found = next(filter(None, given), None) or get_token()
    if not found:
        raise QuantizationError(
            "Set HF_TOKEN to a token of yours that may write.", ExitCode.NO_ACCESS
        )
    return found


def check(api: HfApi, wanted: Destination) -> Access:
    """Whether a push there could succeed. Changes nothing.

    Raises:
        QuantizationError: it could not; the message says what to do.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    with on_hub(wanted.repo, api.token):
        who = api.whoami()
    _refuse_reader(who)
    try:
        with on_hub(wanted.repo, api.token, passed=RepositoryNotFoundError):
            info = api.model_info(wanted.repo)
            refs = api.list_repo_refs(wanted.repo)
    except RepositoryNotFoundError:
        if not wanted.create:
            raise QuantizationError(
                f'There is no repository "{wanted.repo}" that this token may see: make it, or let '
                "it be made with HF_AWQ_ALLOW_CREATE=1.",
                ExitCode.NOT_FOUND,
            ) from None
        return Access(who["name"], exists=False, private=None, branch_exists=False)
    _refuse_public(wanted, private=bool(info.private))
    there = wanted.branch in {branch.name for branch in refs.branches}
    if not there and not wanted.create:
        raise QuantizationError(
            f'"{wanted.repo}" has no branch "{wanted.branch}": make it, or let it be made with '
            "HF_AWQ_ALLOW_CREATE=1.",
            ExitCode.NOT_FOUND,
        )
    return Access(who["name"], exists=True, private=info.private, branch_exists=there)


def push(api: HfApi, parcel: Parcel, wanted: Destination) -> Pushed:
    """Send it, and look whether it has arrived.

    Raises:
        QuantizationError: it was not sent, or not all of it arrived.
    """
    access = check(api, wanted)
    with on_hub(wanted.repo, api.token, sending=True):
        if not access.exists:
            api.create_repo(wanted.repo, private=wanted.private, exist_ok=True)
            # Somebody else may have made it meanwhile, and then it is as they wanted it.
            _refuse_public(wanted, private=bool(api.model_info(wanted.repo).private))
        if not access.branch_exists and wanted.branch != MAIN:
            api.create_branch(wanted.repo, branch=wanted.branch, exist_ok=True)
        commit = api.upload_folder(
            repo_id=wanted.repo,
            folder_path=parcel.folder,
            revision=wanted.branch,
            commit_message=wanted.message or _message(parcel.metadata),
            allow_patterns=[_literally(name) for name in parcel.files],
        )
        info = api.model_info(wanted.repo, revision=wanted.branch, files_metadata=True)
    there = {file.rfilename: file for file in info.siblings or ()}
    for name, size in parcel.files.items():
        if name not in there or there[name].size != size:
            raise QuantizationError(
                f'{name} did not arrive whole at "{wanted.repo}": push again.', ExitCode.UNREACHABLE
            )
    others = there.keys() - parcel.files.keys() - {".gitattributes"}
    return Pushed(str(commit.commit_url), str(info.sha), tuple(sorted(others)))


def _message(metadata: Metadata) -> str:
    return f"{metadata.source_model} in {metadata.recipe.get('method', 'quantized form')}"


def _literally(name: str) -> str:
    """A pattern that matches this name alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _flag(environ: Mapping[str, str], name: str) -> bool:
    said = environ.get(name, "").strip().lower()
    if not said:
        return True
    if said not in _FLAGS:
        raise QuantizationError(f'{name}="{environ[name]}" must be 1 or 0.', ExitCode.USAGE)
    return _FLAGS[said]


def _refuse_reader(who: Mapping[str, Any]) -> None:
    """A token that may only read is told apart before anything is sent."""
    access = (who.get("auth") or {}).get("accessToken") or {}
    if access.get("role") == "read":
        raise QuantizationError(
            "The token in HF_TOKEN may only read: make one that may write.", ExitCode.NO_ACCESS
        )


def _refuse_public(wanted: Destination, *, private: bool) -> None:
    if wanted.private and not private:
        raise refusal(
            f'"{wanted.repo}" is public, and the upload is to be private: make the repository '
            "private, name another, or say HF_AWQ_PRIVATE=0."
        )
