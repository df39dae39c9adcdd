"""A recipe: everything that decides what comes out of a quantization, and nothing else.

What a recipe says is what is applied, and its fingerprint is part of the key under which an export
is cached; so whatever changes the result is in here, and paths, devices and progress are not.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from quantization.errors import ExitCode, QuantizationError
from quantization.planning.methods import METHODS, Backend, MethodName

# Goes into every fingerprint; raised when the same recipe comes to mean something else.
_VERSION: Final = 1
_MOST_FILE: Final = 1 << 20


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        if not pattern.strip() or pattern != pattern.strip():
            raise ValueError(f'"{pattern}" names no layer')
        if pattern.startswith("re:"):
            try:
                re.compile(pattern[3:])
            except re.error as error:
                raise ValueError(f'"{pattern}" is no regular expression ({error})') from error
    return tuple(sorted(set(value)))


Patterns = Annotated[tuple[str, ...], AfterValidator(_patterns)]
Dataset = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^\S(.*\S)?$")]
Samples = Annotated[int, Field(ge=1, le=100_000)]
SequenceLength = Annotated[int, Field(ge=16, le=131_072)]
GroupSize = Annotated[int, Field(ge=1, le=4096)]

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Recipe(BaseModel):
    """What is done to the weights, in full.

    `group_size` is None for one scale a channel. `ignore` holds names of layers, and regular
    expressions after "re:", as llmcompressor takes them. `dataset`, `samples` and
    `sequence_length` (tokens) are None for methods without calibration.
    """

    model_config = _STRICT

    method: MethodName
    backend: Backend
    bits: int
    group_size: GroupSize | None
    symmetric: bool
    ignore: Patterns
    dataset: Dataset | None = None
    samples: Samples | None = None
    sequence_length: SequenceLength | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        method = METHODS[self.method]
        if self.bits != method.bits:
            raise ValueError(f"{self.method} makes {method.bits} bits, not {self.bits}")
        if self.backend == "autoawq" and self.method != "awq":
            raise ValueError(f"autoawq makes awq, not {self.method}")
        if self.backend == "autoawq" and self.symmetric:
            raise ValueError("autoawq's format is served with zero points: symmetric must be false")
        if not self.symmetric and method.asymmetric_scheme is None:
            raise ValueError(f"{self.method} is symmetric")
        if not method.groups and self.group_size != method.group_size:
            fixed = f"groups of {method.group_size}" if method.group_size else "no groups"
            raise ValueError(f"{self.method} has {fixed}: leave group_size out")
        given = [name for name in ("dataset", "samples", "sequence_length") if getattr(self, name)]
        if method.data_free and given:
            raise ValueError(f"{self.method} needs no calibration: leave out {', '.join(given)}")
        if not method.data_free and len(given) < 3:
            raise ValueError(f"{self.method} needs dataset, samples and sequence_length")
        return self

    @property
    def scheme(self) -> str:
        """compressed-tensors' name for it."""
        method = METHODS[self.method]
        return method.scheme if self.symmetric else method.asymmetric_scheme or method.scheme

    @property
    def format(self) -> str:
        """What comes out: a key of `formats.FORMATS`."""
        return "awq" if self.backend == "autoawq" else METHODS[self.method].format

    @property
    def fingerprint(self) -> str:
        """The same for the same recipe, on any machine and in any process; 16 hex digits."""
        content = {"version": _VERSION, **self.model_dump(mode="json")}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class Choices(BaseModel):
    """What somebody asks for: any part of a recipe; the rest is decided by the plan."""

    model_config = _STRICT

    method: MethodName | None = None
    backend: Backend | None = None
    bits: int | None = None
    group_size: GroupSize | None = None
    symmetric: bool | None = None
    ignore: Patterns | None = None
    dataset: Dataset | None = None
    samples: Samples | None = None
    sequence_length: SequenceLength | None = None


def load(path: Path) -> Choices:
    """The recipe in a YAML or JSON file; it may leave out what the plan is to decide.

    Raises:
        QuantizationError: it cannot be read, or says something that cannot be.
    """
    import yaml

    try:
        if path.stat().st_size > _MOST_FILE:
            raise ValueError("it is far too large")
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise QuantizationError(
            f"The recipe {path} cannot be read ({error.strerror}).", ExitCode.USAGE
        ) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise QuantizationError(
            f"The recipe {path} is neither YAML nor JSON ({line}).", ExitCode.USAGE
        ) from error
    if not isinstance(found, dict):
        raise QuantizationError(
            f"The recipe {path} holds no keys: write, say, method: awq.", ExitCode.USAGE
        )
    return choices(found, str(path))


def choices(values: dict[str, Any], where: str) -> Choices:
    """Choices made of plain values.

    Args:
        where: whose they are, for the message.

    Raises:
        QuantizationError: a value cannot be.
    """
    # YAML and JSON have lists and no tuples.
    if isinstance(values.get("ignore"), list):
        values = {**values, "ignore": tuple(values["ignore"])}
    try:
        return Choices.model_validate(values)
    except ValidationError as error:
        raise QuantizationError(explain(error, where, Choices), ExitCode.USAGE) from error


def build(values: dict[str, Any], where: str) -> Recipe:
    """The recipe of these values.

    Raises:
        QuantizationError: they do not go together.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise QuantizationError(explain(error, where, Recipe), ExitCode.USAGE) from error


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """One sentence for all that is wrong."""
    said = []
    for one in error.errors():
        name = ".".join(map(str, one["loc"]))
        if one["type"] == "extra_forbidden":
            said.append(f"{name} is unknown (there are {', '.join(model.model_fields)})")
        else:
            message = one["msg"].removeprefix("Value error, ")
            said.append(f"{name}: {message}" if name else message)
    return f"{where} cannot be: {'; '.join(said)}."
