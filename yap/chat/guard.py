"""Engine processes must not outlive the service, however it dies.

vLLM runs its engine core (and, with some executors, workers) in processes of their own, and
those stay alive for ever when their parent is killed. `register` is a vLLM general plugin
(entry point group `vllm.general_plugins`, see pyproject.toml): vLLM calls it in every process
that it starts, and there it arms a thread that ends the process once the parent is gone.

PR_SET_PDEATHSIG would be the obvious tool and is the wrong one: it fires when the *thread* that
created the child ends, and the engine is built in a short-lived thread.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

ENTRY_POINT_GROUP = "vllm.general_plugins"
ENTRY_POINT_NAME = "yap_orphan_guard"
_POLL_S = 0.5


def register() -> None:
    """Arm the guard in this process if vLLM started it, else in those that it will fork."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        watch_parent(parent.pid, _exit_now)
    else:
        os.register_at_fork(after_in_child=_arm_forked_child)


def _arm_forked_child() -> None:
    watch_parent(os.getppid(), _exit_now)


def watch_parent(parent_pid: int, on_death: Callable[[], None]) -> threading.Thread:
    """Call `on_death` from a thread when `parent_pid` is no longer this process's parent."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_POLL_S)
        on_death()

    thread = threading.Thread(target=watch, name="yap-parent-watch", daemon=True)
    thread.start()
    return thread


def _exit_now() -> None:
    # Nothing to save here, and anything gentler could wait on a pipe that nobody reads any more.
    os._exit(1)


@contextmanager
def sigterm_kept_off() -> Iterator[None]:
    """Processes that this thread starts meanwhile do not notice SIGTERM.

    BentoML sends it to the processes of its worker, too. A core that gets it takes no further
    request and ends with the last that it has, while turns that were let in before go on to ask it.
    """
    # Where it is not running yet, it is started first, and unblocks SIGTERM when that is done.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_installed() -> bool:
    """Whether vLLM will find the guard in this environment."""
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=ENTRY_POINT_NAME)
    return len(found) > 0
