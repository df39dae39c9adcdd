"""A run: from a plan to an export, step by step, each of which is skipped when it was done before.

source -> calibrate -> reference -> quantize -> (put together, verified) -> serve -> published.
The steps between source and quantized weights are a worker's, in the quantizer's environment.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantization import environments, export, fetching, room, supervising
from quantization import job as jobs
from quantization.calibration import Request, identity
from quantization.card import licence_of
from quantization.digests import Digests, sha256
from quantization.display import Display
from quantization.environments import Environment
from quantization.errors import ExitCode, QuantizationError
from quantization.gauge import Bounds, Gauge, Served, breaches, of_served
from quantization.home import Home
from quantization.job import Job, StepName
from quantization.metadata import Metadata, Source
from quantization.planning import Plan
from quantization.recipes import Recipe
from quantization.state import State, working
from quantization.supervising import Command, Event, supervise
from quantization.verification import check, check_numbers

# Goes into every key; raised when the same recipe comes to make something else.
_VERSION: Final = 1
_KEPT_PACKAGES: Final = (
    "llmcompressor",
    "compressed-tensors",
    "autoawq",
    "torch",
    "transformers",
    "tokenizers",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to make.

    `out` is None for the usual place. `serve`: measure it in vLLM too. `held_out`: a file of texts
    to measure with, None for those that come with the project.
    """

    plan: Plan
    request: Request | None
    bounds: Bounds
    out: Path | None = None
    force: bool = False
    serve: bool = True
    held_out: Path | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """An export. `cached`: it was there."""

    folder: Path
    metadata: Metadata
    cached: bool


def run(wanted: Wanted, home: Home, display: Display) -> Made:
    """The export of a plan, made or found.

    Raises:
        QuantizationError: it cannot be made; what was done is kept, and a second run goes on there.
    """
    try:
        return _Run(wanted, home, display).run()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise QuantizationError(
                f"The disk is full ({error.filename or home.root}): make room, and run it again to "
                "go on from here.",
                ExitCode.NO_ROOM,
            ) from error
        raise QuantizationError(
            f"{error.filename or home.root} cannot be read or written ({error.strerror or error}).",
            ExitCode.FAILED,
        ) from error


