"""A run: from a plan to an export, made or found.

source -> calibrate -> reference -> quantize -> (put together, verified) -> serve -> published.
"""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from quantization.calibration import identity
from quantization.digests import Digests
from quantization.errors import ExitCode, QuantizationError
from quantization.export import folder as exports
from quantization.export.metadata import Metadata
from quantization.home import Home
from quantization.model import fetching
from quantization.running import environments, room
from quantization.running.display import Display
from quantization.running.state import working
from quantization.running.steps import Steps, check_bounds
from quantization.running.wanted import Wanted, key_of


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
        exports.refuse_foreign(place, key, force=self._wanted.force)
        gauges = room.check(self._plan, self._home, place, cuda=self._cuda)
        environment = environments.ensure(
            self._plan.recipe.backend, self._home, cuda=self._cuda, say=self._display.say
        )
        label = {"key": key, "model": self._plan.checkpoint.model, "export": place.name}
        with working(self._home.work / key, label, afresh=self._wanted.force) as state:
            steps = Steps(
                self._wanted, state, self._display, self._digests, environment, self._known
            )
            folder, metadata = steps.make(key, source, gauges, cuda=self._cuda)
            if self._wanted.out is not None and place != usual:
                exports.refuse_foreign(place, key, force=self._wanted.force)
            exports.publish(folder, place)
            shutil.rmtree(state.folder, ignore_errors=True)
        return Made(place, metadata, cached=False)

    def _found(self, place: Path, usual: Path, key: str) -> Made | None:
        metadata = exports.find(place, key)
        if metadata is None and place != usual:
            metadata = exports.find(usual, key)
            if metadata is not None:
                exports.refuse_foreign(place, key, force=False)
                exports.copy(usual, place)
        if metadata is None:
            return None
        check_bounds(metadata.measured, self._wanted.bounds)
        return Made(place, metadata, cached=True)

    def _name(self, key: str) -> str:
        model = self._plan.checkpoint.model.rstrip("/").rpartition("/")[2]
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip(".-") or "model"
        return f"{plain[:64]}-{self._plan.recipe.method}-{key}"
