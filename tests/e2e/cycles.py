"""Start, restart and stop the real server many times, and look for what is left behind.

    python -m tests.e2e.cycles                  20 cycles, every fourth with a restart in between
    python -m tests.e2e.cycles -n 5 --mode tool

Everything that the server writes goes to a folder of its own: .run, log, home, caches. After
each stop there must be no process, no held lock and nobody on the port; after the first few cycles,
which fill caches, that folder must not grow. Exit code 1 when something of this is not so.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.harness import ROOT, free_port  # it makes `processes` importable

if TYPE_CHECKING:
    from processes import Record

SCRIPTS = ROOT / "scripts"
SETTLED = 3  # cycles after which every cache is filled
MAY_GROW_BYTES = 64 << 10  # a log that is a few lines longer, a directory's block


@dataclass(frozen=True)
class Cycle:
    """What one cycle took, and what it left."""

    start_s: float
    restart_s: float | None
    stop_s: float
    files: int
    bytes: int
    log_bytes: int


class Trouble(Exception):
    """Something failed, or was left behind."""


class Place:
    """A folder that holds all that a server writes."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.log = folder / "server.log"
        self.port = free_port()
        (folder / "home").mkdir()
        (folder / "tmp").mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "YAP_RUN_DIR": str(self.run),
            "YAP_LOG_FILE": str(self.log),
            "YAP_VENV": sys.prefix,
            "DEPLOY_MODELS": mode,
            "PORT": str(self.port),
        }

    def script(self, name: str, *arguments: str) -> float:
        """Run one of the scripts; the seconds that it took."""
        begun = time.monotonic()
        done = subprocess.run(
            ["bash", str(SCRIPTS / name), *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Trouble(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return time.monotonic() - begun

    def record(self) -> Record:
        """What runs now."""
        from processes import read_record

        found = read_record(self.run / "server.pid")
        if found is None:
            raise Trouble("there is no record of the server that was started")
        return found

    def check_nothing_left(self, records: list[Record]) -> None:
        """
        Raises:
            Trouble: a process, the record, a lock or a listener is left.
        """
        from processes import belonging

        for record in records:
            if left := belonging(record):
                raise Trouble(f"processes are left: {sorted(p.pid for p in left)}")
        if (self.run / "server.pid").exists():
            raise Trouble("the record of the server is left")
        with (self.run / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Trouble("the lock is held") from None
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                raise Trouble(f"somebody listens on port {self.port}")

    def usage(self) -> tuple[int, int]:
        """Files and bytes on the disk, logs left out."""
        files = taken = 0
        for folder, names, found in os.walk(self.folder):
            for name in [*names, *found]:
                path = Path(folder) / name
                if not path.name.startswith(self.log.name):
                    files += 1
                    taken += path.lstat().st_blocks * 512
        return files, taken

    def cycle(self, *, restart: bool) -> Cycle:
        """Start, perhaps restart, stop, look."""
        start_s = self.script("main.sh", "--no-follow")
        records = [self.record()]
        restart_s = None
        if restart:
            restart_s = self.script("restart.sh")
            records.append(self.record())
        stop_s = self.script("stop.sh")
        self.check_nothing_left(records)
        files, taken = self.usage()
        logs = sum(path.stat().st_size for path in self.folder.glob("server.log*"))
        return Cycle(start_s, restart_s, stop_s, files, taken, logs)


def check_growth(cycles: list[Cycle]) -> None:
    """
    Raises:
        Trouble: there is more on the disk than there was when every cache was filled.
    """
    if len(cycles) <= SETTLED:
        return
    settled, last = cycles[SETTLED - 1], cycles[-1]
    if last.files > settled.files or last.bytes > settled.bytes + MAY_GROW_BYTES:
        raise Trouble(
            f"the disk grows: {settled.files} files and {settled.bytes:,} bytes after {SETTLED} "
            f"cycles, {last.files} and {last.bytes:,} after {len(cycles)}"
        )


def run(count: int, restart_every: int, mode: str) -> list[Cycle]:
    """The cycles, printed as they end. Nothing runs afterwards, whatever happened."""
    cycles: list[Cycle] = []
    with tempfile.TemporaryDirectory(prefix="yap cycles ") as folder:
        place = Place(Path(folder), mode)
        print("cycle  start s  restart s  stop s  files       bytes   log bytes", flush=True)
        try:
            for number in range(1, count + 1):
                made = place.cycle(restart=number % restart_every == 0)
                cycles.append(made)
                restart = "-" if made.restart_s is None else f"{made.restart_s:.1f}"
                print(
                    f"{number:5}  {made.start_s:7.1f}  {restart:>9}  {made.stop_s:6.1f}  "
                    f"{made.files:5}  {made.bytes:10,}  {made.log_bytes:10,}",
                    flush=True,
                )
        finally:
            if (place.run / "server.pid").exists():
                place.script("stop.sh")
    check_growth(cycles)
    return cycles


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--cycles", type=int, default=20)
    parser.add_argument("--restart-every", type=int, default=4, metavar="N", help="cycles")
    parser.add_argument("--mode", choices=("both", "chat", "tool"), default="both")
    arguments = parser.parse_args()
    try:
        run(arguments.cycles, arguments.restart_every, arguments.mode)
    except Trouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 1
    print("Nothing was left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
