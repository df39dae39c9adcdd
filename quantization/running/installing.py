"""Fills a Python environment from pins, with uv where there is one and with pip otherwise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quantization.errors import ExitCode, QuantizationError
from quantization.home import ROOT

_PIP_SETTINGS: Final = ROOT / "scripts" / "lib" / "pip_settings.py"
# pip's settings that uv does not read by itself, and its own names for them.
_FOR_UV: Final = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
}
_PIP: Final = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
_PIP_LIMITS: Final = ("--timeout", "15", "--retries", "1")
_UNREACHABLE: Final = re.compile(
    r"dns error|resolve host|name resolution|name or service|connect|timed out|proxy|unreachable|"
    r"failed to fetch|network",
    re.IGNORECASE,
)
_TAIL: Final = 8000  # characters of the log that tell why


class _Failed(Exception):
    """A command of an installer failed; the log says why."""


@dataclass(frozen=True, slots=True)
class Installer:
    """Runs uv or pip, with all that they print in `log`. `uv` is None where pip is used."""

    log: Path
    uv: str | None
    environ: dict[str, str] = field(default_factory=dict)
    find_links: str = ""

    def environment(self, folder: Path) -> None:
        """An empty environment of this Python."""
        if self.uv:
            command = [self.uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        else:
            command = [sys.executable, "-m", "venv", str(folder)]
        try:
            self._run(command)
        except _Failed:
            raise self._error("its virtual environment") from None

    def cpu_torch(self, folder: Path, version: str) -> None:
        """torch for CPUs: from where pip is told to look, else from PyTorch's own index."""
        wanted = f"torch=={version}"
        try:
            self._install(folder, "--only-binary", "torch", wanted, find_links=True)
        except _Failed:
            self._cpu_torch_of_index(folder, wanted)

    def _cpu_torch_of_index(self, folder: Path, wanted: str) -> None:
        try:
            if not self.uv:
                raise _Failed
            self._install(folder, "--only-binary", "torch", "--torch-backend", "cpu", wanted)
        except _Failed:
            raise QuantizationError(
                f"PyTorch's CPU build ({wanted}) was found neither where pip looks nor on "
                "PyTorch's CPU index: connect to it, or put the wheel in a folder and name the "
                f"folder in PIP_FIND_LINKS (details: {self.log}).",
                self._code(),
            ) from None

    def packages(self, folder: Path, listed: Path, *, from_source: tuple[str, ...]) -> None:
        """Exactly the packages of a file of pins.

        Args:
            from_source: those that are published without wheels.
        """
        arguments = ["--only-binary", ":all:"]
        for name in from_source:
            arguments += ["--no-binary", name]
        try:
            self._install(folder, *arguments, "-r", str(listed))
        except _Failed:
            raise self._error("its packages") from None

    def _install(self, folder: Path, *arguments: str, find_links: bool = False) -> None:
        python = str(folder / "bin" / "python")
        environ = {}
        if self.uv:
            command = [self.uv, "pip", "install", "--quiet", "--python", python, "--no-deps"]
            environ = {"UV_FIND_LINKS": self.find_links} if find_links and self.find_links else {}
        else:
            command = [python, *_PIP, *_PIP_LIMITS, "--no-deps"]
        self._run([*command, *arguments], environ)

    def _run(self, command: list[str], environ: dict[str, str] | None = None) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            result = subprocess.run(
                command,
                env={**os.environ, **self.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        if result.returncode:
            raise _Failed

    def _error(self, what: str) -> QuantizationError:
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        if re.search("no space left", tail, re.IGNORECASE):
            reason = "the disk is full; make room, and run it again"
        elif re.search("certificate", tail, re.IGNORECASE):
            reason = (
                "the package index has a certificate that is not trusted here; name your CA file "
                "in PIP_CERT and SSL_CERT_FILE"
            )
        elif _UNREACHABLE.search(tail):
            reason = "the package index cannot be reached; check network and proxy, and try again"
        else:
            reason = "the log says why"
        return QuantizationError(
            f"The quantizer's environment cannot be made: {what} failed, for {reason} "
            f"({self.log}).",
            self._code(),
        )

    def _code(self) -> ExitCode:
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        if re.search("no space left", tail, re.IGNORECASE):
            return ExitCode.NO_ROOM
        return ExitCode.UNREACHABLE if _UNREACHABLE.search(tail) else ExitCode.FAILED


def installer(log: Path) -> Installer:
    """The installer of this machine; YAP_INSTALLER=pip forbids uv."""
    log.write_text("", encoding="utf-8")
    uv = None if os.environ.get("YAP_INSTALLER") == "pip" else _find_uv()
    if uv is None:
        return Installer(log, None)
    environ = {
        "UV_HTTP_TIMEOUT": os.environ.get("UV_HTTP_TIMEOUT", "20"),
        "UV_HTTP_RETRIES": os.environ.get("UV_HTTP_RETRIES", "2"),
    }
    settings = _pip_settings()
    for name, variables in _FOR_UV.items():
        for variable in variables:
            if name in settings and variable not in os.environ:
                environ[variable] = settings[name]
    find_links = os.environ.get("UV_FIND_LINKS") or settings.get("find-links", "")
    return Installer(log, uv, environ, find_links)


def _find_uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _pip_settings() -> dict[str, str]:
    """Index, certificate and proxy that pip was given."""
    if not _PIP_SETTINGS.exists():
        return {}
    command = [sys.executable, str(_PIP_SETTINGS)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
