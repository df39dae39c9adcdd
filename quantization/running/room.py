"""Whether there is room for a run, looked at before anything long starts."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantization.errors import ExitCode, QuantizationError
from quantization.home import Home
from quantization.planning.plan import Plan
from quantization.running import environments

_GIB: Final = 1 << 30
# What a process with its libraries takes.
_PROCESS: Final = _GIB
# Files of the gauge and the logs, at most.
_BESIDE: Final = _GIB // 2


@dataclass(frozen=True, slots=True)
class Gauges:
    """Whether the original and the result can be held against each other in process."""

    in_process: bool
    why: str = ""


def check(plan: Plan, home: Home, place: Path, *, cuda: bool) -> Gauges:
    """Refuse what there is no room for; whether the model can be measured in memory.

    Raises:
        QuantizationError: disk or memory will not do.
    """
    _check_disk(plan, home, place, cuda=cuda)
    available = _available()
    if available is None:
        return Gauges(in_process=True)
    if plan.estimate.memory > available:
        raise QuantizationError(
            f"It needs about {plan.estimate.memory / _GIB:.1f} GiB of memory, and "
            f"{available / _GIB:.1f} are free: end other programs, use a machine with more, or "
            "take a method without calibration (--method rtn).",
            ExitCode.NO_ROOM,
        )
    parameters = plan.checkpoint.parameters or plan.checkpoint.weight_bytes // 2
    measured = _PROCESS + 2 * 2 * parameters  # the model in 16 bits, and what rounding copies
    if measured > available:
        return Gauges(
            in_process=False,
            why=f"It was not held against the original in process: that takes "
            f"{measured / _GIB:.1f} GiB of memory, and {available / _GIB:.1f} were free.",
        )
    return Gauges(in_process=True)


def _check_disk(plan: Plan, home: Home, place: Path, *, cuda: bool) -> None:
    estimate = plan.estimate
    needs = [(home.root, estimate.export + _BESIDE)]
    if not environments.is_there(plan.recipe.backend, home, cuda=cuda):
        needs.append((home.root, estimate.environment))
    if estimate.download:
        needs.append((_hub_cache(), estimate.download))
    if _device(place) != _device(home.root):
        needs.append((place, estimate.export))
    together: dict[int, tuple[Path, int]] = {}
    for path, size in needs:
        first, sum_ = together.get(_device(path), (path, 0))
        together[_device(path)] = (first, sum_ + size)
    for path, size in together.values():
        free = shutil.disk_usage(_existing(path)).free
        if free < size:
            raise QuantizationError(
                f"It needs about {size / _GIB:.1f} GiB of disk at {path}, and {free / _GIB:.1f} "
                "are free: make room, or name another folder in YAP_QUANTIZATION_DIR, --out or "
                "HF_HOME.",
                ExitCode.NO_ROOM,
            )


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _device(path: Path) -> int:
    return os.stat(_existing(path)).st_dev  # noqa: PTH116 - one call for both


def _available() -> int | None:
    """Bytes of memory that a new process can have; a container's limit counts."""
    import psutil

    available = int(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return available
    return min(available, max(0, limit - used))
