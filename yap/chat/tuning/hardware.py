"""The hardware that is there: memory, compute capability, cores. Names of products play no part.

Nothing here starts CUDA in this process: a context of its own would cost half a GiB of the GPU.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yap.errors import StartupError

log = logging.getLogger(__name__)

GIB: Final = 1 << 30
_CGROUP: Final = Path("/sys/fs/cgroup")  # version 2, as containers see it


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: bytes in all, bytes free just now, NVIDIA's compute capability."""

    memory: int
    free: int | None = None
    capability: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the engine may use. Without GPUs it runs on the CPU.

    `memory` is the machine's in bytes, or its container's; `cores` likewise.
    """

    gpus: tuple[Gpu, ...]
    memory: int
    cores: int

    @property
    def cpu(self) -> bool:
        """Whether the engine runs on the CPU."""
        return not self.gpus

    @property
    def capability(self) -> tuple[int, int] | None:
        """The least compute capability of all GPUs; None where it is not known."""
        known = [gpu.capability for gpu in self.gpus]
        return min((c for c in known if c), default=None) if all(known) else None

    def __str__(self) -> str:
        if self.cpu:
            return f"a CPU with {self.cores} cores and {self.memory / GIB:.0f} GiB"
        memory = min(gpu.memory for gpu in self.gpus) / GIB
        capability = ".".join(map(str, self.capability)) if self.capability else "unknown"
        many = f"{len(self.gpus)} GPUs of" if len(self.gpus) > 1 else "a GPU of"
        return f"{many} {memory:.0f} GiB, compute capability {capability}"


def read() -> Hardware:
    """The hardware that vLLM will use here.

    Raises:
        StartupError: this vLLM was built for GPUs, and there is none.
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return Hardware((), _memory(), _cores())
    gpus = _gpus()
    if not gpus:
        raise StartupError(
            "The vLLM that is installed is for GPUs, and it finds none: see what nvidia-smi says, "
            "check CUDA_VISIBLE_DEVICES, start a container with its GPUs (docker run --gpus all), "
            "or install for the CPU (scripts/install.sh cpu; an image: scripts/build.sh --cpu)."
        )
    return Hardware(gpus, _memory(), _cores())


def imagined(memory_gib: float, capability: tuple[int, int], gpus: int) -> Hardware:
    """GPUs that need not be there, in this machine."""
    gpu = Gpu(int(memory_gib * GIB), None, capability)
    return Hardware((gpu,) * gpus, _memory(), _cores())


def only_cpu() -> Hardware:
    """This machine without its GPUs."""
    return Hardware((), _memory(), _cores())


def _gpus() -> tuple[Gpu, ...]:
    import torch
    from vllm.platforms import current_platform

    if current_platform.is_unspecified():
        return ()
    found = []
    for index in range(torch.accelerator.device_count()):
        capability = current_platform.get_device_capability(index)
        memory = int(current_platform.get_device_total_memory(index))
        nvidia = current_platform.is_cuda() and capability is not None
        found.append(
            Gpu(memory, _free(index), (capability.major, capability.minor) if nvidia else None)
        )
    return tuple(found)


def _free(index: int) -> int | None:
    """Bytes free on a GPU, from the driver's management library; None where it does not say."""
    from vllm.platforms import current_platform
    from vllm.utils.import_utils import import_pynvml

    try:
        nvml = import_pynvml()
        nvml.nvmlInit()
        try:
            physical = current_platform.device_id_to_physical_device_id(index)
            handle = nvml.nvmlDeviceGetHandleByIndex(physical)
            return int(nvml.nvmlDeviceGetMemoryInfo(handle).free)
        finally:
            nvml.nvmlShutdown()
    except Exception as error:  # noqa: BLE001 - no such library, a part of a GPU, another maker
        log.debug("Free memory of GPU %d is not known: %s", index, error)
        return None


def _memory() -> int:
    """Bytes of memory: the machine's, or what its container may use."""
    import psutil

    machine = int(psutil.virtual_memory().total)
    limit = _cgroup_numbers("memory.max")
    return min(machine, int(limit[0])) if limit else machine


def _cores() -> int:
    """Cores that this process may use: affinity and a container's quota counted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_numbers("cpu.max")  # microseconds of CPU time, in so many microseconds
    if len(quota) == 2 and quota[1] > 0:
        return max(1, min(cores or 1, math.ceil(quota[0] / quota[1])))
    return cores or 1


def _cgroup_numbers(name: str) -> Sequence[float]:
    """The numbers in a file of the control group; none where there is no limit."""
    with suppress(OSError, ValueError):
        return [float(word) for word in (_CGROUP / name).read_text().split()]
    return ()
