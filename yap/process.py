"""What the service does to the process it runs in: signals, its parent, its exit code.

BentoML runs an arbiter process, which imports the service and supervises, and a worker process,
which serves. Functions here say in which of the two they belong.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import uvicorn

from yap.chat.guard import watch_parent
from yap.http_connection import CuttableHttp
from yap.settings import Settings
from yap.websocket import DirectWebSocket

log = logging.getLogger(__name__)

# Turns are over when uvicorn is told to stop. What is still connected then, and does not read, must
# not keep the process from ending.
_SHUTDOWN_S = 5

_ARBITER_PID = "YAP_ARBITER_PID"
_FAILURE_FILE = "YAP_STARTUP_FAILURE_FILE"
# How long a worker whose arbiter was killed has for a clean end, in seconds.
_ORPHAN_GRACE_S = 20.0


def bound_connections(settings: Settings) -> None:
    """Worker: set what uvicorn allows a connection, for which BentoML has no setting.

    Workers import the service before they build uvicorn's `Config`, so its defaults can be
    changed from the service's module. Compression is off: it costs 64 KiB a connection, and lets
    a small frame unfold into a large one. Frames of a reply take the short way out, see
    `yap.websocket`; a client that does not read is cut off, there and in `yap.http_connection`.
    """
    config = functools.partial(
        uvicorn.Config,
        http=CuttableHttp,
        ws=DirectWebSocket,
        ws_max_size=settings.ws_max_frame_bytes,
        ws_per_message_deflate=False,
    )

    def bounded(*args: Any, timeout_graceful_shutdown: int | None = None, **kwargs: Any) -> Any:
        seconds = timeout_graceful_shutdown or _SHUTDOWN_S  # BentoML hands None on, for ever
        return config(*args, timeout_graceful_shutdown=seconds, **kwargs)

    uvicorn.Config = bounded  # type: ignore[misc, assignment]


def drain_on_sigterm(drain: Callable[[], Awaitable[None]]) -> None:
    """Worker: on SIGTERM, await `drain` before the signal's present handler runs.

    That handler (uvicorn's) closes every WebSocket at once, in the middle of a reply. Call it
    from the event loop, once the handler is installed.
    """
    loop = asyncio.get_running_loop()
    previous = signal.getsignal(signal.SIGTERM)
    draining: set[asyncio.Task[None]] = set()

    async def drain_then_stop(signum: int, frame: FrameType | None) -> None:
        try:
            await drain()
        finally:
            if callable(previous):
                previous(signum, frame)
            else:
                os._exit(0)

    def handler(signum: int, frame: FrameType | None) -> None:
        if draining:
            return
        task = loop.create_task(drain_then_stop(signum, frame), name="drain")
        draining.add(task)
        # A signal handler runs between two bytecodes; wake the loop so that it sees the task.
        loop.call_soon_threadsafe(lambda: None)

    signal.signal(signal.SIGTERM, handler)


def end_with_arbiter() -> None:
    """Worker: end when the arbiter is gone, also when it was killed without a word."""

    def end() -> None:
        log.error("The supervising process is gone; shutting down")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_GRACE_S)
        os._exit(1)

    # Not simply the present parent: the arbiter may have died before this process came so far.
    watch_parent(_arbiter_pid(), end)


def introduce_arbiter() -> None:
    """Arbiter: let the workers know whom to watch; see `end_with_arbiter`."""
    os.environ[_ARBITER_PID] = str(os.getpid())


def _arbiter_pid() -> int:
    return int(os.environ.get(_ARBITER_PID) or os.getppid())


def expect_startup_failures() -> None:
    """Arbiter: exit with code 1 when a worker reported that it cannot start.

    BentoML respawns a failing worker for ever and ends with code 0 when it is told to stop, so
    that a script which started it could not tell.
    """
    try:
        descriptor, path = tempfile.mkstemp(prefix="yap-startup-")
        os.close(descriptor)
    except OSError as error:
        refuse_to_start(f"no file can be made in {tempfile.gettempdir()}: {error.strerror}.")
    os.environ[_FAILURE_FILE] = path
    arbiter = os.getpid()

    def report() -> None:
        if os.getpid() != arbiter:
            return
        try:
            message = Path(path).read_text(encoding="utf-8")
            Path(path).unlink()
        except OSError:
            return  # somebody has tidied the folder up
        if message:
            _say(message)
            os._exit(1)

    atexit.register(report)


def report_startup_failure(message: str) -> None:
    """Worker: tell the arbiter why the service cannot start, and end the whole server."""
    log.error("Yap could not start: %s", message)
    path = os.environ.get(_FAILURE_FILE)
    if path is not None and Path(path).exists():
        Path(path).write_text(message, encoding="utf-8")
        if os.getppid() == _arbiter_pid():  # else it has died, and another process is our parent
            os.kill(os.getppid(), signal.SIGTERM)


def bind_address(settings: Settings) -> tuple[str, int]:
    """Arbiter: where `bentoml serve` is going to listen: its options, else HOST and PORT."""
    context = click.get_current_context(silent=True)
    options = context.params if context is not None else {}
    return options.get("host") or settings.host, options.get("port") or settings.port


def refuse_to_start(message: str) -> NoReturn:
    """Arbiter: say why, and exit with code 1 before anything has started."""
    _say(message)
    sys.exit(1)


def _say(message: str) -> None:
    sys.stderr.write(f"Yap could not start: {message}\n")
    sys.stderr.flush()
