"""The samplers for vLLM's V2 model runner, which is the one of GPUs.

A request has a slot for as long as it runs, and rows of logits are mapped to slots at each step.
The host runs ahead of the GPU: it never knows the newest tokens, so what depends on them is tensor
code, and nothing here waits for the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor

from yap.chat.samplers import dry, xtc
from yap.chat.samplers.options import (
    MAX_TOKEN_IDS,
    DryOptions,
    dry_options,
    xtc_options,
)

if TYPE_CHECKING:
    import random

    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.worker.gpu.sample.logits_processor.interface import (
        LogitsContext,
        LogitsProcRequestState,
    )

# Windows grow by so many tokens at a time, so that memory of few sizes is asked for.
_WINDOW_STEP = 64


class DryProcessor(LogitsProcessor):  # type: ignore[misc]
    """DRY. It acts on scores before temperature, and so on greedy requests too."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:  # noqa: ARG002
        slots, device = req_states.max_num_reqs, req_states.device
        self._states = req_states
        self._uses = np.zeros(slots, np.bool_)
        self._ranges = np.zeros(slots, np.int64)
        self._numbers = torch.zeros(slots, 4, device=device)
        self._breakers = torch.zeros(slots, MAX_TOKEN_IDS, dtype=torch.int64, device=device)
        self._staged: dict[int, DryOptions] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise a ValueError where a request asks for what DRY cannot do."""
        dry_options(sampling_params.extra_args)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Take a request into a slot; says whether it uses DRY."""
        options = dry_options(sampling_params.extra_args)
        self._staged.pop(req_idx, None)
        self._uses[req_idx] = options is not None
        if options is None:
            return False
        self._ranges[req_idx] = options.range or np.iinfo(np.int32).max
        self._staged[req_idx] = options
        return True

    def apply_staged_writes(self) -> None:
        """Bring what new requests ask for to the device."""
        if not self._staged:
            return
        vocab_size = self._states.vocab_size
        numbers = [
            (o.multiplier, o.base, o.allowed_length, self._ranges[slot])
            for slot, o in self._staged.items()
        ]
        breakers = [
            _filled(o.breaker_ids, vocab_size, filler=vocab_size) for o in self._staged.values()
        ]
        slots = self._on_device(list(self._staged), torch.int64)
        self._numbers.index_copy_(0, slots, self._on_device(numbers, torch.float32))
        self._breakers.index_copy_(0, slots, self._on_device(breakers, torch.int64))
        self._staged.clear()

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Lower scores in place. `logits`: [rows, vocab_size], float32; a row a request."""
        using = np.flatnonzero(self._uses[ctx.idx_mapping_np])
        if not using.size:
            return logits
        rows = self._on_device(using, torch.int64)
        slots = ctx.expanded_idx_mapping.index_select(0, rows).long()
        lengths = ctx.pos.index_select(0, rows) + 1
        numbers = self._numbers.index_select(0, slots)
        table = dry.penalty_table(
            self._window(slots, lengths, numbers[:, 3], self._longest(using, ctx)),
            numbers[:, :3],
            self._breakers.index_select(0, slots),
            logits.shape[1],
        )
        return logits.index_add_(0, rows, table, alpha=-1)

    def _longest(self, using: NDArray[np.intp], ctx: LogitsContext) -> int:
        """Tokens that a window must hold: the longest history, as far as it is in range."""
        ranges = self._ranges[ctx.idx_mapping_np[using]]
        longest = int(np.minimum(ctx.seq_lens_upper_bound_np[using], ranges).max())
        return -(-longest // _WINDOW_STEP) * _WINDOW_STEP

    def _window(
        self, slots: torch.Tensor, lengths: torch.Tensor, ranges: torch.Tensor, size: int
    ) -> torch.Tensor:
        """The newest tokens of each slot, [slots, size], as `dry.penalty_table` wants them."""
        back = torch.arange(size, 0, -1, device=slots.device)
        places = lengths.unsqueeze(1) - back
        token_ids = self._states.all_token_ids.gpu[slots.unsqueeze(1), places.clamp(min=0)]
        absent = (places < 0) | (back > ranges.unsqueeze(1))
        window: torch.Tensor = token_ids.masked_fill(absent, dry.NO_TOKEN)
        return window

    def _on_device(self, values: Any, dtype: torch.dtype) -> torch.Tensor:
        tensor: torch.Tensor = async_tensor_h2d(values, device=self._states.device, dtype=dtype)
        return tensor


class XtcProcessor(LogitsProcessor):  # type: ignore[misc]
    """XTC. It acts on probabilities; greedy requests have none.

    The runner applies temperature and min_p after it, so it does both by itself before it looks.
    """

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        slots = req_states.max_num_reqs
        self._device, self._vocab_size = req_states.device, req_states.vocab_size
        self._uses = np.zeros(slots, np.bool_)
        self._probabilities = np.zeros(slots)
        self._numbers = np.zeros((slots, 3), np.float32)
        self._protected = np.full((slots, MAX_TOKEN_IDS), -1, np.int64)
        self._dice: dict[int, random.Random] = {}
        # Every process of a model that is split over GPUs must draw the same.
        self._seeds = xtc.dice(vllm_config.model_config.seed)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise a ValueError where a request asks for what XTC cannot do."""
        xtc_options(sampling_params.extra_args)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Take a request into a slot; says whether it uses XTC."""
        options = xtc_options(sampling_params.extra_args)
        uses = options is not None and sampling_params.temperature > 0
        self._uses[req_idx] = uses
        if options is None or not uses:
            return False
        self._probabilities[req_idx] = options.probability
        self._numbers[req_idx] = (
            options.threshold,
            sampling_params.temperature,
            sampling_params.min_p,
        )
        self._protected[req_idx] = _filled(options.protected_ids, self._vocab_size, filler=-1)
        seed = self._seeds.getrandbits(64) if sampling_params.seed is None else sampling_params.seed
        self._dice[req_idx] = xtc.dice(seed)
        return True

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Take tokens out in place. `logits`: [rows, vocab_size], float32; a row a request."""
        slots = ctx.idx_mapping_np
        using = np.flatnonzero(self._uses[slots])
        if not using.size:
            return logits
        drawn = np.array([self._dice[slot].random() for slot in slots[using].tolist()])
        acting = using[drawn < self._probabilities[slots[using]]]
        if acting.size:
            xtc.exclude(
                logits,
                self._on_device(acting, torch.int64),
                self._on_device(self._numbers[slots[acting]], torch.float32),
                self._on_device(self._protected[slots[acting]], torch.int64),
            )
        return logits

    def _on_device(self, values: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        tensor: torch.Tensor = async_tensor_h2d(values, device=self._device, dtype=dtype)
        return tensor


def _filled(token_ids: tuple[int, ...], vocab_size: int, filler: int) -> list[int]:
    """Token ids as a row of a table. Any that the model has not would be an error of the GPU."""
    known = [token_id for token_id in token_ids if token_id < vocab_size]
    return known + [filler] * (MAX_TOKEN_IDS - len(known))
