"""Write standard input to a log that is rotated, without losing a line or stopping the writer.

    log_writer.py --log server.log              copy standard input, until its last writer has gone
    log_writer.py --log server.log --rotate     set the present log aside, and do no more

The log is cut after a line once it has YAP_LOG_MAX_BYTES (100,000,000); YAP_LOG_KEEP (3) older ones
stay beside it as server.log.1, .2 and .3.

Two processes hold the reading end of the pipe: one copies, the other waits to begin where the first
leaves off. If either dies, a new one takes its place, so that the server never writes into a broken
pipe. Bytes go from the pipe to the file inside the kernel (splice): a copier that is killed takes
none along. Where the disk is full the server must not wait: what does not fit is dropped, and how
much that was is said in the log.
"""

import argparse
import errno
import os
import select
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

MAX_BYTES = 100_000_000
KEEP = 3
PIPE_BYTES = 1 << 20  # what the pipe holds while the copier is not scheduled
UNBROKEN_BYTES = 1 << 20  # how far a log may grow past its limit while no line ends
WATCH_S = 0.5  # how often a copier looks whether the process that guards it is there
RESPAWN_S = 0.2  # pause before a copier that died is replaced


def log_path(log: Path, number: int) -> Path:
    """The log that was set aside ``number`` rotations ago; 0 is the present one."""
    return log.with_name(f"{log.name}.{number}") if number else log


def rotate(log: Path, keep: int) -> None:
    """Set the present log aside and forget the oldest. Each step is a rename: dying between two of
    them loses nothing."""
    for number in range(keep, 0, -1):
        newer = log_path(log, number - 1)
        if newer.exists():
            newer.replace(log_path(log, number))
    if not keep:
        log.unlink(missing_ok=True)


class Log:
    """The present log, open for writing at its end."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._dropped = 0
        self._file = -1  # not open
        self._end = 0

    def take(self, pipe: int) -> bool:
        """Move what waits in the pipe to the log; False when all writers have gone.

        Blocks until there is something.
        """
        try:
            self._follow()
            self._tell_dropped()
            moved = os.splice(pipe, self._file, PIPE_BYTES, offset_dst=self._end)
        except OSError as error:
            if error.errno == errno.EINVAL:  # a file system that cannot be spliced to
                return self._copy(pipe)
            return self._drop(pipe)
        self._end += moved
        self._rotate_when_due()
        return moved > 0

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _follow(self) -> None:
        """Open the log; a new one when somebody has moved it away; obey when it was emptied."""
        if self._file >= 0 and not self._is_there():
            self.close()
        if self._file < 0:
            # Not O_APPEND, which splice refuses. Private: prompts may be in it.
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._end = os.fstat(self._file).st_size
        self._end = min(self._end, os.fstat(self._file).st_size)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _rotate_when_due(self) -> None:
        if self._end < self._max_bytes:
            return
        line_ended = os.pread(self._file, 1, self._end - 1) == b"\n"
        if line_ended or self._end >= self._max_bytes + UNBROKEN_BYTES:
            with suppress(OSError):  # then it grows, and the next look tries again
                rotate(self._path, self._keep)

    def _copy(self, pipe: int) -> bool:
        text = os.read(pipe, PIPE_BYTES)
        self._write(text)
        return bool(text)

    def _write(self, text: bytes) -> None:
        try:
            written = os.pwrite(self._file, text, self._end)
        except OSError:
            written = 0
        self._end += written
        self._dropped += len(text) - written
        self._rotate_when_due()

    def _drop(self, pipe: int) -> bool:
        dropped = len(os.read(pipe, PIPE_BYTES))
        self._dropped += dropped
        return dropped > 0

    def _tell_dropped(self) -> None:
        if self._dropped:
            note = f"[{self._dropped} bytes of this log are missing: they could not be written]\n"
            self._end += os.pwrite(self._file, note.encode(), self._end)
            self._dropped = 0


def copy(log: Log, pipe: int, guard: int) -> bool:
    """Copy until all writers have gone (True), or until the process ``guard`` has (False)."""
    while os.getppid() == guard:
        ready, _, _ = select.select([pipe], [], [], WATCH_S)
        if ready and not log.take(pipe):
            return True
    return False


def write_log(path: Path, max_bytes: int, keep: int, pipe: int) -> None:
    """Keep one copier running until all writers of the pipe have gone."""
    while True:
        guard = os.getpid()
        copier = os.fork()
        if copier:
            _, status = os.waitpid(copier, 0)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
                return
            time.sleep(RESPAWN_S)
        else:
            with closing(Log(path, max_bytes, keep)) as log:
                if copy(log, pipe, guard):
                    os._exit(0)
        # A copier comes here when its guard has died: it is the guard now, of a new copier.


def number(name: str, default: int, least: int) -> int:
    """A whole number from the environment."""
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        sys.exit(f"error: {name}={text} must be a whole number, {least} at least")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write standard input to a log that is rotated.")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--rotate", action="store_true", help="set the present log aside")
    arguments = parser.parse_args()
    log = arguments.log.absolute()
    max_bytes = number("YAP_LOG_MAX_BYTES", MAX_BYTES, 4096)
    keep = number("YAP_LOG_KEEP", KEEP, 0)
    if arguments.rotate:
        rotate(log, keep)
        return 0
    # What stops a server by signals to all of its processes must leave its last words a way out.
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    write_log(log, max_bytes, keep, sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
