"""`python -m quantization.worker JOB.json`: does the steps of a job, in order.

Its standard output is JSON, one event a line. Whatever libraries print goes to standard error. It
ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError
from quantization.worker import job as jobs
from quantization.worker.events import claim_output
from quantization.worker.job import Job
from quantization.worker.work import Work

_PR_SET_PDEATHSIG: Final = 1
# What it says last, by kind of failure, for people; the traceback is in the log.
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")


def main(arguments: list[str]) -> int:
    """Do the steps of a job, in order; 0 when all are done."""
    _end_with_parent()
    events = claim_output()
    try:
        job = jobs.read(Path(arguments[0]))
        os.chdir(job.work)
        _prepare(job)
        backend = importlib.import_module(f"quantization.worker.backends.{job.recipe.backend}")
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


def _end_with_parent() -> None:
    """Be killed when the process that started this has gone."""
    with_libc = ctypes.CDLL(None, use_errno=True)
    with_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit(1)


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
