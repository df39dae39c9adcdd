"""What an export says of itself: `quantization_metadata.json`, and the older `awq_metadata.json`.

The older file's keys are all in the newer one, with the same meaning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantization.digests import sha256
from quantization.errors import ExitCode, QuantizationError

if TYPE_CHECKING:  # whoever only reads an export does without what these import
    from quantization.gauge import Bounds, Gauge
    from quantization.model.checkpoint import Checkpoint
    from quantization.planning.plan import Plan
    from quantization.planning.recipes import Recipe

NAME: Final = "quantization_metadata.json"
OLDER: Final = "awq_metadata.json"
CARD: Final = "README.md"
# The older file's keys.
_OLDER_KEYS: Final = (
    "source_model",
    "awq_version",
    "quantization_config",
    "calibration_seqlen",
    "pipeline",
    "calibration_dataset",
    "calibration_config",
)
_VERSION: Final = 1
_KEPT_PACKAGES: Final = (
    "llmcompressor",
    "compressed-tensors",
    "autoawq",
    "torch",
    "transformers",
    "tokenizers",
)


class File(BaseModel):
    """One file of an export."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bytes: int
    sha256: str


class Source(BaseModel):
    """What was quantized. `content` is a digest of a local folder's files, `revision` a commit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    on_hub: bool
    revision: str | None = None
    content: str | None = None
    architecture: str
    parameters: int | None = None
    weight_bytes: int
    licence: dict[str, str] = Field(default_factory=dict)


class Metadata(BaseModel):
    """All of it. `files` has every file but this one and the card, which people may edit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: Literal["yap-text-inference"] = "yap-text-inference"
    format_version: int = _VERSION
    key: str
    created: str
    source_model: str
    source: Source
    recipe: dict[str, Any]
    fingerprint: str
    awq_version: str
    tools: dict[str, str]
    quantization_config: dict[str, Any]
    calibration_seqlen: int | None = None
    calibration_dataset: dict[str, Any] | None = None
    calibration_config: dict[str, Any] | None = None
    quantized_layers: int
    weight_bytes: int
    gauge: dict[str, Any] | None = None  # `measured` reads it: its model wants numpy
    held_out: dict[str, str] | None = None  # the file that was measured with, if not ours
    gauge_note: str | None = None
    served_note: str | None = None
    bounds: dict[str, float | None] = Field(default_factory=dict)
    hardware: str
    seconds: dict[str, float] = Field(default_factory=dict)
    files: dict[str, File] = Field(default_factory=dict)

    @property
    def measured(self) -> Gauge | None:
        """What the gauge found; None where it could not be asked."""
        from quantization.gauge import Gauge

        return Gauge.model_validate(self.gauge) if self.gauge is not None else None

    def older(self) -> dict[str, Any]:
        """What the older file says."""
        said = self.model_dump(mode="json")
        return {name: said[name] for name in _OLDER_KEYS}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run has found out. `calibration` is the record of its data; `seconds` go by step.

    `held_out` names the file that was measured with, None for the project's own texts.
    """

    weight_bytes: int
    calibration: dict[str, Any] | None
    gauge: Gauge | None
    held_out: dict[str, str] | None
    gauge_note: str | None
    served_note: str | None
    bounds: Bounds
    seconds: dict[str, float]


def metadata_of(
    plan: Plan,
    source: Source,
    findings: Findings,
    *,
    key: str,
    tool: str,
    packages: Mapping[str, str],
) -> Metadata:
    """The metadata of an export that was made just now; its `files` are not known yet.

    Args:
        tool: the quantizer with its version.
        packages: of the quantizer's environment, name -> version.
    """
    recipe, record, gauge = plan.recipe, findings.calibration, findings.gauge
    return Metadata(
        key=key,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        source_model=source.model,
        source=source,
        recipe=recipe.model_dump(mode="json"),
        fingerprint=recipe.fingerprint,
        awq_version=tool,
        tools={name: packages[name] for name in _KEPT_PACKAGES if name in packages},
        quantization_config=_layout(recipe),
        calibration_seqlen=recipe.sequence_length,
        calibration_dataset=record.get("dataset") if record else None,
        calibration_config=record,
        quantized_layers=len(plan.layers),
        weight_bytes=findings.weight_bytes,
        gauge=gauge.model_dump(mode="json") if gauge is not None else None,
        held_out=findings.held_out,
        gauge_note=findings.gauge_note,
        served_note=findings.served_note,
        bounds=findings.bounds.model_dump(),
        hardware=str(plan.target),
        seconds=findings.seconds,
    )


def source_of(checkpoint: Checkpoint, content: str | None, licence: dict[str, str]) -> Source:
    """What is said of the float model; a folder is known by its last name alone."""
    on_hub = checkpoint.place != "folder"
    return Source(
        model=checkpoint.model if on_hub else Path(checkpoint.model).expanduser().resolve().name,
        on_hub=on_hub,
        revision=checkpoint.revision,
        content=content,
        architecture=checkpoint.architecture,
        parameters=checkpoint.parameters,
        weight_bytes=checkpoint.weight_bytes,
        licence=licence,
    )


def _layout(recipe: Recipe) -> dict[str, Any]:
    """How the weights are quantized, in the older file's words."""
    return {
        "scheme": recipe.scheme,
        "zero_point": not recipe.symmetric,
        "q_group_size": recipe.group_size,
        "w_bit": recipe.bits,
        "version": "gemm" if recipe.backend == "autoawq" else recipe.format,
        "targets": "Linear",
        "ignore": list(recipe.ignore),
        "backend": recipe.backend,
    }


def read_metadata(folder: Path) -> Metadata:
    """What an export says of itself.

    Raises:
        QuantizationError: the folder is no export that was made here, or its metadata is damaged.
    """
    path = folder / NAME
    try:
        return Metadata.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise QuantizationError(
            f"{folder} is no export of this project: it holds no {NAME}.", ExitCode.NOT_FOUND
        ) from None
    except (OSError, ValueError, ValidationError) as error:
        raise QuantizationError(
            f"{path} is damaged: make the export again with --force.", ExitCode.DAMAGED
        ) from error


def check_files(folder: Path, metadata: Metadata, *, deep: bool) -> None:
    """Whether every file of an export is there and whole.

    Args:
        deep: read them and compare their SHA-256, not only their sizes.

    Raises:
        QuantizationError: one is not.
    """
    for name, file in metadata.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            raise _damaged(folder, f"{name} is missing") from None
        if size != file.bytes:
            raise _damaged(folder, f"{name} has {size:,} bytes, not {file.bytes:,}")
        if deep and sha256(path) != file.sha256:
            raise _damaged(folder, f"the checksum of {name} is another")


def _damaged(folder: Path, why: str) -> QuantizationError:
    return QuantizationError(
        f"The export {folder} is damaged ({why}): make it again with --force.", ExitCode.DAMAGED
    )
