"""Rows of a data set on the Hugging Face Hub: which files they are in, and fetching those.

Files come through huggingface_hub into its cache, at one commit, one after another and only as far
as rows are wanted; no code of a data set runs. Which files a config and a split mean is looked up

1. in the card: `configs`, with `data_files` or `data_dir`, as the Hub defines them;
2. in the names of the files: a folder or a part of the name that is the config, and the split;
3. where there are none that can be read (a data set that is a script), in the Parquet copy that the
   Hub makes of every public data set, on its branch refs/convert/parquet.

Without a split it is `train`, or the only one; without a config the default, or the only one.
"""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from quantization.calibration import files
from quantization.calibration.files import Row
from quantization.calibration.registry import HubData
from quantization.errors import ExitCode, QuantizationError
from quantization.model.source import exit_code

_CONVERTED: Final = "refs/convert/parquet"
_TIMEOUT_S: Final = 20
_SPLITS: Final = ("train", "test", "validation", "valid", "val", "dev", "eval")
_AWAY: Final = "check the network, name a file with --dataset, or take the bundled texts: --offline"


@dataclass(frozen=True, slots=True)
class Found:
    """Files of one config and split, in order, at one commit."""

    id: str
    commit: str
    config: str | None
    split: str | None
    files: tuple[str, ...]
    licence: str | None

    def rows(self) -> Iterator[Row]:
        """The rows, each file fetched when it is come to.

        Raises:
            QuantizationError: one cannot be fetched or read.
        """
        for name in self.files:
            path = _download(self.id, name, self.commit)
            yield from files.rows(path, f"{self.id}/{name}")


def head(data: HubData) -> str:
    """The commit that a data set is at; that of the local cache where HF_HUB_OFFLINE is set.

    Raises:
        QuantizationError: the Hub does not say.
    """
    return _listed(data.id, data.revision)[0]


def find(data: HubData, commit: str | None = None) -> Found:
    """The files that hold a config and a split.

    Args:
        commit: as `head` told; None for the present one.

    Raises:
        QuantizationError: there are none, or the Hub does not say.
    """
    commit, names = _listed(data.id, commit or data.revision)
    card = _card(data.id, commit) if "README.md" in names else {}
    licence = _licence(card) or data.licence
    if data.files is not None:
        chosen = [name for name in names if any(fnmatch.fnmatch(name, p) for p in data.files)]
        if not chosen:
            raise _nothing(data, f"it no longer holds {', '.join(data.files)}")
        return Found(data.id, commit, data.config, data.split, tuple(chosen), licence)
    config, split, chosen = by_card(data, card, names) or by_names(data, names)
    if not chosen:
        try:
            commit, names = _listed(data.id, _CONVERTED)
        except QuantizationError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            names = []
        config, split, chosen = by_names(data, names)
    if not chosen:
        raise _nothing(data, f"it holds no {', '.join(files.SUFFIXES[:4])}")
    return Found(data.id, commit, config, split, tuple(chosen), licence)


Chosen = tuple[str | None, str | None, list[str]]


def by_card(data: HubData, card: Mapping[str, Any], names: Sequence[str]) -> Chosen | None:
    """Config, split and files as the card has them; None where it says nothing about files.

    Raises:
        QuantizationError: it has no such config or split.
    """
    configs = {
        str(one["config_name"]): one
        for one in _list(card.get("configs"))
        if isinstance(one, dict) and "config_name" in one
    }
    if not configs:
        return None
    flagged = next((name for name, one in configs.items() if one.get("default") is True), "default")
    config = _one_of(data, "config", data.config, list(configs), flagged)
    said = configs[config]
    if "data_files" not in said:
        folder = str(said.get("data_dir") or ".").strip("/") + "/"
        inside = [name for name in names if folder == "./" or name.startswith(folder)]
        _, split, chosen = by_names(HubData(data.id, split=data.split), inside)
        return config, split, chosen
    patterns = _patterns(said["data_files"])
    split = _one_of(data, "split", data.split, list(patterns), "train")
    wanted = patterns[split]
    return config, split, [n for n in names if any(_matches(n, one) for one in wanted)]


def by_names(data: HubData, names: Sequence[str]) -> Chosen:
    """Config, split and files by how the files are named.

    Raises:
        QuantizationError: there are files, and none of them of this config or split.
    """
    readable = [
        name
        for name in sorted(names)
        if files.kind(name) not in (None, ".md") and "dataset_infos" not in name
    ]
    if data.config is not None and readable:
        inside = [name for name in readable if data.config in re.split(r"[/._]", name)]
        inside = inside or [name for name in readable if name.startswith(f"{data.config}/")]
        if not inside:
            folders = sorted({name.split("/")[0] for name in readable if "/" in name})
            raise _nothing(data, f"there is no config {data.config}", folders)
        readable = inside
    by_split: dict[str, list[str]] = {}
    for name in readable:
        by_split.setdefault(_split_of(name, data.split), []).append(name)
    if not by_split:
        return data.config, data.split, []
    if not data.split and list(by_split) == [""]:
        return data.config, None, by_split[""]
    by_split.pop("", None)
    split = _one_of(data, "split", data.split, list(by_split), "train")
    chosen = by_split[split]
    folders = sorted({name.split("/")[0] for name in chosen if "/" in name})
    if data.config is None and len(folders) > 1:
        # Several configs side by side: one that is called default, or else somebody must say.
        config = _one_of(data, "config", None, folders, "default")
        return config, split, [name for name in chosen if name.startswith(f"{config}/")]
    return data.config, split, chosen


