"""Which layers are quantized, which are left as they are, and in groups of which size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from quantization.model.checkpoint import Checkpoint
from quantization.model.patterns import matches
from quantization.model.tensors import Tensor

# Group sizes that vLLM's kernels for 4-bit weights take, the usual one first.
GROUP_SIZES: Final = (128, 64, 32)
_FLOAT: Final = frozenset({"BF16", "F16", "F32"})
_HEAD: Final = re.compile(r"(^|\.)(lm_head|embed_out|output_layer)$")
_EMBEDDING: Final = re.compile(r"embed|(^|\.)(wte|wpe|word_embeddings)$")
_NORM: Final = re.compile(r"norm|(^|\.)ln_\w+$")
# What chooses among experts, or weighs a shared one: tiny, and a small error sends a token astray.
_ROUTER: Final = re.compile(
    r"(^|\.)(router|router\.\w+|gate|gate\.wg|shared_expert_gate|shared_experts?_gate|"
    r"coefficient|e_score_correction)$"
)
_GUESSER: Final = re.compile(r"^(model\.)?mtp\.")
_EXPERT: Final = re.compile(r"\.experts?(\.|$)")


@dataclass(frozen=True, slots=True)
class Ignored:
    """Patterns of layers that stay in 16 bits, in llmcompressor's words, with the reason."""

    patterns: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix that is quantized. Experts that are stored as one tensor are `count` matrices."""

    name: str
    inputs: int
    outputs: int
    count: int
    size: int

    @property
    def numbers(self) -> int:
        """Weights in all."""
        return self.inputs * self.outputs * self.count


def ignored(checkpoint: Checkpoint) -> tuple[Ignored, ...]:
    """What is left as it is, found in the checkpoint's own tensors where they are known."""
    names = {tensor.module for tensor in checkpoint.tensors}
    found = [
        Ignored(("lm_head",), "The output matrix decides every token, and errs visibly."),
        Ignored(_embeddings(names), "An embedding is looked up, not multiplied with."),
    ]
    routers = _ends(name for name in names if _ROUTER.search(name) and not _is_tower(name))
    if checkpoint.experts or routers:
        # Without headers: the names that architectures use.
        usual = ("gate", "router", "shared_expert_gate")
        patterns = tuple(rf"re:.*\.{re.escape(end)}$" for end in routers or usual)
        found.append(Ignored(patterns, "Routers and gates send tokens to experts, and are tiny."))
    if checkpoint.has_towers:
        towers = checkpoint.towers or ("vision_tower", "vision_model", "visual", "audio_tower")
        patterns = tuple(rf"re:.*{re.escape(tower)}.*" for tower in towers)
        found.append(Ignored(patterns, "Encoders of images and sound are not served by Yap."))
    if any(_GUESSER.search(name) for name in names):
        found.append(Ignored((r"re:^(model\.)?mtp\..*",), "The head that guesses tokens ahead."))
    return tuple(found)


def quantized(checkpoint: Checkpoint, patterns: Iterable[str]) -> tuple[Layer, ...]:
    """The matrices that quantizing changes; none where no header tells."""
    patterns = tuple(patterns)
    return tuple(
        layer
        for layer in _matrices(checkpoint.tensors)
        if not any(matches(pattern, layer.name) for pattern in patterns)
    )


def group_size(layers: Iterable[Layer]) -> int | None:
    """The largest usual group that divides the inputs of every layer; None where none does."""
    inputs = {layer.inputs for layer in layers}
    return next((size for size in GROUP_SIZES if not any(n % size for n in inputs)), None)


def not_dividing(layers: Iterable[Layer], size: int) -> tuple[Layer, ...]:
    """Layers whose inputs are no multiple of a group size."""
    return tuple(layer for layer in layers if layer.inputs % size)


def has_experts(layers: Iterable[Layer]) -> bool:
    """Whether experts are among them."""
    return any(_EXPERT.search(f"{layer.name}.") for layer in layers)


def _matrices(tensors: Iterable[Tensor]) -> Iterator[Layer]:
    for tensor in tensors:
        part = tensor.name.rpartition(".")[2]
        # Experts in one tensor: [experts, outputs, inputs] or the other way round.
        name = tensor.module if part == "weight" else tensor.name
        stacked = len(tensor.shape) == 3 and _EXPERT.search(tensor.name)
        if tensor.dtype not in _FLOAT or not (len(tensor.shape) == 2 or stacked):
            continue
        if (part != "weight" and not stacked) or not _is_linear(name):
            continue
        count = tensor.shape[0] if stacked else 1
        outputs, inputs = tensor.shape[-2:]
        yield Layer(name, inputs, outputs, count, tensor.size)


def _is_linear(name: str) -> bool:
    last = name.rpartition(".")[2]
    return not (_HEAD.search(name) or _EMBEDDING.search(last) or _NORM.search(last))


def _embeddings(names: Iterable[str]) -> tuple[str, ...]:
    """Patterns of embeddings: quantizing file by file cannot tell them from linear layers."""
    lasts = {name.rpartition(".")[2] for name in names if not _is_tower(name)}
    found = sorted(last for last in lasts if _EMBEDDING.search(last) and not _NORM.search(last))
    return tuple(rf"re:.*{re.escape(last)}$" for last in found or ("embed_tokens",))


def _ends(names: Iterable[str]) -> tuple[str, ...]:
    """The last parts of names, such as gate and shared_expert_gate."""
    found = set()
    for name in names:
        matched = _ROUTER.search(name)
        if matched:
            found.add(matched[2])
    return tuple(sorted(found))


def _is_tower(name: str) -> bool:
    return re.search(r"(^|\.)(vision|visual|audio|image)", name) is not None
