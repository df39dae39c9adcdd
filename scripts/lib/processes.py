"""Start the server detached, tell whether it runs, and stop exactly what was started.

A process id alone proves nothing: ids are reused. The record therefore holds the id of the first
process with its start time and the boot it belongs to, and a random run id that every process of
the server inherits in its environment. BentoML puts each worker into a session of its own, so what
belongs to the server is found as: the first process, every process with the run id, all processes
of their sessions, and all descendants of these. Standard library only: stopping needs no
environment to be installed.
"""

import argparse
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from log_writer import PIPE_BYTES

RUN_ID_VARIABLE = "YAP_RUN_ID"
LOG_WRITER = Path(__file__).with_name("log_writer.py")
POLL_S = 0.2
AFTER_LEADER_S = 10.0  # engine processes notice within seconds that the server has gone
AFTER_KILL_S = 5.0


@dataclass(frozen=True)
class Process:
    """A row of /proc; ``start`` is in clock ticks since boot and, with ``pid``, never repeats."""

    pid: int
    parent: int
    session: int
    start: int

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.start


@dataclass(frozen=True)
class Record:
    """What is known of the server that was started last."""

    pid: int
    start: int
    boot: str
    run_id: str

    def write(self, path: Path) -> None:
        path.write_text(f"{self.pid} {self.start} {self.boot} {self.run_id}\n", encoding="ascii")


def read_record(path: Path) -> Record | None:
    """The record, or None when there is none or it is damaged."""
    try:
        pid, start, boot, run_id = path.read_text(encoding="ascii").split()
        return Record(int(pid), int(start), boot, run_id)
    except (OSError, ValueError):
        return None


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def read_process(pid: int) -> Process | None:
    """A living process, or None when it has ended (a zombie has ended)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold blanks and brackets
    if fields[0] in "ZX":
        return None
    return Process(pid, parent=int(fields[1]), session=int(fields[3]), start=int(fields[19]))


def all_processes() -> list[Process]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in map(read_process, pids) if process]


def carries(pid: int, run_id: str) -> bool:
    """Whether the process was started with the run id in its environment."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{RUN_ID_VARIABLE}={run_id}".encode() in environ.split(b"\0")


def leader(record: Record) -> Process | None:
    """The server's first process, None when it has ended or its id is another process's now."""
    if record.boot != boot_id():
        return None
    process = read_process(record.pid)
    return process if process and process.start == record.start else None


def belonging(record: Record) -> set[Process]:
    """Every living process of the server that the record tells of."""
    if record.boot != boot_id():
        return set()
    table = all_processes()
    pid_reused = any(p.pid == record.pid and p.start != record.start for p in table)
    owned = {p for p in table if p.identity == (record.pid, record.start)}
    owned |= {p for p in table if p.start >= record.start and carries(p.pid, record.run_id)}
    sessions = {p.session for p in owned} | (set() if pid_reused else {record.pid})
    strangers = {0, os.getsid(0)}  # 0: led from outside this container; and the caller's own
    sessions -= strangers
    candidates = [p for p in table if p.start >= record.start and p.pid != os.getpid()]
    while True:
        parents = {p.pid for p in owned}
        grown = owned | {p for p in candidates if p.session in sessions or p.parent in parents}
        if grown == owned:
            return owned
        owned = grown
        sessions |= {p.session for p in owned} - strangers


