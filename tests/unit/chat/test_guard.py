"""Engine processes are gone soon after their parent, however that one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yap.chat import guard

# Each program starts a child that would sleep for a minute, prints its pid, and waits.
SPAWNS = """
import multiprocessing, time
from yap.chat import guard

def child():
    guard.register()
    print(os.getpid(), flush=True)
    time.sleep(60)

import os
if __name__ == "__main__":
    multiprocessing.get_context("{method}").Process(target=child).start()
    time.sleep(60)
"""
FORKS = """
import os, time
from yap.chat import guard
guard.register()
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
# The parent is gone before the child looks.
LATE = """
import os, time
from yap.chat import guard
if os.fork() == 0:
    parent = os.getppid()
    print(os.getpid(), flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    guard.watch_parent(parent, lambda: os._exit(1))
time.sleep(60)
"""
# An engine is built in a thread that ends; the child must not take that for its parent's end.
FROM_A_THREAD = """
import os, threading, time
from yap.chat import guard
guard.register()

def build():
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)

thread = threading.Thread(target=build)
thread.start()
thread.join()
time.sleep(60)
"""


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not runs(pid)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(SPAWNS.format(method="spawn"), id="spawned"),
        pytest.param(SPAWNS.format(method="fork"), id="forked by multiprocessing"),
        pytest.param(FORKS, id="forked"),
        pytest.param(FROM_A_THREAD, id="forked in a thread"),
        pytest.param(LATE, id="orphaned before it looks"),
    ],
)
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, program: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(guard.__file__).parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    child = 0
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child, 0.6)  # while its parent lives, it lives
        parent.kill()
        assert gone(child, 3)
    finally:
        parent.kill()
        parent.wait()
        if child and runs(child):
            os.kill(child, signal.SIGKILL)


def test_the_guard_is_installed_where_vllm_looks_for_it() -> None:
    assert guard.is_installed()


def test_a_guard_that_is_not_installed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ENTRY_POINT_NAME", "no_such_entry_point")
    assert not guard.is_installed()
