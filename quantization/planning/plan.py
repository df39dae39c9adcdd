"""Which method, backend and recipe, and why: decided before anything long starts."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantization.errors import refusal
from quantization.model import layers
from quantization.model.checkpoint import Checkpoint
from quantization.model.layers import Layer
from quantization.planning import estimates
from quantization.planning.choosing import (
    VARIABLES,
    Request,
    choose_method,
    make_recipe,
    with_environment,
)
from quantization.planning.estimates import Estimate
from quantization.planning.methods import METHODS, Width
from quantization.planning.recipes import Choices, Recipe
from quantization.serving.formats import Verdict, verdict
from quantization.serving.judging import Serving, judge, model_facts
from quantization.serving.target import Target
from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.model_facts import ModelFacts
from yap.chat.tuning.weights import Weights
from yap.settings import Settings

# Longer than a night: nobody waits for that who was not asked.
_TOO_LONG_S: Final = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done: `decisions` and `warnings` are for people, `recipe` is what is applied.

    `serving` tells how the result would be served on `target`. `offload`: calibration keeps its
    activations in the machine's memory, because the GPU's would not hold them.
    """

    checkpoint: Checkpoint
    target: Target
    recipe: Recipe
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]
    layers: tuple[Layer, ...]
    estimate: Estimate
    offload: bool
    serving: Serving


def plan(
    checkpoint: Checkpoint,
    target: Target,
    settings: Settings,
    *,
    width: Width | None,
    wanted: Choices,
    origin: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
) -> Plan:
    """The plan for a checkpoint.

    Args:
        target: where it is quantized and served.
        width: 4bit or 8bit; None where the method says.
        wanted: what was asked for.
        origin: for each field of `wanted` that is set, where that was said.

    Raises:
        QuantizationError: it must not, or cannot be quantized so; the message says what can.
    """
    _refuse(checkpoint)
    wanted, origin = with_environment(wanted, origin, environ)
    request = Request(checkpoint, target, settings, width, wanted, origin)
    recipe, decisions = _chosen(request)
    chosen = layers.quantized(checkpoint, recipe.ignore)
    judged = _check_served(request, recipe, chosen)
    estimate = estimates.estimate(checkpoint, recipe, chosen, target)
    offload = _offloads(estimate, target)
    if offload:
        why = "The GPU does not hold what calibration remembers; the machine's memory does."
        decisions.append(Decision("offload", "activations", why))
    served = judge(
        dataclasses.replace(checkpoint, quantization=None),
        target,
        settings,
        judged,
        _facts_after(checkpoint, recipe, chosen),
    )
    return Plan(
        checkpoint=checkpoint,
        target=target,
        recipe=recipe,
        decisions=tuple(decisions),
        warnings=(*_warnings(request, recipe, estimate), *served.warnings),
        layers=chosen,
        estimate=estimate,
        offload=offload,
        serving=served,
    )


def _chosen(request: Request) -> tuple[Recipe, list[Decision]]:
    recipe, decisions = make_recipe(request, choose_method(request))
    if recipe.method == "awq" and "method" not in request.origin and request.target.hardware.cpu:
        return _instead_of_days(request, recipe) or (recipe, decisions)
    return recipe, decisions


# --- what is refused --------------------------------------------------------------------------


def _refuse(checkpoint: Checkpoint) -> None:
    found = checkpoint.quantization
    if found is not None:
        raise refusal(
            f'"{checkpoint.model}" is quantized already ({found}; by {found.place}): serve it as '
            "it is, or name the float model that it was made from."
        )
    if not checkpoint.chats:
        raise refusal(
            f'"{checkpoint.model}" is a {checkpoint.architecture}, not a chat model: only chat '
            "models are quantized."
        )
    if checkpoint.weights is None:
        raise refusal(f'"{checkpoint.model}" holds no weights: fetch the model again.')
    packed = [share.dtype for share in checkpoint.shares if share.dtype.startswith(("F8_", "F4"))]
    if packed:
        raise refusal(
            f'"{checkpoint.model}" holds weights in {packed[0]} and no config that tells how they '
            "are scaled: name the float model that it was made from."
        )


def _check_served(request: Request, recipe: Recipe, chosen: tuple[Layer, ...]) -> Verdict:
    experts = layers.has_experts(chosen) if chosen else request.checkpoint.experts > 0
    judged = verdict(recipe.format, request.target, bits=recipe.bits, experts=experts)
    if not judged.serves:
        other = (
            ""
            if not request.target.hardware.cpu
            else " To make it for a GPU, name that with --memory-gib and --capability."
        )
        raise refusal(
            f"{METHODS[recipe.method].title} is of no use on this hardware: {judged.why}{other}"
        )
    return judged


def _instead_of_days(request: Request, recipe: Recipe) -> tuple[Recipe, list[Decision]] | None:
    """Rounding, where AWQ would take longer than a night on this CPU."""
    chosen = layers.quantized(request.checkpoint, recipe.ignore)
    took = estimates.seconds(request.checkpoint, recipe, chosen, request.target)
    asked = [
        name
        for name in ("backend", *VARIABLES)
        if request.origin.get(name) not in (None, VARIABLES.get(name))
    ]
    if took < _TOO_LONG_S or request.checkpoint.weights != "safetensors" or asked:
        return None
    why = (
        f"AWQ would take about {took / 3600:,.0f} hours on this CPU, and rounding minutes; ask for "
        "AWQ with --method awq."
    )
    return make_recipe(request, Decision("method", "rtn", why))


# --- what comes of it -------------------------------------------------------------------------


def _facts_after(checkpoint: Checkpoint, recipe: Recipe, chosen: tuple[Layer, ...]) -> ModelFacts:
    """The facts of the result, as the service's plan wants them."""
    before = model_facts(checkpoint)
    measured = before.weights
    if measured is None or not chosen:
        export = estimates.export_size(checkpoint, recipe, chosen)
        after = Weights(export) if measured else None
    else:
        in_16_bits = sum(2 * layer.numbers for layer in chosen)
        total = measured.total - in_16_bits + estimates.quantized_size(recipe, chosen)
        after = dataclasses.replace(measured, total=total, linear=0)
    method = "awq" if recipe.backend == "autoawq" else "compressed-tensors"
    return dataclasses.replace(
        before, weights=after, quantization=method, quantization_in_config=True
    )


def _offloads(estimate: Estimate, target: Target) -> bool:
    gpus = target.hardware.gpus
    return bool(gpus) and estimate.device_memory > 0.9 * gpus[0].memory


def _warnings(request: Request, recipe: Recipe, estimate: Estimate) -> tuple[str, ...]:
    found = []
    hardware = request.target.hardware
    if request.target.there and estimate.memory > hardware.memory:
        found.append(
            f"It needs about {estimate.memory / estimates.GIB:.0f} GiB of memory, and the machine "
            f"has {hardware.memory / estimates.GIB:.0f}: it may swap, or be killed."
        )
    free = shutil.disk_usage(Path.cwd()).free
    if request.target.there and estimate.disk > free:
        found.append(
            f"It needs about {estimate.disk / estimates.GIB:.0f} GiB of disk, and "
            f"{free / estimates.GIB:.0f} are free here."
        )
    if not request.checkpoint.tensors:
        found.append("The weights' headers were not read, so sizes are rough.")
    if not METHODS[recipe.method].data_free and not request.checkpoint.chat_template:
        found.append("Without a chat template, calibration texts are plain.")
    if not request.checkpoint.tokenizer:
        found.append("There is no tokenizer: the export would have none either.")
    return tuple(found)
