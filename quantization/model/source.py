"""Where a model's files are: a folder, the local cache of the Hugging Face Hub, or the Hub.

Of a model on the Hub only its small files are fetched, and the headers of its weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from quantization.errors import ExitCode, QuantizationError
from quantization.model.tensors import Tensor, corrupt, cut_off, read_header

_HUB_ID: Final = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
_MOST_SMALL: Final = 64 << 20  # bytes; a config.json larger than this is no config


class Source(Protocol):
    """The files of one model."""

    name: str
    place: str  # "folder", "Hub cache" or "Hub"
    revision: str | None  # the commit, where there is one

    def files(self) -> Mapping[str, int]:
        """Names of all files, with their sizes in bytes."""

    def text(self, name: str) -> str:
        """A small file. Raises QuantizationError where it cannot be read."""

    def header(self, name: str) -> list[Tensor]:
        """The tensors of a safetensors file, checked against the file's size."""


def read_json(source: Source, name: str) -> dict[str, Any]:
    """A JSON object of the model's.

    Raises:
        QuantizationError: it cannot be read, or is none.
    """
    try:
        found = json.loads(source.text(name))
    except ValueError as error:
        raise QuantizationError(
            f'The {name} of "{source.name}" is not JSON ({error}): fetch the model again.',
            ExitCode.DAMAGED,
        ) from error
    if not isinstance(found, dict):
        raise QuantizationError(
            f'The {name} of "{source.name}" is not a JSON object: fetch the model again.',
            ExitCode.DAMAGED,
        )
    return found


def find(model: str, revision: str | None = None) -> Source:
    """The source of a folder or a Hub id.

    Args:
        revision: a branch, tag or commit; only for a Hub id.

    Raises:
        QuantizationError: there is none, or it cannot be reached.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return Folder(model, path)
    if path.is_file():
        raise QuantizationError(
            f'"{model}" is a file: give the folder that holds the config.json and the weights.',
            ExitCode.NOT_FOUND,
        )
    if model.startswith(("/", "./", "../", "~")) or not _HUB_ID.fullmatch(model):
        raise QuantizationError(
            f'There is no folder "{model}": give one that holds a config.json, or a Hub id such as '
            "org/name.",
            ExitCode.NOT_FOUND,
        )
    return _on_hub(model, revision)


@dataclass
class Folder:
    """A folder on this machine."""

    name: str
    path: Path
    place: str = "folder"
    revision: str | None = None

    def files(self) -> Mapping[str, int]:
        """Files of the folder itself; those of subfolders are not the model's."""
        found = {}
        for path in sorted(self.path.iterdir()):
            with suppress(OSError):  # a link to nowhere is as good as no file
                if path.is_file():
                    found[path.name] = path.stat().st_size
        return found

    def text(self, name: str) -> str:
        try:
            if (self.path / name).stat().st_size > _MOST_SMALL:
                raise ValueError("it is far too large")
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise QuantizationError(
                f'The {name} of "{self.name}" cannot be read ({reason}).', ExitCode.DAMAGED
            ) from error

    def header(self, name: str) -> list[Tensor]:
        return read_header(self.path / name, self.name)


@dataclass
class Hub:
    """A repository on the Hub, read over the network."""

    name: str
    revision: str | None
    sizes: Mapping[str, int]
    place: str = "Hub"
    _texts: dict[str, str] = field(default_factory=dict)

    def files(self) -> Mapping[str, int]:
        return self.sizes

    def text(self, name: str) -> str:
        from huggingface_hub import hf_hub_download

        if name not in self._texts:
            try:
                path = hf_hub_download(self.name, name, revision=self.revision)
                self._texts[name] = Path(path).read_text(encoding="utf-8")
            except Exception as error:  # noqa: BLE001 - told apart below
                refuse(self.name, error)
        return self._texts[name]

    def header(self, name: str) -> list[Tensor]:
        """One or two range requests, for the header alone."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import SafetensorsParsingError

        try:
            found = HfApi().parse_safetensors_file_metadata(self.name, name, revision=self.revision)
        except SafetensorsParsingError as error:
            raise corrupt(name, self.name, "its header is not readable") from error
        except Exception as error:  # noqa: BLE001 - told apart below
            refuse(self.name, error)
        due = max((one.data_offsets[1] for one in found.tensors.values()), default=0)
        if self.sizes.get(name, due) < due:
            raise cut_off(name, self.name, f"{self.sizes[name]:,} of {due:,} bytes are there")
        return [
            Tensor(key, one.dtype, tuple(one.shape), int(one.data_offsets[1] - one.data_offsets[0]))
            for key, one in found.tensors.items()
        ]


def _on_hub(model: str, revision: str | None) -> Source:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        cached = _cached(model, revision)
        if cached is not None:
            return cached
        raise QuantizationError(
            f'"{model}" is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it: unset '
            "it, or give a folder.",
            ExitCode.UNREACHABLE,
        )
    try:
        info = HfApi().model_info(model, revision=revision, files_metadata=True, timeout=20)
    except Exception as error:  # noqa: BLE001 - told apart below
        cached = _cached(model, revision) if exit_code(error) is ExitCode.UNREACHABLE else None
        if cached is not None:
            return cached
        refuse(model, error)
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    return Hub(model, info.sha, sizes)


def _cached(model: str, revision: str | None) -> Folder | None:
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(model, revision=revision, local_files_only=True))
    except Exception:  # noqa: BLE001 - not there, which is no fault
        return None
    return Folder(model, path, place="Hub cache", revision=path.name)


def exit_code(error: Exception) -> ExitCode:
    """The kind of whatever the Hub's client raised."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return ExitCode.NO_ACCESS
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ExitCode.UNREACHABLE
    missing = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    )
    if isinstance(error, missing):
        return ExitCode.NOT_FOUND
    return ExitCode.NO_ACCESS if status in (401, 403) else ExitCode.UNREACHABLE


def refuse(model: str, error: Exception) -> NoReturn:
    """One sentence for whatever the Hub's client raised."""
    from huggingface_hub import errors, get_token

    code = exit_code(error)
    token = get_token() is not None
    if isinstance(error, errors.GatedRepoError):
        said = f'"{model}" is gated: ask for access on its page, and set HF_TOKEN to your token.'
    elif isinstance(error, errors.RevisionNotFoundError):
        said = f'"{model}" has no such revision: see the branches and tags on its page.'
    elif isinstance(error, errors.RepositoryNotFoundError):
        # The Hub answers the same for what does not exist and for what must not be seen.
        said = f'There is no model "{model}" on the Hub, or it is private: ' + (
            "check the name, and whether the token in HF_TOKEN may read it."
            if token
            else "check the name, or set HF_TOKEN to a token that may read it."
        )
    elif code is ExitCode.NO_ACCESS:
        said = (
            f'The Hub refused the token for "{model}": make a valid one, and set HF_TOKEN to it.'
            if token
            else f'The Hub does not let you read "{model}": set HF_TOKEN to a token that may.'
        )
    elif code is ExitCode.NOT_FOUND:
        said = f'"{model}" is no model that the Hub has ({_line(error)}): check its name.'
    else:
        said = (
            f'"{model}" cannot be read: the Hub does not answer ({_line(error)}); check the '
            "network, or give a folder."
        )
    raise QuantizationError(said, code) from error


def _line(error: Exception) -> str:
    text = str(error).strip()
    line = text.splitlines()[0].rstrip(".:") if text else type(error).__name__
    return line if len(line) <= 120 else line[:117] + "..."
