"""The server's log: rotated, without a lost line, whatever happens to what writes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import log_writer
import processes
import pytest

SCRIPT = Path(log_writer.__file__)
COUNTS = """
import sys, time
for number in range({count}):
    sys.stdout.write(f"{{number:06}} " + "x" * 93 + "\\n")
    if number % {burst} == 0:
        sys.stdout.flush()
        time.sleep({pause})
"""


class Logged:
    """A program whose output goes to a log, as the server's does."""

    def __init__(self, folder: Path) -> None:
        self.record_path = folder / "server.pid"
        self.path = folder / "server.log"

    def start(self, program: str) -> processes.Record:
        return processes.start(self.record_path, self.path, [sys.executable, "-c", program])

    def wait(self, record: processes.Record, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while processes.belonging(record):
            assert time.monotonic() < deadline, "what writes the log has not ended"
            time.sleep(0.02)

    def stop(self) -> None:
        assert processes.stop(self.record_path, 0.2) == 0

    def files(self) -> list[Path]:
        """The logs, oldest first."""
        kept = sorted(self.path.parent.glob("server.log.*"), key=lambda path: -int(path.suffix[1:]))
        return [*kept, self.path]

    def numbers(self) -> list[int]:
        """What COUNTS has written, in the order of the logs; every line must be whole."""
        lines = b"".join(path.read_bytes() for path in self.files()).splitlines(keepends=True)
        counted = [line for line in lines if line[:6].isdigit()]
        assert all(len(line) == 101 and line.endswith(b"\n") for line in counted)
        return [int(line[:6]) for line in counted]


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    monkeypatch.setenv("YAP_LOG_MAX_BYTES", "100000")
    monkeypatch.setenv("YAP_LOG_KEEP", "100")
    found = Logged(tmp_path)
    yield found
    found.stop()


def writers(record: processes.Record) -> list[int]:
    return [process.pid for process in processes.belonging(record) if processes.writes_log(process)]


def test_lines_are_cut_over_files_and_none_is_lost(logged: Logged) -> None:
    logged.wait(logged.start(COUNTS.format(count=20_000, burst=50_000, pause=0)))
    assert logged.numbers() == list(range(20_000))
    assert len(logged.files()) > 2
    unbroken = 100_000 + log_writer.UNBROKEN_BYTES
    for path in logged.files()[:-1]:
        # What is taken at once may end within a line, time after time where much is written.
        assert 100_000 <= path.stat().st_size < unbroken + log_writer.PIPE_BYTES
        assert path.stat().st_size >= unbroken or path.read_bytes().endswith(b"\n")


def test_no_more_than_three_older_logs_are_kept(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YAP_LOG_KEEP", "3")
    logged.wait(logged.start(COUNTS.format(count=20_000, burst=500, pause=0.002)))
    assert [path.name for path in logged.files()] == [
        "server.log.3",
        "server.log.2",
        "server.log.1",
        "server.log",
    ]
    assert sum(path.stat().st_size for path in logged.files()) < 4 * 200_000
    numbers = logged.numbers()
    assert numbers == list(range(numbers[0], 20_000))  # the newest, without a hole
    assert {path.stat().st_mode & 0o777 for path in logged.files()} == {0o600}


def test_killing_what_writes_the_log_loses_nothing_and_stops_nobody(logged: Logged) -> None:
    record = logged.start(COUNTS.format(count=30_000, burst=100, pause=0.005))
    killed = 0
    while processes.leader(record):
        time.sleep(0.3)
        pids = writers(record)
        if len(pids) == 2:
            os.kill(pids[killed % 2], signal.SIGKILL)
            killed += 1
    logged.wait(record)
    assert killed >= 3
    assert logged.numbers() == list(range(30_000))


def test_it_ends_with_the_server_that_is_killed_and_has_its_last_words(logged: Logged) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    program += "print('up', flush=True); time.sleep(0.3); print('last', flush=True); time.sleep(60)"
    record = logged.start(program)
    time.sleep(0.5)
    assert len(writers(record)) == 2
    logged.stop()
    assert processes.belonging(record) == set()
    assert logged.path.read_text() == "up\nlast\n"


def test_a_full_disk_drops_lines_says_so_and_stops_nobody(logged: Logged, tmp_path: Path) -> None:
    logged.path.symlink_to("/dev/full")
    go_on = tmp_path / "go"
    program = f"""
import pathlib, time
print("x" * 3_000_000, flush=True)
while not pathlib.Path({str(go_on)!r}).exists():
    time.sleep(0.02)
print("after", flush=True)
"""
    record = logged.start(program)
    time.sleep(1.5)
    logged.path.unlink()  # there is room again
    go_on.touch()
    logged.wait(record)
    text = logged.path.read_text()
    assert text == "[3000001 bytes of this log are missing: they could not be written]\nafter\n"


@pytest.mark.parametrize("how", ["moved", "emptied"])
def test_a_log_that_somebody_moves_or_empties_goes_on(logged: Logged, how: str) -> None:
    program = "import time\nfor i in range(40): print(i, flush=True); time.sleep(0.02)"
    record = logged.start(program)
    deadline = time.monotonic() + 5
    while not logged.path.exists() or "5\n" not in logged.path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if how == "moved":
        logged.path.rename(logged.path.with_name("elsewhere"))
    else:
        os.truncate(logged.path, 0)
    logged.wait(record)
    assert logged.path.read_text().endswith("38\n39\n")
    assert b"\0" not in logged.path.read_bytes()


def test_a_line_without_an_end_does_not_grow_for_ever(logged: Logged) -> None:
    logged.wait(logged.start("import sys\nfor _ in range(80): sys.stdout.write('x' * 100_000)"))
    sizes = [path.stat().st_size for path in logged.files()]
    assert sum(sizes) == 8_000_000
    most = 100_000 + log_writer.UNBROKEN_BYTES + log_writer.PIPE_BYTES
    assert max(sizes) <= most


@pytest.mark.parametrize("value", ["lots", "-1", "10"])
def test_a_limit_that_cannot_be_is_one_sentence(tmp_path: Path, value: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--log", str(tmp_path / "log"), "--rotate"],
        env={"YAP_LOG_MAX_BYTES": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: YAP_LOG_MAX_BYTES={value} must be a whole number, 4096 at least\n"
    )
