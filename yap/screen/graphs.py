"""A model as CUDA graphs, one for each size of batch, so that a forward pass is one launch.

A small model's time on a GPU goes into launching its hundreds of kernels one by one. A captured
graph is replayed whole. It has a fixed shape, so inputs are padded to the next size there is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Forward = Callable[[Tensor, Tensor], Tensor]

_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_TEXTS = (1, 2, 4, 8, 16, 32)
_WARM_UPS = 2


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    ids: Tensor
    mask: Tensor
    logits: Tensor


class Graphs:
    """`run`, captured for every size up to its limits; larger inputs are run as they are."""

    def __init__(self, run: Forward, max_length: int, most_texts: int, most_tokens: int) -> None:
        """
        Args:
            run: logits [texts, labels] of ids and mask, both [texts, length], on the GPU.
            max_length: the most tokens of a text.
            most_texts, most_tokens: the most of a batch, padding included.
        """
        self._run = run
        self._captured: dict[tuple[int, int], _Captured] = {}
        lengths = [length for length in _LENGTHS if length < max_length] + [max_length]
        # Every batch that the batcher makes fits into one of these.
        sizes = {
            (min(texts, most_texts, max(1, most_tokens // length)), length)
            for length in lengths
            for texts in (*_TEXTS, most_texts)
        }
        pool = None
        # The largest first: the smaller ones then fit into its memory.
        for texts, length in sorted(sizes, key=lambda size: -size[0] * size[1]):
            try:
                captured = _capture(run, texts, length, pool)
            except RuntimeError:
                log.warning(
                    "The classifier cannot be captured as CUDA graphs, and runs without; "
                    "TOOL_COMPILE=0 does not try",
                    exc_info=True,
                )
                self._captured.clear()
                return
            pool = pool or captured.graph.pool()
            self._captured[texts, length] = captured

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [texts, labels]."""
        texts, length = ids.shape
        fits = [size for size in self._captured if size[0] >= texts and size[1] >= length]
        if not fits:
            return self._run(ids, mask)
        captured = self._captured[min(fits, key=lambda size: size[0] * size[1])]
        captured.mask.fill_(False)
        captured.mask[:, 0] = True  # a row that stands for nothing must have something to read
        captured.ids[:texts, :length].copy_(ids)
        captured.mask[:texts, :length].copy_(mask)
        captured.graph.replay()
        return captured.logits[:texts]


def _capture(
    run: Forward, texts: int, length: int, pool: torch.cuda._POOL_HANDLE | None
) -> _Captured:
    ids = torch.zeros((texts, length), dtype=torch.long, device="cuda")
    mask = torch.ones((texts, length), dtype=torch.bool, device="cuda")
    with torch.inference_mode():
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):  # libraries set themselves up, which cannot be captured
                run(ids, mask)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = run(ids, mask)
    return _Captured(graph, ids, mask, logits)
