"""Containers, run as an operator runs them: `docker run`, or `podman run`, which is alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEY = "container-test-key"
PROBE = Path(__file__).with_name("probe.py")
PORT = 3000  # in the container
STOP_S = 45  # over DRAIN_TIMEOUT_S and what stopping takes
_READY_S = 300.0
# As little as it needs: all but /data and /tmp is read-only, no privilege can be gained.
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--tmpfs=/data",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)


class Failed(Exception):
    """The image does not do what it should; the message is what the test prints."""


class Container:
    """One container of the image, removed on exit."""

    def __init__(self, program: str, image: str, *options: str, **settings: str) -> None:
        self.program = program
        command = [program, "run", "--detach", f"--stop-timeout={STOP_S}", *HARDENED, *options]
        for name, value in {"TEXT_API_KEY": KEY, **settings}.items():
            command += ["--env", f"{name}={value}"]
        self._begun = time.monotonic()
        self.id = self._ask(*command[1:], image).strip()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([self.program, "rm", "--force", self.id], capture_output=True, check=False)

    def wait_healthy(self) -> float:
        """Wait until the HEALTHCHECK says so; seconds since the start."""
        while (health := self.health()) != "healthy":
            if self.state()["Running"] is not True:
                raise Failed(f"the container ended by itself:\n{self.logs()}")
            if time.monotonic() - self._begun > _READY_S:
                raise Failed(f"the container is {health} after {_READY_S:g} s:\n{self.logs()}")
            time.sleep(0.5)
        return time.monotonic() - self._begun

    def health(self) -> str:
        """starting, healthy or unhealthy."""
        if self.program.endswith("podman"):  # runs checks by systemd's timers, where that is
            checked = [self.program, "healthcheck", "run", self.id]
            subprocess.run(checked, capture_output=True, check=False)
        state = self.state()
        return str((state.get("Health") or state.get("Healthcheck") or {}).get("Status"))

    def state(self) -> dict[str, Any]:
        """What the engine knows of it."""
        state: dict[str, Any] = json.loads(
            self._ask("inspect", "--format", "{{json .State}}", self.id)
        )
        return state

    def address(self) -> str:
        """host:port of a port that was published on the loopback."""
        return self._ask("port", self.id, str(PORT)).split()[0]

    def execute(self, *command: str, given: str | None = None) -> str:
        """Run a command inside; what it printed."""
        return self._ask("exec", "--interactive", self.id, *command, given=given)

    def succeeds(self, *command: str) -> bool:
        """Whether a command inside exits with 0."""
        done = subprocess.run(
            [self.program, "exec", self.id, *command], capture_output=True, check=False
        )
        return done.returncode == 0

    def probe(self, what: str) -> dict[str, Any]:
        """Run the probe inside the container."""
        program = PROBE.read_text(encoding="utf-8")
        told = self.execute("python", "-", what, f"127.0.0.1:{PORT}", given=program)
        found: dict[str, Any] = json.loads(told)
        return found

    def stop(self) -> tuple[float, int]:
        """As `docker stop` does it: seconds, and the exit code of the server."""
        begun = time.monotonic()
        self._ask("stop", "-t", str(STOP_S), self.id)
        return time.monotonic() - begun, int(self.state()["ExitCode"])

    def changed(self) -> list[str]:
        """Files that were written outside of what is mounted."""
        return self._ask("diff", self.id).splitlines()

    def logs(self) -> str:
        """The end of what the server printed."""
        done = subprocess.run(
            [self.program, "logs", "--tail", "60", self.id],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def _ask(self, *arguments: str, given: str | None = None) -> str:
        return ask(self.program, *arguments, given=given)


def ask(*command: str, given: str | None = None) -> str:
    """Run a command; what it printed, or `Failed` with its last words."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def outside_probe(what: str, address: str) -> subprocess.Popen[str]:
    """The probe on this machine, against a published port."""
    return subprocess.Popen(
        [sys.executable, str(PROBE), what, address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TEXT_API_KEY": KEY},
    )
