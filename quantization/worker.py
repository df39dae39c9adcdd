"""What runs in a quantizer's environment: `python -m quantization.worker JOB.json`.

Its standard output is JSON, one event a line: how far a step is, that a step is done, or what went
wrong. Whatever libraries print goes to standard error. It ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TextIO

from quantization import job as jobs
from quantization.errors import ExitCode, QuantizationError
from quantization.job import Job
from quantization.writing import write_whole

_PR_SET_PDEATHSIG: Final = 1
# What it says last, by kind of failure, for people; the traceback is in the log.
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")
_HELD_OUT: Final = "rows.json"


class Events:
    """The JSON lines; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: str, **values: Any) -> None:
        """One event."""
        with self._lock:
            self._stream.write(json.dumps({"event": event, **values}) + "\n")
            self._stream.flush()

    def progress(self, step: str, done: int, total: int) -> None:
        """How far a step is."""
        self.send("progress", step=step, done=done, total=total)


class Work:
    """The steps of one job; the model is loaded when the first of them needs it."""

    def __init__(self, job: Job, backend: ModuleType, events: Events) -> None:
        self._job = job
        self._backend = backend
        self._events = events
        self._model: Any = None

    def calibrate(self) -> dict[str, Any]:
        """Calibration rows; how they came about."""
        from quantization import calibration

        request = calibration.Request(**_request(self._job))
        made = calibration.prepare(
            request,
            self._backend.tokenizer(self._job),
            self._job.work,
            self._events.progress,
            known=self._job.known,
        )
        return {"record": made.record}

    def reference(self) -> dict[str, Any]:
        """What the original says to held-out text."""
        from quantization import gauge

        rows = self._held_out()
        model = self._backend.placed(self._job, self._loaded())
        gauge.reference(model, rows, self._job.measured, self._events.progress)
        if self._job.cuda:  # a quantizer begins with a model in the machine's memory
            self._model = model = None
            gc.collect()
        return {"rows": len(rows), "tokens": sum(map(len, rows))}

    def quantize(self) -> dict[str, Any]:
        """The quantized weights, and what they lost."""
        from quantization import calibration, gauge

        found: dict[str, Any] = {}

        def measure(model: Any) -> None:
            compared = gauge.compare(model, self._job.measured, self._events.progress)
            found["gauge"] = compared.model_dump(mode="json")

        made = calibration.load(self._job.work) if self._job.request is not None else None
        if self._job.request is not None and made is None:
            raise FileNotFoundError("the calibration rows have gone; run it again with --force")
        self._backend.quantize(
            self._job,
            self._loaded,
            made.rows if made is not None else [],
            measure if self._job.gauge else None,
        )
        return found

    def _loaded(self) -> Any:
        if self._model is None:
            self._events.progress("load", 0, 1)
            self._model = self._backend.model(self._job)
            self._events.progress("load", 1, 1)
        return self._model

    def _held_out(self) -> list[list[int]]:
        from quantization import calibration, gauge

        path = self._job.measured / _HELD_OUT
        if path.exists():
            rows: list[list[int]] = json.loads(path.read_text(encoding="utf-8"))
            return rows
        length = min(512, self._job.longest or 512)
        tokenizer = self._backend.tokenizer(self._job)
        rows = calibration.held_out(
            tokenizer,
            length,
            most_tokens=gauge.token_budget(len(tokenizer)),
            path=self._job.held_out,
        )
        self._job.measured.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(rows))
        return rows


def main(arguments: list[str]) -> int:
    """Do the steps of a job, in order; 0 when all are done."""
    _end_with_parent()
    events = _claim_output()
    try:
        job = jobs.read(Path(arguments[0]))
        os.chdir(job.work)
        _prepare(job)
        backend = importlib.import_module(f"quantization.backends.{job.recipe.backend}")
        work = Work(job, backend, events)
        for step in job.steps:
            events.send("start", step=step)
            run: Callable[[], dict[str, Any]] = getattr(work, step)
            events.send("done", step=step, result=run())
    except QuantizationError as error:
        events.send("error", message=error.message, code=int(error.code))
        return 1
    except BaseException as error:  # noqa: BLE001 - told in one sentence by whoever started this
        traceback.print_exc()
        events.send("error", message=_sentence(error), code=int(_code(error)), bare=True)
        return 1
    return 0


def _request(job: Job) -> dict[str, Any]:
    values = dict(job.request or {})
    personas = values.get("personas")
    return {**values, "personas": Path(personas) if personas else None}


def _end_with_parent() -> None:
    """Be killed when the process that started this has gone."""
    with_libc = ctypes.CDLL(None, use_errno=True)
    with_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit(1)


def _claim_output() -> Events:
    """Keep standard output for events: what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return Events(stream)


def _prepare(job: Job) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not job.cuda:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or _free_cores()))


def _free_cores() -> int:
    """Cores that nobody else uses: on a busy one, threads wait for each other without end."""
    return max(1, round(len(os.sched_getaffinity(0)) - os.getloadavg()[0]))


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0].strip().rstrip(".:") if lines else ""
    said = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return said if len(said) <= 300 else said[:297] + "..."


def _code(error: BaseException) -> ExitCode:
    said = str(error).lower()
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or "no space left" in said:
        return ExitCode.NO_ROOM
    if isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY):
        return ExitCode.NO_ROOM
    return ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
