"""The steps of a run, each of which is skipped when it was done before.

Those between the source and the quantized weights are a worker's, in the quantizer's environment.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantization.calibration import Request
from quantization.digests import Digests, sha256
from quantization.errors import ExitCode, QuantizationError
from quantization.export import folder as exports
from quantization.export.card import licence_of
from quantization.export.metadata import Findings, Metadata, metadata_of, source_of
from quantization.export.verification import check, check_numbers
from quantization.gauge import Bounds, Gauge, Served, breaches, of_served
from quantization.model import fetching
from quantization.running import room, supervising
from quantization.running.display import Display
from quantization.running.environments import Environment
from quantization.running.state import State
from quantization.running.supervising import Command, Event, supervise
from quantization.running.wanted import Wanted
from quantization.worker import job as jobs
from quantization.worker.job import Job, StepName


class Steps:
    """The steps of one run, in its work folder."""

    def __init__(
        self,
        wanted: Wanted,
        state: State,
        display: Display,
        digests: Digests,
        environment: Environment,
        known: dict[str, str] | None,
    ) -> None:
        self._known = known
        self._wanted = wanted
        self._plan = wanted.plan
        self._state = state
        self._display = display
        self._digests = digests
        self._environment = environment

    def make(
        self, key: str, identity_: dict[str, str], gauges: room.Gauges, *, cuda: bool
    ) -> tuple[Path, Metadata]:
        """The finished folder, still under its work name, and what it says of itself."""
        source = Path(str(self._step("source", self._source)["folder"]))
        self._quantize(source, gauges, cuda=cuda)
        folder = self._state.folder / "export"
        exports.assemble(source, self._state.folder / "quantized", folder)
        try:
            after = check(folder, self._plan.recipe, self._plan.layers)
        except QuantizationError:
            self._state.forget("quantize")
            raise
        gauge = self._gauge(source, folder)
        metadata = self._metadata(key, identity_, source, gauge, gauges, after.weight_bytes)
        check_bounds(gauge, self._wanted.bounds)
        return folder, exports.describe(folder, metadata)

    def _step(self, name: str, do: Callable[[], dict[str, Any]], what: str = "") -> dict[str, Any]:
        """The result of a step, done now or before."""
        found = self._state.result(name)
        if found is not None:
            self._display.say(f"  {name}: done before")
            return found
        started = time.monotonic()
        self._display.progress(name, 0, 0)
        result = do()
        seconds = time.monotonic() - started
        self._state.finish(name, result, seconds)
        self._display.done(name, seconds, what)
        return result

    def _source(self) -> dict[str, Any]:
        folder = fetching.fetch(self._plan.checkpoint, self._digests, self._display.progress)
        self._digests.save()
        check_numbers(folder, self._plan.checkpoint.model)
        return {"folder": str(folder)}

    # --- in the quantizer's environment ---------------------------------------------------------

    def _quantize(self, source: Path, gauges: room.Gauges, *, cuda: bool) -> None:
        steps: list[StepName] = []
        if self._wanted.request is not None:
            steps.append("calibrate")
        if gauges.in_process:
            steps.append("reference")
        steps.append("quantize")
        left = tuple(step for step in steps if self._state.result(step) is None)
        for step in steps:
            if step not in left:
                self._display.say(f"  {step}: done before")
        if not left:
            return
        shutil.rmtree(self._state.folder / "quantized", ignore_errors=True)
        path = jobs.write(self._job(source, left, gauges, cuda=cuda))
        command = Command(
            arguments=[str(self._environment.python), "-m", "quantization.worker", str(path)],
            log=self._state.log,
            environ=supervising.environment(),
            name=self._environment.backend,
        )
        supervise(command, self._on_event())

    def _job(
        self, source: Path, steps: tuple[StepName, ...], gauges: room.Gauges, *, cuda: bool
    ) -> Job:
        checkpoint, request = self._plan.checkpoint, self._wanted.request
        return Job(
            source=source,
            work=self._state.folder,
            recipe=self._plan.recipe,
            architecture=checkpoint.architecture,
            towers=checkpoint.towers,
            longest=checkpoint.longest,
            own_code=checkpoint.own_code,
            cuda=cuda,
            offload=self._plan.offload,
            gauge=gauges.in_process,
            request=_plain(request) if request is not None else None,
            known=self._known,
            held_out=self._wanted.held_out,
            steps=steps,
        )

    def _on_event(self) -> Callable[[Event], None]:
        """Keeps the results of steps as the worker tells of them."""
        since = time.monotonic()

        def on_event(event: Event) -> None:
            nonlocal since
            kind, step = event.get("event"), str(event.get("step"))
            if kind == "start":
                since = time.monotonic()
                self._display.progress(step, 0, 0)
            elif kind == "progress":
                self._display.progress(step, int(event["done"]), int(event["total"]))
            elif kind == "done":
                seconds = time.monotonic() - since
                self._state.finish(step, event.get("result") or {}, seconds)
                self._display.done(step, seconds)
                for note in (event.get("result") or {}).get("record", {}).get("notes", ()):
                    self._display.say(f"  note: {note}")

        return on_event

    # --- what it is worth -----------------------------------------------------------------------

    def _gauge(self, source: Path, folder: Path) -> Gauge | None:
        said = (self._state.result("quantize") or {}).get("gauge")
        gauge = Gauge.model_validate(said) if said else None
        rows = self._state.folder / "gauge" / "rows.json"
        if not self._wanted.serve or not rows.exists():
            return gauge
        found = self._step("serve", lambda: self._serve(source, folder, rows))
        served = Served.model_validate(found["served"])
        if gauge is not None:
            return gauge.model_copy(update={"served": served})
        return of_served(served) if served.comparison is not None else None

    def _serve(self, source: Path, folder: Path, rows: Path) -> dict[str, Any]:
        out = self._state.folder / "served.json"
        arguments = [sys.executable, "-m", "quantization.gauge.served"]
        arguments += ["--original", str(source), "--quantized", str(folder)]
        arguments += ["--rows", str(rows), "--out", str(out)]
        kept = {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
        command = Command(
            arguments,
            self._state.log,
            supervising.environment(**kept),
            "The gauge in vLLM",
            "serve",
        )

        def on_event(event: Event) -> None:
            if event.get("event") == "progress":
                self._display.progress("serve", int(event["done"]), int(event["total"]))

        supervise(command, on_event)
        return {"served": json.loads(out.read_text(encoding="utf-8"))}

    def _metadata(
        self,
        key: str,
        identity_: dict[str, str],
        source: Path,
        gauge: Gauge | None,
        gauges: room.Gauges,
        weight_bytes: int,
    ) -> Metadata:
        steps = ("source", "calibrate", "reference", "quantize", "serve")
        results = {step: self._state.result(step) for step in steps}
        held_out = self._wanted.held_out
        findings = Findings(
            weight_bytes=weight_bytes,
            calibration=(results["calibrate"] or {}).get("record"),
            gauge=gauge,
            held_out=(
                {"name": held_out.name, "sha256": sha256(held_out)}
                if held_out is not None
                else None
            ),
            gauge_note=gauges.why or None,
            served_note=None if self._wanted.serve else "It was not measured in vLLM.",
            bounds=self._wanted.bounds,
            seconds={step: one["seconds"] for step, one in results.items() if one},
        )
        return metadata_of(
            self._plan,
            source_of(self._plan.checkpoint, identity_.get("content"), licence_of(source)),
            findings,
            key=key,
            tool=self._environment.tool,
            packages=self._environment.packages,
        )


def check_bounds(gauge: Gauge | None, bounds: Bounds) -> None:
    """Refuse what lost more than is allowed.

    Raises:
        QuantizationError: one sentence for each bound that is broken.
    """
    broken = breaches(gauge, bounds) if gauge is not None else []
    if broken:
        raise QuantizationError(
            f"More was lost than is allowed, so nothing is published. {' '.join(broken)} Take "
            "another method, more samples, or a looser bound.",
            ExitCode.BOUND,
        )


def _plain(request: Request) -> dict[str, Any]:
    """A request as JSON has it."""
    values = {
        name: getattr(request, name)
        for name in ("dataset", "samples", "sequence_length", "offline", "seed")
    }
    return {**values, "personas": str(request.personas) if request.personas else None}
