"""Wait until the server answers ``GET /readyz`` with 200, showing how far it is.

Exit status: 0 ready, 3 the server ended or its worker did, 4 the deadline passed, 130 interrupted.
BentoML starts a worker that dies again and again; one death before readiness therefore counts as a
failed start.
"""

import argparse
import http.client
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from processes import Process, Record, all_processes, leader, read_record

POLL_S = 0.5
PLAIN_LINE_EVERY_S = 15.0
LOG_LINES_SHOWN = 12
LAST_WORDS_S = 3.0  # a server whose worker has ended says why and ends too
REFUSAL = "Yap could not start: "  # the server's own sentence, in its log

# What the log says when a phase begins; the last phase that matched is the one under way.
PHASES = (
    (r"Running startup hook", "loading the models"),
    (r"The chat engine runs on", "starting the chat engine"),
    (r"Starting to load model", "loading the weights of the chat model"),
    (r"Start compiling|Dynamo bytecode transform|Compiling a graph", "compiling the chat model"),
    (r"KV cache size", "preparing the KV cache"),
    (r"[Cc]apturing CUDA graphs", "capturing CUDA graphs"),
    (r"init engine .* took", "warming up"),
)
TROUBLE = re.compile(
    r"error|exception|fatal|critical|killed|refused|denied|not allowed|no space|could not",
    re.IGNORECASE,
)


class LogReader:
    """Reads what a growing log gained since the last look; remembers the phase it tells of."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.phase = "starting the server"

    def look(self) -> None:
        try:
            with self._path.open("rb") as log:
                if log.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0  # it was rotated
                log.seek(self._offset)
                text = log.read()
        except OSError:
            return
        self._offset += len(text)
        for line in text.decode("utf-8", "replace").splitlines():
            for pattern, phase in PHASES:
                if re.search(pattern, line):
                    self.phase = phase


class Progress:
    """One line that is rewritten on a terminal, and a few plain lines elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown = ""
        self._told_s = -PLAIN_LINE_EVERY_S

    def show(self, elapsed_s: float, phase: str) -> None:
        if self._terminal:
            print(f"\r\033[K  {elapsed_s:3.0f} s  {phase}", end="", flush=True)
        elif phase != self._shown or elapsed_s - self._told_s >= PLAIN_LINE_EVERY_S:
            print(f"  {elapsed_s:3.0f} s  {phase}", flush=True)
            self._told_s = elapsed_s
        self._shown = phase

    def end(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", flush=True)


def is_ready(host: str, port: int) -> bool:
    """Whether ``GET /readyz`` answers 200; refused, slow and 503 all mean not yet."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def workers(record: Record) -> set[tuple[int, int]]:
    """The server's workers: children of the first process that lead sessions of their own."""
    children: Iterator[Process] = (p for p in all_processes() if p.parent == record.pid)
    return {child.identity for child in children if child.session == child.pid}


def trouble_lines(log: Path) -> list[str]:
    """The last lines of the log that tell of trouble, or its last lines when none does."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-400:]
    except OSError:
        return []
    lines = [line.rstrip() for line in lines if line.strip()]
    telling = list(dict.fromkeys(line for line in lines if TROUBLE.search(line)))
    return (telling or lines)[-LOG_LINES_SHOWN:]


def fail(log: Path, reason: str) -> None:
    """Print what the log says of the failure: the server's own sentence if it left one."""
    sys.stdout.flush()
    lines = trouble_lines(log)
    for line in reversed(lines):
        if REFUSAL in line:
            print(f"error: {line[line.index(REFUSAL) :]}", file=sys.stderr)
            print(f"The whole log is {log}.", file=sys.stderr)
            return
    for line in lines:
        print(f"  | {line[:400]}", file=sys.stderr)
    print(f"error: {reason}; the whole log is {log}", file=sys.stderr)


def wait_for_last_words(record: Record) -> None:
    deadline = time.monotonic() + LAST_WORDS_S
    while leader(record) and time.monotonic() < deadline:
        time.sleep(0.1)


def wait(
    record: Record, host: str, port: int, log: Path, limit_s: float, limit: str = "START_TIMEOUT_S="
) -> int:
    begun = time.monotonic()
    reader, progress = LogReader(log), Progress()
    known: set[tuple[int, int]] = set()
    while True:
        elapsed = time.monotonic() - begun
        reader.look()
        progress.show(elapsed, reader.phase)
        present = workers(record)
        if leader(record) is None:
            progress.end()
            fail(log, f"the server ended after {elapsed:.0f} s while {reader.phase}")
            return 3
        if known - present:
            wait_for_last_words(record)
            progress.end()
            fail(log, f"the server's worker ended after {elapsed:.0f} s while {reader.phase}")
            return 3
        known |= present
        if is_ready(host, port):
            progress.end()
            print(f"  ready after {time.monotonic() - begun:.1f} s")
            return 0
        if elapsed >= limit_s:
            progress.end()
            fail(log, f"the server was not ready within {limit}{limit_s:g} s")
            return 4
        time.sleep(POLL_S)


def wait_for_stranger(host: str, port: int, limit_s: float) -> int:
    """Wait for a server of which nothing is known but where it listens."""
    begun = time.monotonic()
    progress = Progress()
    while not is_ready(host, port):
        elapsed = time.monotonic() - begun
        if elapsed >= limit_s:
            progress.end()
            print(
                f"error: nothing at {host} port {port} was ready in {limit_s:g} s; is it the "
                "right address, and does GET /readyz answer there?",
                file=sys.stderr,
            )
            return 4
        progress.show(elapsed, "waiting for the server")
        time.sleep(POLL_S)
    progress.end()
    print(f"  ready after {time.monotonic() - begun:.1f} s")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Wait until the server is ready.")
    parser.add_argument("--record", type=Path, help="without it, any server will do")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True, help="seconds")
    parser.add_argument(
        "--limit-name", metavar="TEXT", default="START_TIMEOUT_S=", help="what sets it"
    )
    arguments = parser.parse_args()
    host, port, limit_s = arguments.host, arguments.port, arguments.limit
    try:
        if arguments.record is None:
            return wait_for_stranger(host, port, limit_s)
        record = read_record(arguments.record)
        if record is None:
            print(f"error: {arguments.record} does not say what was started", file=sys.stderr)
            return 3
        return wait(record, host, port, arguments.log, limit_s, arguments.limit_name)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
