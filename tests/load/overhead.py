"""What measuring costs: this process's CPU, how late it reads, and what watched processes use."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from tests.load.quantiles import Quantiles

_PERIOD_S = 0.01
_STAMP = struct.Struct("d")
# Beyond these the figures say something about the client too.
MOST_CPU = 0.5
MOST_LAG_P50_MS = 1.0
MOST_LAG_P99_MS = 2.0
MOST_LAG_P99_OF_TTFT = 0.1


@dataclass(frozen=True, slots=True)
class Overhead:
    """Of a measurement.

    Attributes:
        cpu_share: of one core, taken by this process.
        cpu_s: the same in seconds.
        lag_ms: from when a byte could be read to when it was; sampled every 10 ms.
        watched_s: seconds of CPU of the processes that were asked about, by process id.
        cpu_us_per_token, watched_us_per_token: the same over the tokens that were streamed.
    """

    cpu_share: float
    cpu_s: float
    lag_ms: Quantiles | None
    watched_s: dict[int, float] = field(default_factory=dict)
    cpu_us_per_token: float | None = None
    watched_us_per_token: dict[int, float] = field(default_factory=dict)

    def per_token(self, tokens: int) -> Overhead:
        """The same, over so many tokens."""
        if not tokens:
            return self
        return replace(
            self,
            cpu_us_per_token=1e6 * self.cpu_s / tokens,
            watched_us_per_token={p: 1e6 * s / tokens for p, s in self.watched_s.items()},
        )

    def warnings(self, ttft_p50_ms: float | None) -> list[str]:
        """Sentences about what distorts the figures; none where nothing does."""
        found = []
        if self.cpu_share > MOST_CPU:
            found.append(
                f"The load generator took {self.cpu_share:.0%} of a core: the times hold its own "
                "work too. Use fewer clients, or a machine of its own."
            )
        if (lag := self.lag_ms) is None:
            return found
        most = max(MOST_LAG_P99_MS, MOST_LAG_P99_OF_TTFT * (ttft_p50_ms or 0))
        if lag.p50 > MOST_LAG_P50_MS or lag.p99 > most:
            found.append(
                f"The load generator read {lag.p50:.1f} ms late at the median and {lag.p99:.1f} ms "
                "at p99: something else keeps its core busy. Use a quiet machine, another core "
                "(taskset) or --realtime."
            )
        return found


class Meter:
    """Measures from `start` to `stop`.

    A thread writes the time at which it should have written to a socket, every 10 ms, and the event
    loop reads it: what it finds late, it finds late for every stream.
    """

    def __init__(self, watched: Sequence[int] = ()) -> None:
        self._watched = watched
        self._lags: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="lag", daemon=True)
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._wall = self._cpu = 0.0
        self._cpu_of: dict[int, float] = {}

    def start(self) -> None:
        """Begin."""
        asyncio.get_running_loop().add_reader(self._inside, self._read)
        self._wall, self._cpu = perf_counter(), time.process_time()
        self._cpu_of = {pid: cpu for pid in self._watched if (cpu := cpu_seconds(pid)) is not None}
        self._thread.start()

    def stop(self) -> Overhead:
        """End."""
        wall, cpu = perf_counter() - self._wall, time.process_time() - self._cpu
        after = {pid: cpu_seconds(pid) for pid in self._cpu_of}
        self._stopped.set()
        self._thread.join()
        asyncio.get_running_loop().remove_reader(self._inside)
        self._inside.close()
        self._outside.close()
        return Overhead(
            cpu_share=cpu / wall,
            cpu_s=cpu,
            lag_ms=Quantiles.of(self._lags),
            watched_s={p: now - self._cpu_of[p] for p, now in after.items() if now is not None},
        )

    def _tick(self) -> None:
        due = perf_counter()
        while not self._stopped.is_set():
            due += _PERIOD_S
            time.sleep(max(0.0, due - perf_counter()))
            try:
                self._outside.send(_STAMP.pack(due))
            except BlockingIOError:
                continue  # the loop is so late that its socket is full; it is told by what is there

    def _read(self) -> None:
        now = perf_counter()
        data = self._inside.recv(1 << 16)
        self._lags += (1000 * max(0.0, now - due) for (due,) in _STAMP.iter_unpack(data))


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process with all of its threads; None if it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def take_realtime_priority() -> bool:
    """Run before everything else on the machine, where the system permits it; whether it does."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, OSError):  # not Linux, or not permitted
        return False
    return True
