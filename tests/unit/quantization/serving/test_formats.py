"""Which formats are served where, with which kernel."""

from __future__ import annotations

import pytest

from quantization.serving.formats import FORMATS, GONE, verdict
from quantization.serving.target import Target, imagined, parse, this_machine
from yap.chat.tuning.hardware import GIB, Gpu, Hardware

CPU = Target(Hardware((), 24 * GIB, 2))
AMX = Target(Hardware((), 24 * GIB, 2), amx=True)


def gpu(capability: str) -> Target:
    major, minor = capability.split(".")
    return imagined(80, (int(major), int(minor)))


@pytest.mark.parametrize(
    ("name", "capability", "kernel"),
    [
        ("w4a16", "7.5", "Marlin"),
        ("w4a16", "8.9", "Marlin"),
        ("w4a16", "9.0", "Machete"),
        ("w4a16", "12.0", "Marlin"),
        ("awq", "7.0", None),
        ("gptq", "7.0", "Exllama"),
        ("gptq", "8.0", "Marlin"),
        ("int8", "8.0", "Cutlass INT8"),
        ("int8", "10.0", "Triton INT8"),
        ("fp8", "7.0", None),
        ("fp8", "8.6", "Marlin FP8"),
        ("fp8", "8.9", "Cutlass FP8"),
        ("fp8-block", "9.0", "DeepGEMM or Cutlass"),
        ("nvfp4a16", "8.0", "Marlin FP4"),
        ("nvfp4", "10.0", "FlashInfer or Cutlass FP4"),
        ("w4afp8", "8.9", None),
        ("w4afp8", "9.0", "Cutlass W4A8"),
        ("w4afp8", "10.0", None),
        ("float", "9.0", "cuBLAS"),
    ],
)
def test_gpus(name: str, capability: str, kernel: str | None) -> None:
    found = verdict(name, gpu(capability))
    assert found.kernel == kernel
    assert found.serves is (kernel is not None)
    assert capability in found.why


# Loaded by vLLM 0.32 on a CPU with AVX-512 and without AMX, or refused by it.
@pytest.mark.parametrize(
    ("name", "bits", "serves"),
    [
        ("w4a16", 4, True),
        ("awq", 4, True),
        ("gptq", 4, True),
        ("auto-round", 4, True),
        ("int8", 8, True),
        ("fp8", 8, True),
        ("w8a16", 8, False),
        ("gptq", 8, False),
        ("fp8-static", 8, False),
        ("fp8-block", 8, False),
        ("nvfp4", 4, False),
        ("nvfp4a16", 4, False),
        ("mxfp4", 4, False),
        ("mxfp8", 8, False),
        ("w4afp8", 4, False),
    ],
)
def test_cpus(name: str, bits: int, serves: bool) -> None:
    found = verdict(name, CPU, bits=bits)
    assert found.serves is serves
    assert found.why.endswith(".")


def test_what_a_cpu_serves_slowly_is_said() -> None:
    assert "fifty times" in verdict("fp8", CPU).warning
    assert verdict("int8", CPU).warning == ""


def test_quantized_experts_need_amx() -> None:
    for name in ("w4a16", "int8", "fp8"):
        assert not verdict(name, CPU, experts=True).serves
        assert verdict(name, AMX, experts=True).serves
    assert verdict("float", CPU, experts=True).serves
    assert verdict("fp8-block", AMX).serves


def test_what_only_saves_memory_is_said() -> None:
    assert "saves memory only" in verdict("fp8", gpu("8.0")).warning
    assert verdict("fp8", gpu("9.0")).warning == ""


def test_what_nobody_serves() -> None:
    for name in (*GONE, "unknown", "quux"):
        assert not verdict(name, gpu("9.0")).serves
        assert not verdict(name, CPU).serves


def test_a_gpu_of_another_maker() -> None:
    found = verdict("fp8", Target(Hardware((Gpu(64 * GIB),), 24 * GIB, 2)))
    assert not found.serves
    assert "not known" in found.why


def test_every_format_has_a_verdict_everywhere() -> None:
    for name in FORMATS:
        for target in (CPU, AMX, gpu("7.0"), gpu("8.0"), gpu("9.0"), gpu("12.0")):
            found = verdict(name, target)
            assert bool(found.kernel) is found.serves
            assert found.why.endswith(".")


TABLE = """\
0, GPU-aaaa, 81559, 81000, 9.0
1, GPU-bbbb, 24564, 24000, 8.9
2, GPU-cccc, [N/A], [N/A], [N/A]
3, GPU-dddd, 16000, [N/A], [N/A]
"""


def test_gpus_as_the_driver_lists_them() -> None:
    first, second, third = parse(TABLE, None)
    assert (first.memory, first.free, first.capability) == (81559 << 20, 81000 << 20, (9, 0))
    assert second.capability == (8, 9)
    assert (third.free, third.capability) == (None, None)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1,0", ["8.9", "9.0"]), ("GPU-bbbb", ["8.9"]), ("", []), ("-1", []), ("0,7,1", ["9.0"])],
)
def test_those_that_may_be_seen(visible: str, expected: list[str]) -> None:
    found = parse(TABLE, visible)
    assert [".".join(map(str, gpu.capability or ())) for gpu in found] == expected


def test_this_machine() -> None:
    found = this_machine()
    assert found.there
    assert found.hardware.memory > GIB
    assert found.hardware.cores >= 1
