"""AutoAWQ 0.2.9, for its own file format and for architectures that llmcompressor does not have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from quantization.errors import refusal
from quantization.model.patterns import matches
from quantization.worker.backends.older_config import older
from quantization.worker.job import Job

Measure = Callable[[Any], None]

_AT_ONCE: Final = 16  # rows that go through a layer together
_VERSION: Final = "gemm"


def tokenizer(job: Job) -> Any:
    """The tokenizer by its own file: newer tokenizer configs name classes that are not here."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = job.source / "tokenizer.json"
    if not path.exists():
        return AutoTokenizer.from_pretrained(job.source, trust_remote_code=job.own_code)
    try:
        config = json.loads((job.source / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    special = {name: _token(config[name]) for name in names if config.get(name)}
    template = job.source / "chat_template.jinja"
    found = PreTrainedTokenizerFast(tokenizer_file=str(path), **special)
    found.chat_template = (
        template.read_text(encoding="utf-8") if template.exists() else config.get("chat_template")
    )
    return found


def model(job: Job) -> Any:
    """The float model, as AutoAWQ wraps it: `model.model` is that of transformers."""
    import torch
    from awq import AutoAWQForCausalLM

    folder = _older_folder(job)
    said = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("torch_dtype")
    dtype = torch.float16 if said == "float16" else torch.bfloat16
    return AutoAWQForCausalLM.from_pretrained(
        str(folder),
        torch_dtype=dtype,
        trust_remote_code=job.own_code,
        safetensors=True,
        device_map=None if job.cuda else "cpu",
    )


def placed(job: Job, loaded: Any) -> Any:
    """The model of transformers, where it computes fastest."""
    return loaded.model.to("cuda") if job.cuda else loaded.model


def quantize(
    job: Job, loaded: Callable[[], Any], rows: Sequence[Sequence[int]], measure: Measure | None
) -> None:
    """Write the quantized weights to `job.out`; see `llmcompressor.quantize`."""
    _without_gpu()
    wrapped = loaded()
    recipe = job.recipe
    tokens = sum(map(len, rows))
    wrapped.quantize(
        tokenizer(job),
        quant_config={
            "zero_point": not recipe.symmetric,
            "q_group_size": recipe.group_size,
            "w_bit": recipe.bits,
            "version": _VERSION.upper(),
            "modules_to_not_convert": _left_out(job, wrapped.model),
        },
        calib_data=[list(row) for row in rows],
        max_calib_samples=len(rows),
        # It joins the rows and cuts them into blocks of this length.
        max_calib_seq_len=min(recipe.sequence_length or tokens, tokens),
        n_parallel_calib_samples=_AT_ONCE,
    )
    wrapped.save_quantized(str(job.out), safetensors=True)
    if measure is not None:
        _computable(wrapped.model)
        measure(placed(job, wrapped))


def _left_out(job: Job, inner: Any) -> list[str] | None:
    """The names of linear layers that the recipe ignores: AutoAWQ matches parts of names."""
    import torch

    found = {
        name
        for name, module in inner.named_modules()
        if isinstance(module, torch.nn.Linear)
        and ".layers." in name
        and any(matches(pattern, name) for pattern in job.recipe.ignore)
    }
    return sorted(found) or None


def _computable(inner: Any) -> None:
    """Put plain layers in the place of packed ones, of the weights that those stand for.

    AutoAWQ's layers compute on a GPU only; activations are not quantized, so nothing is lost.
    """
    import torch
    from awq.modules.linear import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    packed = [(n, m) for n, m in inner.named_modules() if isinstance(m, WQLinear_GEMM)]
    for name, module in packed:
        weight = dequantize_gemm(
            module.qweight, module.qzeros, module.scales, module.w_bit, module.group_size
        )
        plain = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None)
        plain.weight = torch.nn.Parameter(weight.t().to(inner.dtype), requires_grad=False)
        if module.bias is not None:
            plain.bias = torch.nn.Parameter(module.bias.to(inner.dtype), requires_grad=False)
        inner.set_submodule(name, plain)


def _older_folder(job: Job) -> Path:
    """The source with a config that transformers 4.51 reads as newer ones do."""
    config = json.loads((job.source / "config.json").read_text(encoding="utf-8"))
    try:
        config = older(config)
    except ValueError as error:
        raise refusal(f"AutoAWQ 0.2.9 cannot read this model's config.json: {error}") from error
    folder = job.work / "older"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in job.source.iterdir():
        if path.is_file() and path.name not in ("config.json", "tokenizer_config.json"):
            (folder / path.name).symlink_to(path.resolve())
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def _without_gpu() -> None:
    """Keep the search for scales from multiplying them into the weights for good.

    It sets a module's weights aside by `.cpu()` and restores them after each try. On a CPU that is
    no copy but the weights themselves, so that all but the first try begin with scaled ones, and so
    does what is saved.
    """
    import torch
    from awq.quantize.quantizer import AwqQuantizer

    search = AwqQuantizer._compute_best_scale
    if torch.cuda.is_available() or search.__name__ == "aside":
        return

    def aside(self: Any, x: Any, w_mean: Any, x_mean: Any, module: Any, *rest: Any) -> Any:
        weights = module.state_dict

        def copied() -> dict[str, Any]:
            return {name: value.clone() for name, value in weights().items()}

        module.state_dict = copied
        try:
            return search(self, x, w_mean, x_mean, module, *rest)
        finally:
            del module.state_dict

    AwqQuantizer._compute_best_scale = aside


def _token(said: Any) -> str:
    return str(said["content"]) if isinstance(said, dict) else str(said)