def send(process: Process, signal_: signal.Signals) -> None:
    """Signal this very process; one that has ended in the meantime is left in peace."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if living([process]):
            signal.pidfd_send_signal(handle, signal_)
    except ProcessLookupError:
        pass
    except PermissionError:
        print(f"no permission to stop process {process.pid}", file=sys.stderr)
    finally:
        os.close(handle)


def start_log_writer(log_path: Path, pipe: int, environ: Mapping[str, str]) -> None:
    """Start what reads the pipe and writes and rotates the log.

    It ends by itself, when the last process that holds the pipe's writing end has ended.
    """
    writer = subprocess.Popen(
        [sys.executable, "-I", "-S", str(LOG_WRITER), "--log", str(log_path)],
        stdin=pipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environ,
    )
    writer.returncode = 0  # it outlives this process on purpose


def start(record_path: Path, log_path: Path, command: list[str]) -> Record:
    """Start the command as the leader of a session of its own and write the record."""
    run_id = secrets.token_hex(8)
    environ = {**os.environ, RUN_ID_VARIABLE: run_id}
    reading, writing = os.pipe()
    try:
        with suppress(OSError):  # more than this user may have; then it stays as it is
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # The server first: what belongs to it is not older than it is.
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environ,
        )
        start_log_writer(log_path, reading, environ)
    finally:
        os.close(reading)
        os.close(writing)
    process = read_process(server.pid)
    record = Record(server.pid, process.start if process else 0, boot_id(), run_id)
    record.write(record_path)
    server.returncode = 0  # it outlives this process on purpose
    return record


def wait_until_gone(record: Record, seen: set[Process], limit_s: float, *, led: bool) -> None:
    """Wait for the server's processes to end; ``seen`` gains those that appear while waiting.

    ``led``: give up early, ``AFTER_LEADER_S`` after the first process has ended.
    """
    deadline = time.monotonic() + limit_s
    told = time.monotonic()
    had_leader = led
    while time.monotonic() < deadline:
        seen |= belonging(record)
        alive = living(seen)
        if not alive:
            return
        if had_leader and leader(record) is None:
            had_leader = False
            deadline = min(deadline, time.monotonic() + AFTER_LEADER_S)
        if time.monotonic() - told >= 5:
            told = time.monotonic()
            print(f"  waiting for {len(alive)} processes to finish", flush=True)
        time.sleep(POLL_S)


def writes_log(process: Process) -> bool:
    """Whether it is one of those that copy the server's output to its log."""
    try:
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(LOG_WRITER) in command


def living(processes: Iterable[Process]) -> list[Process]:
    found = []
    for process in processes:
        now = read_process(process.pid)
        if now and now.identity == process.identity:
            found.append(now)
    return found


def end(record: Record, seen: set[Process], victims: Iterable[Process]) -> None:
    """Kill the processes, and wait until nothing of the server is left."""
    for process in victims:
        send(process, signal.SIGKILL)
    wait_until_gone(record, seen, AFTER_KILL_S, led=False)


def stop(record_path: Path, drain_s: float) -> int:
    """Ask the server to end, wait, end what is left of it, and make sure. 0 when nothing runs."""
    record = read_record(record_path)
    seen = belonging(record) if record else set()
    if record is None or not seen:
        record_path.unlink(missing_ok=True)
        print("Yap is not running.")
        return 0
    begun = time.monotonic()
    first = leader(record)
    print(f"Stopping Yap (process {record.pid}); running turns may finish first.", flush=True)
    for process in [first] if first else list(seen):
        send(process, signal.SIGTERM)
    limit = drain_s if first else min(drain_s, AFTER_LEADER_S)
    wait_until_gone(record, seen, limit, led=first is not None)
    stubborn = [p for p in living(seen | belonging(record)) if not writes_log(p)]
    if stubborn:
        print(f"  {len(stubborn)} processes did not end by themselves and were killed")
    # What writes the log comes last: it ends by itself once the others' last words are written.
    end(record, seen, stubborn)
    end(record, seen, living(seen | belonging(record)))
    left = living(seen | belonging(record))
    if left:
        pids = " ".join(str(process.pid) for process in left)
        print(f"error: processes that could not be ended: {pids}", file=sys.stderr)
        return 1
    record_path.unlink(missing_ok=True)
    print(f"Stopped in {time.monotonic() - begun:.1f} s.")
    return 0


def status(record_path: Path) -> int:
    """0 and the first process's id when the server runs, 3 when not, 4 when only leftovers do."""
    record = read_record(record_path)
    if record is None:
        return 3
    if leader(record):
        print(record.pid)
        return 0
    return 4 if belonging(record) else 3


def main() -> int:
    parser = argparse.ArgumentParser(description="Start, look at and stop the server.")
    parser.add_argument("--record", type=Path, required=True, help="file with what was started")
    actions = parser.add_subparsers(dest="action", required=True)
    starting = actions.add_parser("start")
    starting.add_argument("--log", type=Path, required=True)
    starting.add_argument("command", nargs="+")
    stopping = actions.add_parser("stop")
    stopping.add_argument("--drain", type=float, default=35.0, help="seconds before SIGKILL")
    actions.add_parser("status")
    arguments = parser.parse_args()
    if arguments.action == "start":
        print(start(arguments.record, arguments.log, arguments.command).pid)
        return 0
    if arguments.action == "stop":
        return stop(arguments.record, arguments.drain)
    return status(arguments.record)


if __name__ == "__main__":
    sys.exit(main())
