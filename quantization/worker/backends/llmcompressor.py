"""llmcompressor 0.14: rounding file by file, or AWQ, GPTQ and SmoothQuant over calibration data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from quantization.model.patterns import anywhere
from quantization.planning.methods import METHODS
from quantization.planning.recipes import Recipe
from quantization.worker.backends import loading
from quantization.worker.job import Job

Measure = Callable[[Any], None]

_TARGETS: Final = ["Linear"]
_SMOOTHING: Final = 0.8


def tokenizer(job: Job) -> Any:
    """The tokenizer to make calibration rows with."""
    return loading.tokenizer(job)


def model(job: Job) -> Any:
    """The float model."""
    return loading.model(job)


def placed(job: Job, loaded: Any) -> Any:
    """The model where it computes fastest, as much of it as there is room for."""
    if job.cuda:
        from llmcompressor.utils.dev import dispatch_for_generation

        dispatch_for_generation(loaded)
    return loaded


def quantize(
    job: Job, loaded: Callable[[], Any], rows: Sequence[Sequence[int]], measure: Measure | None
) -> None:
    """Write the quantized weights to `job.out`.

    Args:
        loaded: gives the float model; it is called only where one is needed.
        rows: token ids to calibrate with, none where the method needs no data.
        measure: given the quantized model before it is saved; its layers compute in floating
            point with the errors of the format.
    """
    _without_gpu()
    if METHODS[job.recipe.method].data_free:
        _by_file(job)
        if measure is not None:
            measure(_rounded(job, loaded()))
        return
    quantized = _calibrated(job, loaded(), rows)
    if measure is not None:
        measure(placed(job, quantized))
    quantized.save_pretrained(job.out, save_compressed=True)


def scheme(recipe: Recipe) -> Any:
    """The recipe in compressed-tensors' words: every number of it is given, none is a default."""
    from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme

    preset = preset_name_to_scheme(recipe.scheme, _TARGETS)
    weights = preset.weights.model_copy(
        update={"num_bits": recipe.bits, "symmetric": recipe.symmetric}
    )
    if METHODS[recipe.method].groups:
        weights = weights.model_copy(update={"group_size": recipe.group_size})
    return QuantizationScheme(
        targets=_TARGETS,
        weights=type(weights).model_validate(weights.model_dump()),
        input_activations=preset.input_activations,
    )


def left_out(recipe: Recipe) -> list[str]:
    """What is ignored, in llmcompressor's words.

    A plain name means the layer wherever it is, as language_model.lm_head; there it would mean one
    of exactly this name.
    """
    patterns = list(recipe.ignore)
    return [*patterns, *(anywhere(one) for one in patterns if not one.startswith("re:"))]


def _by_file(job: Job) -> None:
    from llmcompressor import model_free_ptq

    model_free_ptq(
        str(job.source),
        str(job.out),
        scheme=scheme(job.recipe),
        ignore=left_out(job.recipe),
        max_workers=1,
        device=None if job.cuda else "cpu",
    )


def _rounded(job: Job, loaded: Any) -> Any:
    """The model with the rounding errors of `_by_file`, to be measured and thrown away."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    oneshot(
        model=loaded,
        recipe=[QuantizationModifier(**_what(job.recipe))],
        pipeline="datafree",
        tie_word_embeddings=_ties(loaded),
    )
    return placed(job, loaded)


def _calibrated(job: Job, loaded: Any, rows: Sequence[Sequence[int]]) -> Any:
    from llmcompressor import oneshot

    return oneshot(
        model=loaded,
        recipe=_modifiers(job, loaded),
        processor=tokenizer(job),  # found by itself, it wants packages for images
        dataset=_batches(rows),
        num_calibration_samples=len(rows),
        max_seq_length=job.recipe.sequence_length,
        batch_size=1,
        shuffle_calibration_samples=False,
        moe_calibrate_all_experts=True,  # none is left out because no text asked for it
        tie_word_embeddings=_ties(loaded),
    )


def _modifiers(job: Job, loaded: Any) -> list[Any]:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    what = _what(job.recipe)
    if job.recipe.method == "gptq":
        return [GPTQModifier(**what)]
    if job.recipe.method == "smoothquant":
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        smoothing = SmoothQuantModifier(
            smoothing_strength=_SMOOTHING, mappings=_smoothquant_mappings(job, loaded)
        )
        return [smoothing, GPTQModifier(**what)]
    return [_awq(job, loaded), QuantizationModifier(**what)]


def _what(recipe: Recipe) -> dict[str, Any]:
    return {"config_groups": {"group_0": scheme(recipe)}, "ignore": left_out(recipe)}


def _awq(job: Job, loaded: Any) -> Any:
    import torch
    from llmcompressor.modifiers.transform.awq import AWQModifier

    more = {"offload_device": torch.device("cpu")} if job.offload and job.cuda else {}
    return AWQModifier(duo_scaling="both", mappings=_awq_mappings(job, loaded), **more)


def _awq_mappings(job: Job, loaded: Any) -> list[Any]:
    from llmcompressor.modifiers.transform.awq import AWQMapping
    from llmcompressor.modifiers.transform.awq.dynamic_mappings import get_layer_mappings_from_model

    return [
        AWQMapping(
            _scoped(job, one.smooth_layer),
            [_scoped(job, layer) for layer in one.balance_layers],
            one.activation_hook_target,
        )
        for one in get_layer_mappings_from_model(loaded)
    ]


def _smoothquant_mappings(job: Job, loaded: Any) -> list[tuple[list[str], str]]:
    from llmcompressor.modifiers.transform.smoothquant.dynamic_mappings import (
        get_layer_mappings_from_model,
    )

    return [
        ([_scoped(job, layer) for layer in one.balance_layers], _scoped(job, one.smooth_layers))
        for one in get_layer_mappings_from_model(loaded)
    ]


def _scoped(job: Job, pattern: str) -> str:
    """A pattern for the text model alone: towers have layers of the same names."""
    if not job.towers or not pattern.startswith("re:.*"):
        return pattern
    return r"re:.*language_model\..*" + pattern.removeprefix("re:.*")


def _batches(rows: Sequence[Sequence[int]]) -> Any:
    """The rows as llmcompressor takes them without the `datasets` package between."""
    import torch
    from torch.utils.data import DataLoader

    # Lists of dictionaries are data sets to torch, whatever its types say.
    items: Any = [
        {
            "input_ids": torch.tensor([list(row)], dtype=torch.long),
            "attention_mask": torch.ones((1, len(row)), dtype=torch.long),
        }
        for row in rows
    ]
    return DataLoader(items, batch_size=None, shuffle=False)


def _ties(loaded: Any) -> bool:
    return bool(getattr(loaded.config.get_text_config(), "tie_word_embeddings", False))


def _without_gpu() -> None:
    """AWQ pins memory for an accelerator even where there is none, and dies of it."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_args, **_options: None
