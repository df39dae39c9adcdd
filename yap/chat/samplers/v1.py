"""The samplers for vLLM's V1 model runner, which is the one of CPUs.

A processor is told what changed in the batch, and is then applied to the logits, row i being
request i. It keeps the requests that use it; where none does, `apply` returns at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from yap.chat.samplers import dry, xtc
from yap.chat.samplers.options import XtcOptions, dry_options, xtc_options

if TYPE_CHECKING:
    import random

    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate


class DryProcessor(LogitsProcessor):  # type: ignore[misc]
    """DRY. It acts on scores before temperature, and so on greedy requests too."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        self._device = device
        self._requests: dict[int, dry.Repetitions] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise a ValueError where a request asks for what DRY cannot do."""
        dry_options(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """It changes which token is the likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: requests come, go and move."""
        process_dict_updates(self._requests, batch_update, _repetitions)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Lower scores in place. `logits`: [requests, vocab_size], float32."""
        rows: list[int] = []
        token_ids: list[int] = []
        penalties: list[float] = []
        for row, repetitions in self._requests.items():
            found = repetitions.penalties()
            rows += [row] * len(found)
            token_ids += found.keys()
            penalties += found.values()
        if rows:
            where = tuple(_on_device(ids, torch.int64, self._device) for ids in (rows, token_ids))
            logits[where] -= _on_device(penalties, torch.float32, self._device)
        return logits


class XtcProcessor(LogitsProcessor):  # type: ignore[misc]
    """XTC. It acts on probabilities, after temperature and min_p; greedy requests have none."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        self._device = device
        self._requests: dict[int, _XtcRequest] = {}
        # Every process of a model that is split over GPUs must draw the same.
        self._seeds = xtc.dice(vllm_config.model_config.seed)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise a ValueError where a request asks for what XTC cannot do."""
        xtc_options(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """It is for requests that draw, which is how vLLM puts it after temperature."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: requests come, go and move."""
        process_dict_updates(self._requests, batch_update, self._request)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Take tokens out in place. `logits`: [requests, vocab_size], float32."""
        acting = {
            row: request.options
            for row, request in self._requests.items()
            if request.dice.random() < request.options.probability
        }
        if not acting:
            return logits
        if logits.is_cpu:
            for row, options in acting.items():
                scores = logits[row].numpy()
                scores[xtc.excluded_ids(scores, options)] = -math.inf
        else:
            self._exclude_on_device(logits, acting)
        return logits

    def _exclude_on_device(self, logits: torch.Tensor, acting: dict[int, XtcOptions]) -> None:
        numbers = [(options.threshold, 1.0, 0.0) for options in acting.values()]
        widest = max(1, *(len(options.protected_ids) for options in acting.values()))
        protected = [
            (*options.protected_ids, *[-1] * (widest - len(options.protected_ids)))
            for options in acting.values()
        ]
        xtc.exclude(
            logits,
            _on_device(list(acting), torch.int64, self._device),
            _on_device(numbers, torch.float32, self._device),
            _on_device(protected, torch.int64, self._device),
        )

    def _request(
        self, params: SamplingParams, _prompt: list[int] | None, _reply: list[int]
    ) -> _XtcRequest | None:
        options = xtc_options(params.extra_args)
        if options is None or params.temperature == 0:
            return None
        seed = self._seeds.getrandbits(64) if params.seed is None else params.seed
        return _XtcRequest(options, xtc.dice(seed))


class _XtcRequest(NamedTuple):
    options: XtcOptions
    dice: random.Random


def _repetitions(
    params: SamplingParams, prompt: list[int] | None, reply: list[int]
) -> dry.Repetitions | None:
    options = dry_options(params.extra_args)
    return dry.Repetitions(options, prompt or (), reply) if options else None


def _on_device(values: Sequence[object], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    tensor: torch.Tensor = async_tensor_h2d(list(values), device=device, dtype=dtype)
    return tensor
