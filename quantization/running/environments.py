"""The quantizers' Python environments: each of its own lock, made when it is first needed.

Their pins contradict the server's and each other's. An environment is named by what it is made of
(lock, Python, build of torch), made under another name and renamed when it is whole, so that a name
that is there is an environment that works; finding that out takes milliseconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantization.errors import ExitCode, QuantizationError
from quantization.home import REQUIREMENTS, Home
from quantization.planning.methods import Backend
from quantization.running.installing import Installer, installer

Say = Callable[[str], None]

_STAMP: Final = "environment.json"
# Bytes that an environment takes while it is made, with the downloads that the installer keeps.
_ROOM: Final = {False: 3 << 30, True: 14 << 30}
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(\s*;\s*python_version == \"(\S+)\")?$")


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that works; `packages` are its pins, by name."""

    backend: Backend
    folder: Path
    packages: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def tool(self) -> str:
        """The quantizer with its version, as pip writes it."""
        return f"{self.backend}=={self.packages[self.backend]}"


def ensure(backend: Backend, home: Home, *, cuda: bool, say: Say) -> Environment:
    """The environment of a backend; made first where it is not there.

    Args:
        cuda: with the CUDA build of torch, else the one for CPUs.
        say: told what is done, where that takes long.

    Raises:
        QuantizationError: it cannot be made; the message says why.
    """
    environment = _of(backend, home, cuda=cuda)
    if is_whole(environment):
        return environment
    try:
        home.environments.mkdir(parents=True, exist_ok=True)
        with _alone(home.environments / f".{environment.folder.name}.lock", say):
            if not is_whole(environment):
                _make(environment, cuda=cuda, say=say)
    except OSError as error:
        raise QuantizationError(
            f"The environment of {backend} cannot be made in {home.environments} "
            f"({error.strerror}): make room there, or name another folder in YAP_QUANTIZATION_DIR.",
            ExitCode.NO_ROOM,
        ) from error
    return environment


def is_there(backend: Backend, home: Home, *, cuda: bool) -> bool:
    """Whether nothing would have to be made."""
    return is_whole(_of(backend, home, cuda=cuda))


def _of(backend: Backend, home: Home, *, cuda: bool) -> Environment:
    """The environment as it is to be; it need not be there."""
    wanted = pins(backend, cuda=cuda)
    name = f"{backend}-{'cuda' if cuda else 'cpu'}-{key(wanted)}"
    return Environment(backend, home.environments / name, wanted)


def pins(backend: Backend, *, cuda: bool) -> dict[str, str]:
    """The packages of an environment, name -> version, for this Python."""
    found = _read_pins(REQUIREMENTS / f"quantize-{backend}.txt")
    if cuda:
        closure = _read_pins(REQUIREMENTS / "quantize-cuda.txt")
        found = {**closure, **found, "torch": closure["torch"]}
    return found


def key(packages: dict[str, str]) -> str:
    """What an environment of these packages is called: 12 hex digits."""
    content = json.dumps([sys.version_info[:3], sys.platform, sorted(packages.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def is_whole(environment: Environment) -> bool:
    """Whether it is there: its stamp is written before it gets its name."""
    try:
        stamp = json.loads((environment.folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp == environment.packages and environment.python.exists()


def _make(environment: Environment, *, cuda: bool, say: Say) -> None:
    folder = environment.folder
    free = shutil.disk_usage(folder.parent).free
    if free < _ROOM[cuda]:
        raise QuantizationError(
            f"The environment of {environment.backend} needs {_ROOM[cuda] >> 30} GiB of disk at "
            f"{folder.parent}, and {free / (1 << 30):.1f} GiB are free: make room, or name another "
            "folder in YAP_QUANTIZATION_DIR.",
            ExitCode.NO_ROOM,
        )
    say(
        f"Making the environment of {environment.tool} ({len(environment.packages)} packages, "
        f"{'CUDA' if cuda else 'CPU'}); this is done once."
    )
    making = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # without its stamp it is not whole
    try:
        _fill(installer(folder.with_name(f"{folder.name}.log")), making, environment, cuda=cuda)
        (making / _STAMP).write_text(json.dumps(environment.packages), encoding="utf-8")
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _fill(install: Installer, making: Path, environment: Environment, *, cuda: bool) -> None:
    install.environment(making)
    packages = dict(environment.packages)
    if not cuda:  # its version exists in few places: first, and by itself
        install.cpu_torch(making, packages.pop("torch"))
    listed = making / "requirements.txt"
    listed.write_text("".join(f"{n}=={v}\n" for n, v in packages.items()), encoding="utf-8")
    install.packages(making, listed, from_source=("autoawq",))


@contextmanager
def _alone(path: Path, say: Say) -> Iterator[None]:
    """One maker at a time; the others wait and then find it made."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another run makes this environment; waiting for it.")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _read_pins(path: Path) -> dict[str, str]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        matched = _PIN.match(line.strip())
        if matched and matched[4] in (None, python):
            found[matched[1]] = matched[2]
    return found
