"""Runs a worker process: reads its events, keeps its log, and ends it when it must end.

A worker that gives no sign of life (no event, no output, no time of a processor spent by it or its
children) for a while is taken for hung and killed.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psutil

from quantization.errors import ExitCode, QuantizationError
from quantization.home import ROOT

Event = dict[str, Any]

STALL_S: Final = 900.0
_TICK_S: Final = 1.0
_GRACE_S: Final = 5.0
_LOOK_S: Final = 10.0  # between looks at the processors' time
_WORKING_S: Final = 0.1  # of that time in between: less is waiting
# What libraries draw on standard error, and the step that it is about. (n/m) counts layers.
_LAYERS: Final = re.compile(r"\((\d+)/(\d+)\): (Calibrating|Propagating):\s+(\d+)%")
_SHARE: Final = re.compile(r"^(?:AWQ|Quantizing|Compressing model|Writing model shards):\s+(\d+)%")
_KEPT: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "USER"})
_PREFIXES: Final = ("HF_", "HUGGING", "LC_", "OMP_", "MKL_", "CUDA_", "NVIDIA_", "LD_", "SSL_")
_NAMES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"})


class Terminated(BaseException):
    """SIGTERM reached this process."""


@dataclass(frozen=True, slots=True)
class Command:
    """A worker's command line. `step` is what its own progress bars are about."""

    arguments: Sequence[str]
    log: Path
    environ: Mapping[str, str]
    name: str
    step: str = "quantize"
    stall_s: float = STALL_S


def environment(**more: str) -> dict[str, str]:
    """What a worker sees of this process's environment: no other Python's paths."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.upper() in _NAMES or name.startswith(_PREFIXES)
    }
    own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"}
    return {**kept, **own, "TOKENIZERS_PARALLELISM": "false", **more}


def supervise(command: Command, on_event: Callable[[Event], None]) -> None:
    """Run a worker to its end.

    Raises:
        QuantizationError: it failed; one sentence that names its log.
        KeyboardInterrupt, Terminated: this process was told to end; the worker has ended first.
    """
    with command.log.open("ab") as log:
        process = subprocess.Popen(
            list(command.arguments),
            env=dict(command.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl+C is ours to pass on
        )
        readers = _Readers(process, command, log)
        try:
            failure = _follow(readers, command, on_event)
        finally:
            _end(process)
            readers.close()
    if failure is not None:
        raise failure
    if process.returncode:
        raise _crash(command, process.returncode)


class _Readers:
    """Two threads that read a worker's two outputs into one queue; None says that one has ended."""

    def __init__(self, process: subprocess.Popen[bytes], command: Command, log: IO[bytes]) -> None:
        self.process = process
        self.events: queue.Queue[Event | None] = queue.Queue()
        self.alive = _Life(process.pid)
        bars = (process.stderr, self.events, log, self.alive, command)
        self.threads = (
            threading.Thread(target=_read_events, args=(process.stdout, self.events, log)),
            threading.Thread(target=_read_bars, args=bars),
        )
        for thread in self.threads:
            thread.daemon = True
            thread.start()

    def close(self) -> None:
        """Once the worker has ended."""
        for thread in self.threads:
            thread.join(_GRACE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def _follow(
    readers: _Readers, command: Command, on_event: Callable[[Event], None]
) -> QuantizationError | None:
    """Hand on events until the worker has closed its output; what it said went wrong."""
    failure: QuantizationError | None = None
    open_streams = len(readers.threads)
    while open_streams:
        try:
            event = readers.events.get(timeout=_TICK_S)
        except queue.Empty:
            if readers.alive.silent_for() > command.stall_s:
                return QuantizationError(
                    f"{command.name} gave no sign of life for {command.stall_s / 60:.0f} minutes "
                    f"and was ended: see {command.log}, and run it again to go on from here.",
                    ExitCode.FAILED,
                )
            continue
        readers.alive.sign()
        if event is None:
            open_streams -= 1
        elif event.get("event") == "error":
            failure = _failure(command, event)
        else:
            on_event(event)
    readers.process.wait()
    return failure


class _Life:
    """When a process last showed that it works."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._last = time.monotonic()
        self._looked = 0.0
        self._spent = 0.0

    def sign(self) -> None:
        self._last = time.monotonic()

    def silent_for(self) -> float:
        now = time.monotonic()
        if now - self._looked > _LOOK_S:
            self._looked = now
            spent = _processor_seconds(self._pid)
            if spent > self._spent + _WORKING_S:
                self._spent, self._last = spent, now
        return now - self._last


def _processor_seconds(pid: int) -> float:
    total = 0.0
    try:
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    except psutil.Error:
        pass
    return total


def _read_events(stream: IO[bytes], events: queue.Queue[Event | None], log: IO[bytes]) -> None:
    for line in stream:
        try:
            found = json.loads(line)
        except ValueError:
            log.write(line)
            continue
        if isinstance(found, dict):
            events.put({"event": "progress", **found} if "event" not in found else found)
    events.put(None)


def _read_bars(
    stream: IO[bytes],
    events: queue.Queue[Event | None],
    log: IO[bytes],
    alive: _Life,
    command: Command,
) -> None:
    """Keep the log, and tell from the libraries' own bars how far they are."""
    rest = b""
    while block := os.read(stream.fileno(), 1 << 16):
        alive.sign()
        log.write(block)
        log.flush()
        *lines, rest = re.split(rb"[\r\n]", rest + block)
        for line in lines:
            share = _share(line.decode("utf-8", errors="replace"))
            if share is not None:
                done = round(1000 * share)
                events.put({"event": "progress", "step": command.step, "done": done, "total": 1000})
    events.put(None)


def _share(line: str) -> float | None:
    layers = _LAYERS.search(line)
    if layers:
        number, count, percent = int(layers[1]), int(layers[2]), int(layers[4])
        half = 0.5 if layers[3] == "Propagating" else 0.0
        return min(1.0, (number - 1 + half + percent / 200) / count)
    plain = _SHARE.match(line.strip())
    return int(plain[1]) / 100 if plain else None


def _failure(command: Command, event: Event) -> QuantizationError:
    message, code = str(event.get("message")), ExitCode(int(event.get("code", ExitCode.FAILED)))
    if not event.get("bare"):
        return QuantizationError(message, code)
    if code is ExitCode.NO_ROOM and "space left" in message:
        said = f"The disk is full while {command.name} works: make room, and run it again to go on"
    elif code is ExitCode.NO_ROOM:
        said = (
            f"{command.name} ran out of memory ({message}): use a machine with more, fewer or "
            "shorter samples, or --method rtn"
        )
    else:
        said = f"{command.name} failed ({message})"
    return QuantizationError(f"{said}; its log is {command.log}.", code)


def _crash(command: Command, status: int) -> QuantizationError:
    if status == -signal.SIGKILL:
        why = "was killed, most likely because the machine ran out of memory"
    elif status < 0:
        why = f"was ended by {signal.Signals(-status).name}"
    else:
        why = f"ended with status {status}"
    return QuantizationError(
        f"{command.name} {why}: see {command.log}, and run it again to go on from here.",
        ExitCode.FAILED,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker and whatever it started."""
    if process.poll() is not None:
        return
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return
