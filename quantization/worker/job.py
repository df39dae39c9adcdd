"""What a worker is told to do, and where it leaves what it made; it reads this at start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from quantization.planning.recipes import Recipe

StepName = Literal["calibrate", "reference", "quantize"]


class Job(BaseModel):
    """The part of a run that is done in a quantizer's environment.

    `source` is a folder with the float weights. `request` holds the arguments of
    `calibration.Request` and `known` its identity, None where the method needs no data. `held_out`
    is a file of texts to measure with, None for those that come with the project. `gauge`: whether
    the model fits into memory to be measured before and after. `offload`: calibration keeps
    its activations in the machine's memory. `towers` are the roots of encoders of images and sound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Path
    work: Path
    recipe: Recipe
    architecture: str
    towers: tuple[str, ...]
    longest: int | None
    own_code: bool
    cuda: bool
    offload: bool
    gauge: bool
    request: dict[str, Any] | None
    known: dict[str, str] | None
    held_out: Path | None = None
    steps: tuple[StepName, ...]

    @property
    def out(self) -> Path:
        """Where the quantizer writes weights and config."""
        return self.work / "quantized"

    @property
    def measured(self) -> Path:
        """Where the gauge keeps held-out rows and what the original says to them."""
        return self.work / "gauge"


FILE: Final = "job.json"


def write(job: Job) -> Path:
    """Leave a job for its worker; the file."""
    path = job.work / FILE
    path.write_text(job.model_dump_json(indent=2), encoding="utf-8")
    return path


def read(path: Path) -> Job:
    """The job of a file. Raises ValueError or OSError."""
    values = json.loads(path.read_text(encoding="utf-8"))
    # JSON has no tuples, and a recipe takes nothing else.
    recipe = values["recipe"]
    recipe["ignore"] = tuple(recipe["ignore"])
    return Job.model_validate({**values, "recipe": Recipe.model_validate(recipe)})
