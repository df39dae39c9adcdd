"""The folder that an image is built from: a Bento, its models and a wheel that is not on an index.

`bentoml containerize` copies the weights into such a folder; here they are linked to, and what lies
in it keeps its times, so that a builder knows unchanged layers again.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

_READABLE_BY_ALL = 0o444
_EPOCH = 315532800  # 1980-01-01; what has no time of its own in the store


def make_context(bento: Path, models: Mapping[str, Path], wheels: list[Path], target: Path) -> None:
    """Fill `target`. `models` maps NAME:VERSION to the folder in the store."""
    shutil.copytree(bento, target, dirs_exist_ok=True)
    place = target / "models"
    place.mkdir(exist_ok=True)
    for tag, folder in sorted(models.items()):
        _link_tree(folder, place.joinpath(*tag.split(":")))
    for path in (*place.iterdir(), place):
        os.utime(path, (_EPOCH, _EPOCH))
    brought = target / "env" / "python" / "wheels"
    brought.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        _link(wheel, brought / wheel.name)
    _open_to_all(target)


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link)


def _link(source: str | Path, target: str | Path) -> None:
    """A hard link; a copy where there can be none, or where others could not read it."""
    source, target = Path(source), Path(target)
    mode = source.stat().st_mode
    if mode & _READABLE_BY_ALL == _READABLE_BY_ALL:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            pass  # another disk
    shutil.copy2(source, target)
    target.chmod(mode | _READABLE_BY_ALL)


def _open_to_all(folder: Path) -> None:
    """Let every user read, whatever the store allows: who serves may be any of them."""
    for path in (path for path in folder.rglob("*") if not path.is_symlink()):
        mode = path.stat().st_mode
        wanted = mode | (0o555 if path.is_dir() or mode & 0o100 else _READABLE_BY_ALL)
        if mode != wanted:
            path.chmod(wanted)


def torch_wheels(requirements: Path, places: list[Path]) -> list[Path]:
    """The wheels of the PyTorch build that the lock pins, where it is one that no index has."""
    pin = re.search(r"^torch==(\S+\+cpu)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    if pin is None:
        return []
    return [wheel for place in places for wheel in _matching(place, pin[1])]


def _matching(place: Path, version: str) -> Iterator[Path]:
    for wheel in sorted(place.glob("torch-*.whl")):
        if wheel.name.replace("%2B", "+").split("-")[1] == version:
            yield wheel