def key_of(
    recipe: Recipe,
    source: dict[str, str],
    calibration: dict[str, str] | None,
    tools: dict[str, str],
) -> str:
    """What is made, in 16 hex digits: the same wherever and whenever the same is made.

    Args:
        source: `fetching.identity`.
        calibration: `calibration.identity`.
        tools: packages of the quantizer's environment; on which hardware they run does not count.
    """
    content = {
        "version": _VERSION,
        "source": source,
        "recipe": recipe.fingerprint,
        "calibration": calibration,
        "tools": {name: tools[name] for name in (recipe.backend, "transformers")},
    }
    canonical = json.dumps(content, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class _Run:
    """One run, from its key to its export."""

    def __init__(self, wanted: Wanted, home: Home, display: Display) -> None:
        self._wanted = wanted
        self._plan = wanted.plan
        self._home = home
        self._display = display
        self._digests = Digests(home.root / "digests.json")
        self._cuda = bool(wanted.plan.target.there and wanted.plan.target.hardware.gpus)
        self._known = identity(wanted.request) if wanted.request is not None else None
        self._tools = environments.pins(wanted.plan.recipe.backend, cuda=self._cuda)

    def run(self) -> Made:
        source = fetching.identity(self._plan.checkpoint, self._digests)
        self._digests.save()
        key = key_of(self._plan.recipe, source, self._known, self._tools)
        usual = self._home.exports / self._name(key)
        place = self._wanted.out or usual
        if not self._wanted.force:
            found = self._found(place, usual, key)
            if found is not None:
                return found
        export.refuse_foreign(place, key, force=self._wanted.force)
        gauges = room.check(self._plan, self._home, place, cuda=self._cuda)
        environment = environments.ensure(
            self._plan.recipe.backend, self._home, cuda=self._cuda, say=self._display.say
        )
        label = {"key": key, "model": self._plan.checkpoint.model, "export": place.name}
        with working(self._home.work / key, label, afresh=self._wanted.force) as state:
            work = _Work(
                self._wanted, state, self._display, self._digests, environment, self._known
            )
            folder, metadata = work.make(key, source, gauges, cuda=self._cuda)
            if self._wanted.out is not None and place != usual:
                export.refuse_foreign(place, key, force=self._wanted.force)
            export.publish(folder, place)
            shutil.rmtree(state.folder, ignore_errors=True)
        return Made(place, metadata, cached=False)

    def _found(self, place: Path, usual: Path, key: str) -> Made | None:
        metadata = export.find(place, key)
        if metadata is None and place != usual:
            metadata = export.find(usual, key)
            if metadata is not None:
                export.refuse_foreign(place, key, force=False)
                export.copy(usual, place)
        if metadata is None:
            return None
        _check_bounds(metadata.measured, self._wanted.bounds)
        return Made(place, metadata, cached=True)

    def _name(self, key: str) -> str:
        model = self._plan.checkpoint.model.rstrip("/").rpartition("/")[2]
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip(".-") or "model"
        return f"{plain[:64]}-{self._plan.recipe.method}-{key}"


class _Work:
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
        export.assemble(source, self._state.folder / "quantized", folder)
        try:
            after = check(folder, self._plan.recipe, self._plan.layers)
        except QuantizationError:
            self._state.forget("quantize")
            raise
        gauge = self._gauge(source, folder)
        metadata = self._metadata(key, identity_, source, gauge, gauges, after.weight_bytes)
        _check_bounds(gauge, self._wanted.bounds)
        return folder, export.describe(folder, metadata)

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

    def _held_out(self) -> dict[str, str] | None:
        path = self._wanted.held_out
        return {"name": path.name, "sha256": sha256(path)} if path is not None else None

    def _metadata(
        self,
        key: str,
        identity_: dict[str, str],
        source: Path,
        gauge: Gauge | None,
        gauges: room.Gauges,
        weight_bytes: int,
    ) -> Metadata:
        checkpoint, recipe = self._plan.checkpoint, self._plan.recipe
        on_hub = checkpoint.place != "folder"
        name = checkpoint.model if on_hub else Path(checkpoint.model).expanduser().resolve().name
        record = (self._state.result("calibrate") or {}).get("record")
        packages = self._environment.packages
        steps = ("source", "calibrate", "reference", "quantize", "serve")
        results = {step: self._state.result(step) for step in steps}
        return Metadata(
            key=key,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            source_model=name,
            source=Source(
                model=name,
                on_hub=on_hub,
                revision=checkpoint.revision,
                content=identity_.get("content"),
                architecture=checkpoint.architecture,
                parameters=checkpoint.parameters,
                weight_bytes=checkpoint.weight_bytes,
                licence=licence_of(source),
            ),
            recipe=recipe.model_dump(mode="json"),
            fingerprint=recipe.fingerprint,
            awq_version=self._environment.tool,
            tools={name: packages[name] for name in _KEPT_PACKAGES if name in packages},
            quantization_config={
                "scheme": recipe.scheme,
                "zero_point": not recipe.symmetric,
                "q_group_size": recipe.group_size,
                "w_bit": recipe.bits,
                "version": "gemm" if recipe.backend == "autoawq" else recipe.format,
                "targets": "Linear",
                "ignore": list(recipe.ignore),
                "backend": recipe.backend,
            },
            calibration_seqlen=recipe.sequence_length,
            calibration_dataset=record.get("dataset") if record else None,
            calibration_config=record,
            quantized_layers=len(self._plan.layers),
            weight_bytes=weight_bytes,
            gauge=gauge.model_dump(mode="json") if gauge is not None else None,
            held_out=self._held_out(),
            gauge_note=gauges.why or None,
            served_note=None if self._wanted.serve else "It was not measured in vLLM.",
            bounds=self._wanted.bounds.model_dump(),
            hardware=str(self._plan.target),
            seconds={step: one["seconds"] for step, one in results.items() if one},
        )


def _check_bounds(gauge: Gauge | None, bounds: Bounds) -> None:
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
