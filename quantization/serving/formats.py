"""The quantization formats, and which kernel of vLLM 0.32 serves them on which hardware.

What is said about CPUs was tried on one with AVX-512 and without AMX; what is said about GPUs is
read in vLLM's tables of kernels and in the least compute capability that its methods name. A kernel
that can be had says nothing about a model's architecture: `architectures.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from quantization.serving.target import Target

VLLM: Final = "0.32"
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Format:
    """One way to store weights.

    `bits` are those of a weight; None where the format has several. `gpu` lists kernels by the
    least compute capability they want, best last; "" ends the list where a kernel is not for newer
    GPUs. `cpu` is the kernel on a CPU without AMX and `cpu_amx` on one with it; None where there is
    none, and `no_cpu` is why. `experts_on_cpu`: mixture-of-experts layers are served there too.
    """

    name: str
    title: str
    bits: int | None
    activations: str
    gpu: tuple[tuple[Capability, str], ...]
    cpu: str | None = None
    cpu_amx: str | None = None
    no_cpu: str = "vLLM has no CPU kernel for it"
    slow_on_cpu: str = ""
    weight_only_below: Capability | None = None
    experts_on_cpu: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a format is served; `why` is one sentence. `warning` says what it costs there."""

    serves: bool
    kernel: str | None
    why: str
    warning: str = ""


_MARLIN: Final = ((7, 5), "Marlin")
_MACHETE: Final = ((9, 0), "Machete")
# Machete is for Hopper alone; later GPUs go back to Marlin.
_MIXED: Final = (_MARLIN, _MACHETE, ((10, 0), "Marlin"))

_ALL: Final = (
    Format(
        name="float",
        title="not quantized",
        bits=16,
        activations="16 bits",
        gpu=(((7, 0), "cuBLAS"),),
        cpu="oneDNN",
        cpu_amx="oneDNN",
        experts_on_cpu=True,
    ),
    Format(
        name="w4a16",
        title="INT4 weights in groups (compressed-tensors W4A16)",
        bits=4,
        activations="16 bits",
        gpu=_MIXED,
        cpu="CPUWNA16",
        cpu_amx="CPUWNA16",
    ),
    Format(
        name="w8a16",
        title="INT8 weights (compressed-tensors W8A16)",
        bits=8,
        activations="16 bits",
        gpu=_MIXED,
        no_cpu="CPUWNA16 takes 4-bit weights only",
    ),
    Format(
        name="int8",
        title="INT8 weights and activations (compressed-tensors W8A8)",
        bits=8,
        activations="INT8, a scale for each token",
        gpu=(((7, 5), "Cutlass INT8"), ((10, 0), "Triton INT8")),
        cpu="CPUInt8ScaledMM",
        cpu_amx="CPUInt8ScaledMM",
    ),
    Format(
        name="fp8",
        title="FP8 weights, dynamic FP8 activations (compressed-tensors FP8_DYNAMIC)",
        bits=8,
        activations="FP8, a scale for each token",
        gpu=(((7, 5), "Marlin FP8"), ((8, 9), "Cutlass FP8")),
        cpu="torch",
        cpu_amx="CPUFP8W8A8ScaledMM or torch",
        slow_on_cpu="it decodes about fifty times as slowly as BF16",
        weight_only_below=(8, 9),
    ),
    Format(
        name="fp8-static",
        title="FP8 weights and activations with calibrated scales",
        bits=8,
        activations="FP8, one scale",
        gpu=(((7, 5), "Marlin FP8"), ((8, 9), "Cutlass FP8")),
        no_cpu="vLLM's CPU build lacks the operation that quantizes with a fixed scale",
        weight_only_below=(8, 9),
    ),
    Format(
        name="fp8-block",
        title="FP8 in blocks of 128 x 128",
        bits=8,
        activations="FP8, a scale for each 128 numbers",
        gpu=(((7, 5), "Marlin FP8"), ((8, 9), "Triton FP8"), ((9, 0), "DeepGEMM or Cutlass")),
        cpu_amx="CPUFp8BlockScaledMM",
        no_cpu="its CPU kernel needs AMX (Sapphire Rapids or newer)",
        weight_only_below=(8, 9),
    ),
    Format(
        name="nvfp4a16",
        title="NVFP4 weights (compressed-tensors NVFP4A16)",
        bits=4,
        activations="16 bits",
        gpu=(((7, 5), "Marlin FP4"),),
    ),
    Format(
        name="nvfp4",
        title="NVFP4 weights and activations",
        bits=4,
        activations="NVFP4",
        gpu=(((7, 5), "Marlin FP4"), ((10, 0), "FlashInfer or Cutlass FP4")),
        weight_only_below=(10, 0),
    ),
    Format(
        name="mxfp4",
        title="MXFP4 weights",
        bits=4,
        activations="16 bits or MXFP4",
        gpu=(((8, 0), "Marlin FP4"),),
    ),
    Format(
        name="mxfp8",
        title="MXFP8 weights and activations",
        bits=8,
        activations="MXFP8",
        gpu=(((7, 5), "Marlin MXFP8"), ((10, 0), "FlashInfer MXFP8")),
        weight_only_below=(10, 0),
    ),
    Format(
        name="w4afp8",
        title="INT4 weights, FP8 activations",
        bits=4,
        activations="FP8",
        gpu=(((9, 0), "Cutlass W4A8"), ((10, 0), "")),  # for Hopper alone
        no_cpu="vLLM has no scheme for it on a CPU",
    ),
    Format(
        name="awq",
        title="AutoAWQ's own format",
        bits=4,
        activations="16 bits",
        gpu=_MIXED,
        cpu="CPUWNA16",
        cpu_amx="CPUWNA16",
    ),
    Format(
        name="gptq",
        title="GPTQ's own format",
        bits=4,
        activations="16 bits",
        gpu=(((6, 0), "Exllama"), *_MIXED),
        cpu="CPUWNA16",
        cpu_amx="CPUWNA16",
    ),
    Format(
        name="auto-round",
        title="AutoRound's own format",
        bits=None,
        activations="16 bits",
        gpu=(((6, 0), "Exllama"), *_MIXED),
        cpu="CPUWNA16",
        cpu_amx="CPUWNA16",
    ),
    Format(
        name="mixed",
        title="several formats in one checkpoint",
        bits=None,
        activations="by layer",
        gpu=(((8, 9), "one for each format"),),
        no_cpu="which of its formats a CPU serves cannot be told as a whole",
    ),
    Format(
        name="torchao",
        title="torchao",
        bits=None,
        activations="by its config",
        gpu=(((7, 5), "torchao's own"),),
        no_cpu="it was not tried, and it needs the package torchao",
    ),
)
FORMATS: Final[Mapping[str, Format]] = MappingProxyType({one.name: one for one in _ALL})

