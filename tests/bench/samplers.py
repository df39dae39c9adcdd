"""Measures what the DRY and XTC samplers cost at each token.

    python -m tests.bench.samplers                 the V1 runner's, on a CPU
    python -m tests.bench.samplers --device cuda   the V2 runner's, on a GPU

Prompts have 4,000 tokens. On a CPU the processors are in vLLM's own persistent batch, and are set
against vLLM's sampler alone with the service's defaults, which is less than a step. On a GPU they
are to be set against the time per output token of the model that is served.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams

from tests.bench.conditions import conditions
from tests.bench.figures import markdown_table
from yap.chat.samplers.options import DryOptions, XtcOptions
from yap.chat.sampling import sampling_params
from yap.protocol import SamplingOptions
from yap.settings import Settings

BATCHES = (1, 16, 32)
VOCABULARIES = (32_000, 152_000)
PROMPT_TOKENS = 4000
_CONTEXT = PROMPT_TOKENS + 1024
SAMPLER = "vLLM's sampler"
_LOOP = range(20, 33)
_WARM_UP_STEPS = 3
_MOST_STEPS = 300
_DRY = DryOptions(0.8, 1.75, 2, 0, (1, 2, 3, 4)).extra_args()
_XTC = XtcOptions(0.5, 0.1, (1, 2)).extra_args()


@dataclass(frozen=True, slots=True)
class Way:
    """What every request of a batch asks of the samplers."""

    name: str
    args: Mapping[str, Any]
    in_a_loop: bool = False  # it says the same sentence for ever, as DRY would not have let it


WAYS = (
    Way("unused", {}),
    Way("DRY", _DRY),
    Way("DRY, all in a loop", _DRY, in_a_loop=True),
    Way("XTC", _XTC),
    Way("both", _DRY | _XTC),
)

Step = Callable[[torch.Tensor], object]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=6, help="for each size, about")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, on a CPU")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    about = conditions() | {"device": _name(device, arguments.threads)}
    print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n", flush=True)
    found = [
        {"vocabulary": vocabulary, "batch": batch}
        | measure(vocabulary, batch, device, arguments.seconds)
        for vocabulary in VOCABULARIES
        for batch in BATCHES
    ]
    print(_table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps({"conditions": about, "sizes": found}, indent=1))


def measure(
    vocabulary: int, batch: int, device: torch.device, seconds: float
) -> dict[str, float | None]:
    """Milliseconds of a step, medians: of the sampler alone, and what each way adds."""
    make = _v1_step if device.type == "cpu" else _v2_step
    with torch.inference_mode():
        steps = {way.name: make(vocabulary, batch, device, way) for way in WAYS}
        if device.type == "cpu":
            steps[SAMPLER] = _sampler_step(vocabulary, batch, device)
        logits = _logits(vocabulary, batch, device)
        times: dict[str, list[float]] = {name: [] for name in steps}
        end = time.perf_counter() + seconds
        while len(times[SAMPLER if SAMPLER in times else "both"]) < _MOST_STEPS:
            for name, step in steps.items():
                times[name].append(_timed(step, logits, device))
            if time.perf_counter() > end:
                break
    settled = {name: of[min(_WARM_UP_STEPS, len(of) - 1) :] for name, of in times.items()}
    return {name: round(float(np.median(of)), 4) for name, of in settled.items()}


def _timed(step: Step, logits: torch.Tensor, device: torch.device) -> float:
    copied = logits.clone()
    _wait_for(device)
    begun = time.perf_counter()
    step(copied)
    _wait_for(device)
    return (time.perf_counter() - begun) * 1000


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# --- the V1 runner's ------------------------------------------------------------------------


def _v1_step(vocabulary: int, batch: int, device: torch.device, way: Way) -> Step:
    from yap.chat.samplers.v1 import DryProcessor, XtcProcessor

    config: Any = SimpleNamespace(model_config=SimpleNamespace(seed=0))
    processors = [made(config, device, False) for made in (DryProcessor, XtcProcessor)]
    held, replies = _held(vocabulary, batch, device, processors, way)
    said = [_endless(prompt, way.in_a_loop) for prompt in _prompts(vocabulary, batch, way)]

    def step(logits: torch.Tensor) -> None:
        for reply, words in zip(replies, said, strict=True):
            reply.append(next(words))
        held.refresh_metadata()
        for processor in processors:
            processor.apply(logits)

    return step


def _sampler_step(vocabulary: int, batch: int, device: torch.device) -> Step:
    from vllm.v1.sample.sampler import Sampler

    held, _ = _held(vocabulary, batch, device, [], WAYS[0])
    sampler = Sampler()
    held.refresh_metadata()
    return lambda logits: sampler(logits, held.sampling_metadata)


def _held(
    vocabulary: int, batch: int, device: torch.device, processors: Sequence[Any], way: Way
) -> tuple[Any, list[list[int]]]:
    """vLLM's batch with its requests, and their replies as far as they are."""
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

    held = InputBatch(
        max_num_reqs=batch,
        max_model_len=_CONTEXT,
        max_num_batched_tokens=_CONTEXT,
        device=device,
        vocab_size=vocabulary,
        block_sizes=[32],
        max_num_blocks_per_req=[_CONTEXT // 32],
        logitsprocs=LogitsProcessors(processors),
        logitsprocs_need_output_token_ids=bool(processors),
    )
    replies: list[list[int]] = []
    for number, prompt in enumerate(_prompts(vocabulary, batch, way)):
        replies.append([])
        held.add_request(
            CachedRequestState(str(number), prompt, [], _params(way), None, ([0],), 0, replies[-1])
        )
    return held, replies


def _endless(prompt: Sequence[int], in_a_loop: bool) -> Iterator[int]:
    """What a reply goes on with: its loop, or words as the prompt has them, in any order."""
    if in_a_loop:
        return cycle(prompt[: len(_LOOP)])
    return cycle(random.Random(0).sample(prompt, len(prompt)))


# --- the V2 runner's ------------------------------------------------------------------------


def _v2_step(vocabulary: int, batch: int, device: torch.device, way: Way) -> Step:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

    from yap.chat.samplers.v2 import DryProcessor, XtcProcessor

    token_ids = torch.zeros(batch, _CONTEXT, dtype=torch.int32)
    token_ids[:, :PROMPT_TOKENS] = torch.tensor(_prompts(vocabulary, batch, way))
    held: Any = SimpleNamespace(gpu=_as_the_runner_keeps_it(token_ids, device))
    nothing: Any = None
    states = LogitsProcRequestState(device, batch, vocabulary, held, nothing, nothing, nothing)
    config: Any = SimpleNamespace(model_config=SimpleNamespace(seed=0))
    processors = [made(config, states) for made in (DryProcessor, XtcProcessor)]
    for processor in processors:
        for slot in range(batch):
            processor.add_request(slot, _params(way))
        processor.apply_staged_writes()
    slots = torch.arange(batch, dtype=torch.int32, device=device)
    context = LogitsContext(
        expanded_idx_mapping=slots,
        idx_mapping=slots,
        idx_mapping_np=np.arange(batch),
        expanded_local_pos=torch.zeros_like(slots),
        input_ids=held.gpu[:, PROMPT_TOKENS - 1],
        pos=torch.full((batch,), PROMPT_TOKENS - 1, device=device),
        seq_lens_upper_bound_np=np.full(batch, PROMPT_TOKENS, np.int32),
    )

    def step(logits: torch.Tensor) -> None:
        for processor in processors:
            processor.apply(logits, context)

    return step


def _as_the_runner_keeps_it(token_ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """In the host's memory, where the GPU reads it: the whole table is large."""
    from vllm.utils.torch_utils import get_accelerator_view_from_cpu_tensor

    if device.type == "cpu":
        return token_ids
    view: torch.Tensor = get_accelerator_view_from_cpu_tensor(token_ids.pin_memory())
    return view


# --- what both are given --------------------------------------------------------------------


def _prompts(vocabulary: int, batch: int, way: Way) -> list[list[int]]:
    """Texts whose words are as frequent as those of a language are (Zipf), or loops."""
    if way.in_a_loop:
        return [(list(_LOOP) * PROMPT_TOKENS)[:PROMPT_TOKENS]] * batch
    rng = np.random.default_rng(0)
    words = np.minimum(rng.zipf(1.2, (batch, PROMPT_TOKENS)) + 10, vocabulary - 1)
    prompts: list[list[int]] = words.tolist()
    return prompts


def _logits(vocabulary: int, batch: int, device: torch.device) -> torch.Tensor:
    """Scores as a model's are: noise, and a few tokens that are likely."""
    made = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, vocabulary, generator=made) * 2
    likely = torch.randint(10, vocabulary, (batch, 8), generator=made)
    scores = torch.linspace(18, 12, 8).expand(batch, 8)
    return logits.scatter_(1, likely, scores.contiguous()).to(device)


def _params(way: Way) -> SamplingParams:
    params = sampling_params(SamplingOptions(), Settings(), 150)
    params.extra_args = dict(way.args) or None
    return params


def _table(found: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in (SAMPLER, *(way.name for way in WAYS)) if name in found[0]]
    header = ["vocabulary", "batch", *(f"{name}, ms" for name in names)]
    rows = [
        [f"{size['vocabulary']:,}", size["batch"], *(_cell(size, name) for name in names)]
        for size in found
    ]
    return markdown_table(header, rows)


def _cell(size: Mapping[str, Any], name: str) -> str:
    if name == SAMPLER or SAMPLER not in size:
        return f"{size[name]:.3f}"
    return f"{size[name]:.3f} ({size[name] / size[SAMPLER]:.1%})"


def _name(device: torch.device, threads: int) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads} threads"


if __name__ == "__main__":
    main()
