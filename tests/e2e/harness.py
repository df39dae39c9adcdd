"""Starts the real server, as an operator does, and looks after all of its processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "lib"))  # its helpers are scripts, not a package

from processes import (  # noqa: E402
    RUN_ID_VARIABLE,
    Process,
    Record,
    belonging,
    boot_id,
    living,
    read_process,
)

API_KEY = "e2e-test-key"
# A first start on a busy two-core machine takes most of a minute.
READY_S = 240.0
STOP_S = 60.0


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """`bentoml serve`, with every process that it makes found as `scripts/stop.sh` finds them.

    It serves the checkout, or the Bento of this tag from the store in BENTOML_HOME.
    """

    def __init__(self, home: Path, bento: str | None = None, **settings: str) -> None:
        self.port = free_port()
        self.log = home / f"server-{self.port}.log"
        environment = {
            **os.environ,
            "BENTOML_HOME": str(home / f"bentoml-{self.port}"),
            "BENTOML_DO_NOT_TRACK": "True",
            "HF_HUB_OFFLINE": "1",
            "TEXT_API_KEY": API_KEY,
            "PORT": str(self.port),
            RUN_ID_VARIABLE: (run_id := secrets.token_hex(8)),
            **settings,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bentoml", "serve", *([bento] if bento else [])],
                cwd=home if bento else ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        first = read_process(self.pid)
        self._record = Record(self.pid, first.start if first else 0, boot_id(), run_id)
        self._seen: set[Process] = set()

    @property
    def pid(self) -> int:
        """The supervising process."""
        return self._process.pid

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def status(self, path: str) -> int | None:
        """The HTTP status of a GET; None if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        url = f"http://{self.address}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            lines = response.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    def wait_ready(self, timeout: float = READY_S) -> ServerProcess:
        """Wait until a turn can be served."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended by itself:\n{self.tail()}")
            if self.status("/readyz") == 200:
                return self
            time.sleep(0.2)
        raise AssertionError(f"the server was not ready in {timeout:g} s:\n{self.tail()}")

    def wait_for_status(self, path: str, status: int, timeout: float) -> None:
        """Wait until a GET is answered with `status`."""
        deadline = time.monotonic() + timeout
        while (seen := self.status(path)) != status:
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} answers {seen}, not {status}")
            time.sleep(0.05)

    def wait_exit(self, timeout: float = STOP_S) -> int:
        """The exit code, once the supervising process has ended by itself."""
        return self._process.wait(timeout)

    def stop(self) -> int:
        """SIGTERM, as any process manager sends it; the exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait_exit()

    def processes(self) -> dict[int, str]:
        """What is alive of the server: pid to command line."""
        self._seen |= belonging(self._record)
        found = {}
        for process in living(self._seen):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found[process.pid] = command.decode(errors="replace").strip()
        return found

    def pids_of(self, name: str) -> list[int]:
        """Processes of the server whose command line holds `name`."""
        return [pid for pid, command in self.processes().items() if name in command]

    def wait_until_gone(self, timeout: float, pids: set[int] | None = None) -> None:
        """Wait until no process of the server is left, or none of `pids`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            left = self.processes()
            if pids is not None:
                left = {pid: command for pid, command in left.items() if pid in pids}
            if not left:
                return
            time.sleep(0.1)
        raise AssertionError(f"still alive after {timeout:g} s: {left}")

    def tail(self, lines: int = 40) -> str:
        """The end of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def destroy(self) -> None:
        """Kill whatever is left, by pid."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