def _split_of(name: str, wanted: str | None) -> str:
    """The split that a file's name tells of; empty where it tells none."""
    for split in (wanted, *_SPLITS):
        if split and re.search(rf"(^|[/._-]){re.escape(split)}($|[/._-])", name):
            return split
    return ""


def _one_of(data: HubData, what: str, asked: str | None, there: Sequence[str], usual: str) -> str:
    if asked is not None:
        if asked not in there:
            raise _nothing(data, f"there is no {what} {asked}", there)
        return asked
    if usual in there:
        return usual
    if len(there) == 1:
        return there[0]
    raise _nothing(data, f"it has several {what}s, and none is named", there)


def _nothing(data: HubData, why: str, there: Sequence[str] = ()) -> QuantizationError:
    choice = f"; there are {', '.join(there[:12])}" if there else ""
    return QuantizationError(
        f'The calibration data "{data}" cannot be taken: {why}{choice}. Write it as '
        "org/name:config:split.",
        ExitCode.NOT_FOUND,
    )


def _patterns(said: Any) -> dict[str, list[str]]:
    """Patterns of paths for each split, from whatever form `data_files` has."""
    if isinstance(said, list) and all(isinstance(one, dict) for one in said):
        return {str(one.get("split", "train")): _list(one.get("path")) for one in said}
    if isinstance(said, dict):
        return {str(split): _list(paths) for split, paths in said.items()}
    return {"train": _list(said)}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _matches(name: str, pattern: Any) -> bool:
    wanted = str(pattern).removeprefix("./")
    # "**/" is any number of folders, none among them.
    return fnmatch.fnmatch(name, wanted) or fnmatch.fnmatch(name, wanted.replace("**/", ""))


def _licence(card: Mapping[str, Any]) -> str | None:
    said = [str(one) for one in _list(card.get("license")) if one]
    return ", ".join(said) or None


# --- the Hub's client -------------------------------------------------------------------------


def _listed(name: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit and the files of a revision."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _cached(name, revision)
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - told apart below
        _refuse(name, error)
    return str(info.sha), [file.rfilename for file in info.siblings or ()]


def _cached(name: str, revision: str | None) -> tuple[str, list[str]]:
    from huggingface_hub import snapshot_download

    try:
        path = Path(
            snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
        )
    except Exception as error:
        raise QuantizationError(
            f'The calibration data "{name}" is not in the local cache, and HF_HUB_OFFLINE forbids '
            "to fetch it: unset it, name a file with --dataset, or take the bundled texts: "
            "--offline.",
            ExitCode.UNREACHABLE,
        ) from error
    found = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return path.name, sorted(found)


def _card(name: str, commit: str) -> dict[str, Any]:
    """The front matter of the data set's README; empty where there is none that can be read."""
    import yaml

    text = _download(name, "README.md", commit).read_text(encoding="utf-8", errors="replace")
    front = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        found = yaml.safe_load(front[1]) if front else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _download(name: str, file: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=commit))
    except Exception as error:  # noqa: BLE001 - told apart below
        _refuse(name, error)


def _refuse(name: str, error: Exception) -> NoReturn:
    """One sentence for whatever the Hub's client raised."""
    from huggingface_hub import errors

    code = exit_code(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        code, said = ExitCode.UNREACHABLE, "the disk is full; make room, or set HF_HOME elsewhere"
    elif "onsistency check failed" in str(error):
        code, said = ExitCode.DAMAGED, "a file came incomplete; run the command again"
    elif isinstance(error, errors.GatedRepoError):
        said = "it is gated; ask for access on its page, and set HF_TOKEN to your token"
    elif isinstance(error, errors.RevisionNotFoundError):
        said = "it has no such revision; see the branches and tags on its page"
    elif code is ExitCode.NOT_FOUND:
        said = "the Hub has no such data set, or it is private; check the name, and HF_TOKEN"
    elif code is ExitCode.NO_ACCESS:
        said = "the Hub refused the token; set HF_TOKEN to one that may read it"
    else:
        said = f"the Hub does not answer ({_line(error)}); {_AWAY}"
    sentence = f'The calibration data "{name}" cannot be fetched: {said}.'
    raise QuantizationError(sentence, code) from error


def _line(error: Exception) -> str:
    text = str(error).strip()
    line = text.splitlines()[0].rstrip(".:") if text else type(error).__name__
    return line if len(line) <= 120 else line[:117] + "..."
