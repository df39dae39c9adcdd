"""The hardware that is there, and what a container leaves of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yap.chat.tuning import hardware
from yap.chat.tuning.hardware import GIB, Gpu, Hardware
from yap.errors import StartupError


def test_this_machine() -> None:
    import psutil

    found = hardware.read()
    assert found.cpu
    assert 0 < found.cores <= (os.cpu_count() or 1)
    assert 0 < found.memory <= psutil.virtual_memory().total
    assert found.capability is None


@pytest.mark.parametrize(
    ("quota", "affinity", "cores"),
    [
        ("max 100000", 8, 8),
        ("250000 100000", 8, 3),
        ("50000 100000", 8, 1),
        ("1600000 100000", 8, 8),
        (None, 8, 8),
        ("nonsense", 1, 1),
    ],
)
def test_a_containers_quota_counts(
    quota: str | None, affinity: int, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert hardware.only_cpu().cores == cores


def test_a_containers_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    whole = hardware.only_cpu().memory
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    assert hardware.only_cpu().memory == GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.only_cpu().memory == whole


def platform(monkeypatch: pytest.MonkeyPatch, gpus: Sequence[Any], **answers: Any) -> None:
    """vLLM's platform and torch, as on a machine with these GPUs."""
    import torch
    import vllm.platforms

    def capability(index: int) -> Any:
        version = gpus[index][1]
        return version and SimpleNamespace(major=version[0], minor=version[1])

    fake = SimpleNamespace(
        is_cpu=lambda: False,
        is_cuda=lambda: answers.get("cuda", True),
        is_unspecified=lambda: not gpus,
        get_device_total_memory=lambda index: gpus[index][0],
        get_device_capability=capability,
    )
    monkeypatch.setattr(vllm.platforms, "_current_platform", fake)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(gpus))


def test_gpus_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    platform(monkeypatch, [(80 * GIB, (9, 0)), (24 * GIB, (8, 9))])
    found = hardware.read()
    assert found.gpus == (Gpu(80 * GIB, None, (9, 0)), Gpu(24 * GIB, None, (8, 9)))
    assert found.capability == (8, 9)
    assert str(found) == "2 GPUs of 24 GiB, compute capability 8.9"


def test_a_gpu_of_another_maker_has_no_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    platform(monkeypatch, [(192 * GIB, (9, 4))], cuda=False)
    assert hardware.read().capability is None


def test_vllm_for_gpus_without_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    platform(monkeypatch, [])
    with pytest.raises(StartupError, match="nvidia-smi"):
        hardware.read()


def test_hardware_in_words() -> None:
    assert str(Hardware((), 24 * GIB, 2)) == "a CPU with 2 cores and 24 GiB"
    one = hardware.imagined(79.6, (9, 0), 1)
    assert str(one) == "a GPU of 80 GiB, compute capability 9.0"
