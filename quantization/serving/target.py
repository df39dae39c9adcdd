"""The hardware that a model is to run on: this machine's, or one that is not there.

Read without torch: NVIDIA's driver is asked through nvidia-smi, the CPU through /proc/cpuinfo. A
GPU of another maker is not seen; name its memory and capability instead.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yap.chat.tuning import hardware
from yap.chat.tuning.hardware import Gpu, Hardware

_QUERY: Final = "--query-gpu=index,uuid,memory.total,memory.free,compute_cap"
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Hardware, and what matters of the CPU: whether it has AMX tiles. `there`: is it this one?"""

    hardware: Hardware
    amx: bool = False
    there: bool = True

    def __str__(self) -> str:
        if not self.hardware.cpu:
            return str(self.hardware)
        return f"{self.hardware}, {'with' if self.amx else 'without'} AMX"


def this_machine() -> Target:
    """What is here; CUDA_VISIBLE_DEVICES is obeyed."""
    found = hardware.only_cpu()
    return Target(dataclasses.replace(found, gpus=_gpus()), amx=_amx())


def this_cpu() -> Target:
    """This machine as if it had no GPU."""
    return Target(hardware.only_cpu(), amx=_amx())


def imagined(memory_gib: float, capability: tuple[int, int], gpus: int = 1) -> Target:
    """GPUs that need not be there."""
    return Target(hardware.imagined(memory_gib, capability, gpus), there=False)


def _gpus() -> tuple[Gpu, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        result = subprocess.run(
            [command, _QUERY, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(result.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse(table: str, visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's table, in the order that CUDA_VISIBLE_DEVICES gives them."""
    found: dict[str, Gpu] = {}
    order = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5:
            continue
        index, uuid, total, free, capability = cells
        if not total.isdigit():
            continue
        major, _, minor = capability.partition(".")
        known = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
        gpu = Gpu(int(total) * _MIB, int(free) * _MIB if free.isdigit() else None, known)
        found[index] = found[uuid] = gpu
        order.append(gpu)
    if visible is None:
        return tuple(order)
    names = [name.strip() for name in visible.split(",")]
    # As CUDA does: what comes after a name that is not there is not seen.
    seen = []
    for name in names:
        if name not in found:
            break
        seen.append(found[name])
    return tuple(seen)


def _amx() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "amx_tile" in line.split()
