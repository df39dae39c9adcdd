"""The steps of a job: calibration rows, what the original says, and the quantized weights."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from quantization.worker.events import Events
from quantization.worker.job import Job
from quantization.writing import write_whole

_HELD_OUT: Final = "rows.json"


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


def _request(job: Job) -> dict[str, Any]:
    values = dict(job.request or {})
    personas = values.get("personas")
    return {**values, "personas": Path(personas) if personas else None}