# Methods that vLLM 0.32 refuses by name.
GONE: Final = frozenset({"bitsandbytes", "gguf", "hqq", "eetq", "aqlm", "fbgemm-fp8", "fp-quant"})


def verdict(
    name: str, target: Target, *, bits: int | None = None, experts: bool = False
) -> Verdict:
    """Whether vLLM 0.32 serves a format on some hardware, with which kernel.

    Args:
        name: of FORMATS, of GONE, or anything else.
        bits: of the weights, where the checkpoint says.
        experts: whether mixture-of-experts layers are quantized in it.
    """
    if name in GONE:
        return Verdict(False, None, f"vLLM {VLLM} does not know the method {name}.")
    format_ = FORMATS.get(name)
    if format_ is None:
        return Verdict(False, None, f"The format {name} is not one that is known here.")
    if target.hardware.cpu:
        return _on_cpu(format_, target, bits or format_.bits, experts)
    return _on_gpu(format_, target, bits)


def _on_cpu(format_: Format, target: Target, bits: int | None, experts: bool) -> Verdict:
    kernel = format_.cpu_amx if target.amx else format_.cpu
    if kernel == "CPUWNA16" and bits not in (4, None):
        kernel, reason = None, f"CPUWNA16 takes 4-bit weights, and these have {bits}"
    else:
        reason = format_.no_cpu
    if kernel is None:
        return Verdict(False, None, f"vLLM {VLLM} does not serve it on this CPU: {reason}.")
    if experts and not format_.experts_on_cpu and not target.amx:
        return Verdict(
            False,
            None,
            f"vLLM {VLLM} has no kernel for quantized experts on a CPU without AMX; the model is "
            "served there as it is, in 16 bits.",
        )
    warning = f"On a CPU {format_.slow_on_cpu}." if format_.slow_on_cpu else ""
    return Verdict(True, kernel, f"vLLM {VLLM} serves it on a CPU with {kernel}.", warning)


def _on_gpu(format_: Format, target: Target, bits: int | None) -> Verdict:
    capability = target.hardware.capability
    if capability is None:
        return Verdict(
            False, None, "The GPU's compute capability is not known, so no kernel can be named."
        )
    at = f"compute capability {capability[0]}.{capability[1]}"
    fitting = [kernel for least, kernel in format_.gpu if least <= capability]
    if not fitting:
        least = format_.gpu[0][0]
        return Verdict(
            False,
            None,
            f"vLLM {VLLM} serves it from compute capability {least[0]}.{least[1]} on, and this is "
            f"{capability[0]}.{capability[1]}.",
        )
    kernel = fitting[-1]
    if not kernel:
        return Verdict(
            False, None, f"vLLM {VLLM} serves it with {fitting[-2]} only, which is not for {at}."
        )
    if format_.name == "gptq" and bits not in (None, 4, 8):
        kernel = "Exllama"
    warning = ""
    if format_.weight_only_below is not None and capability < format_.weight_only_below:
        warning = "Below {}.{} it saves memory only: the arithmetic is done in 16 bits.".format(
            *format_.weight_only_below
        )
    elif format_.name == "float" and capability < (8, 0):
        warning = "Below 8.0 there is no BF16: set the dtype to float16 in CHAT_ENGINE_ARGS."
    return Verdict(True, kernel, f"vLLM {VLLM} serves it at {at} with {kernel}.", warning)
