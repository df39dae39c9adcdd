"""What a quantization takes: time, memory, disk; and how large its result is.

The factors were measured on small models with llmcompressor 0.14 on a CPU, and the speeds of GPUs
are a sixth of what their data sheets say; expect to be off by a factor of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quantization.model.checkpoint import Checkpoint
from quantization.model.layers import Layer
from quantization.planning.methods import METHODS
from quantization.planning.recipes import Recipe
from quantization.serving.target import Target

GIB: Final = 1 << 30
# Floating-point operations a second that calibration reaches, by compute capability.
_SPEED: Final = {
    (7, 0): 10e12,
    (8, 0): 50e12,
    (8, 6): 17e12,
    (8, 9): 25e12,
    (9, 0): 150e12,
    (10, 0): 300e12,
    (11, 0): 30e12,
}
_CPU_THREAD: Final = 100e9
# Bytes of weights a second that are read, rounded and written without calibration.
_ROUNDING: Final = 100e6
# Loading libraries and the model.
_START_S: Final = 30.0
_PROCESS: Final = GIB // 2
# Copies of one layer's weights that live beside it on the device.
_LAYER_COPIES: Final = 4
# What each layer stores beside its weights and scales: its shape, or a scale for all of it.
_MARKS: Final = {"w4a16": 16, "nvfp4a16": 4}
# What the environments take on disk. Those for CUDA hold its libraries.
_ENVIRONMENT: Final = {
    ("llmcompressor", True): int(1.3 * GIB),
    ("autoawq", True): int(2.1 * GIB),
    ("llmcompressor", False): 8 * GIB,
    ("autoawq", False): 8 * GIB,
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes and seconds. `device_memory` is of the GPU, 0 on a CPU; `export` is the result's size.

    `disk` holds the export, the download where there is one, and the quantizer's environment.
    """

    seconds: float
    memory: int
    device_memory: int
    disk: int
    export: int
    download: int
    environment: int


def estimate(
    checkpoint: Checkpoint, recipe: Recipe, layers: Sequence[Layer], target: Target
) -> Estimate:
    """What a recipe takes on some hardware."""
    export = export_size(checkpoint, recipe, layers)
    cpu = target.hardware.cpu
    download = checkpoint.weight_bytes if checkpoint.place == "Hub" else 0
    environment = _ENVIRONMENT[recipe.backend, cpu]
    activations = _activations(checkpoint, recipe)
    layer = _LAYER_COPIES * _decoder_layer(checkpoint, layers)
    if METHODS[recipe.method].data_free:
        memory, device = _PROCESS + 2 * _largest_file(checkpoint), 0
    else:
        memory = _PROCESS + 2 * _in_16_bits(checkpoint) + 2 * _inputs(checkpoint, recipe)
        device = 0 if cpu else activations + layer
        memory += activations + layer if cpu else 0
    return Estimate(
        seconds=seconds(checkpoint, recipe, layers, target),
        memory=memory,
        device_memory=device,
        disk=export + download + environment,
        export=export,
        download=download,
        environment=environment,
    )


def seconds(
    checkpoint: Checkpoint, recipe: Recipe, layers: Sequence[Layer], target: Target
) -> float:
    """Roughly how long it takes; the download is not counted."""
    method = METHODS[recipe.method]
    rounding = checkpoint.weight_bytes / _ROUNDING
    if method.data_free or recipe.samples is None or recipe.sequence_length is None:
        return _START_S + rounding
    # Every expert is calibrated, so that none is left out by chance.
    weights = sum(layer.numbers for layer in layers) or checkpoint.parameters or 0
    work = 2.0 * weights * recipe.samples * recipe.sequence_length * method.passes
    return _START_S + rounding + work / _speed(target)


def export_size(checkpoint: Checkpoint, recipe: Recipe, layers: Sequence[Layer]) -> int:
    """Bytes of the weights that come out."""
    if not layers:
        return checkpoint.weight_bytes * recipe.bits // 16
    kept = checkpoint.weight_bytes - sum(layer.size for layer in layers)
    return kept + quantized_size(recipe, layers)


def quantized_size(recipe: Recipe, layers: Sequence[Layer]) -> int:
    """Bytes of the quantized layers, with their scales and zero points."""
    total = 0.0
    for layer in layers:
        group = recipe.group_size or layer.inputs
        groups = layer.outputs * -(-layer.inputs // group) * layer.count
        scale = 1 if recipe.method == "nvfp4a16" else 2
        zero = 0.0 if recipe.symmetric else recipe.bits / 8
        total += layer.numbers * recipe.bits / 8 + groups * (scale + zero)
        total += layer.count * _MARKS.get(METHODS[recipe.method].format, 0)
    return int(total)


def _speed(target: Target) -> float:
    if target.hardware.cpu:
        return target.hardware.cores * _CPU_THREAD
    capability = target.hardware.capability
    reached = [least for least in _SPEED if capability is not None and least <= capability]
    return _SPEED[max(reached)] if reached else min(_SPEED.values())


def _inputs(checkpoint: Checkpoint, recipe: Recipe) -> int:
    """Bytes of one layer's inputs, over the whole calibration set, in 16 bits."""
    hidden = getattr(checkpoint.text, "hidden_size", 0) or 0
    return 2 * int(hidden) * (recipe.samples or 0) * (recipe.sequence_length or 0)


def _activations(checkpoint: Checkpoint, recipe: Recipe) -> int:
    return int(METHODS[recipe.method].activation_copies * _inputs(checkpoint, recipe))


def _decoder_layer(checkpoint: Checkpoint, layers: Sequence[Layer]) -> int:
    """Bytes of one decoder layer in 16 bits."""
    count = getattr(checkpoint.text, "num_hidden_layers", 0) or 1
    return 2 * sum(layer.numbers for layer in layers) // int(count)


def _in_16_bits(checkpoint: Checkpoint) -> int:
    return 2 * (checkpoint.parameters or checkpoint.weight_bytes // 2)


def _largest_file(checkpoint: Checkpoint) -> int:
    sizes = [
        size for name, size in checkpoint.files.items() if name.endswith((".safetensors", ".bin"))
    ]
    return max(sizes, default=0)
