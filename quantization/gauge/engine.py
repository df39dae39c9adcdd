"""One model in vLLM: scores of the held-out rows, memory and speed. A process for each model.

    python -m quantization.gauge.engine MODEL ROWS RESULT

RESULT.npz holds, for all scored tokens of all rows one behind another: `token`, the one that is
there, and `logs`, its log-probability; `ids` and `top`, the likeliest TOP tokens, the likeliest
first, and their log-probabilities. RESULT.json holds a `Report`. What vLLM says of a
model that it does not load is the `reason` in there, and no error of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import BaseModel

from quantization.gauge.result import Run
from yap.chat.guard import watch_parent

if TYPE_CHECKING:
    from vllm import LLM

TOP: Final = 20
_BATCHES: Final = (1, 8)
_DECODED: Final = 64  # tokens of each reply that is timed
_PROBED: Final = 4  # tokens that tell whether so many would take too long
_PATIENCE_S: Final = 10.0
_REPEATS: Final = 3
_PREFILLED: Final = 512  # tokens of a prompt that is timed
_PROMPTS: Final = 4
_STEP_TOKENS: Final = 1024  # log-probabilities of a step are [tokens, vocabulary] in 32 bits
_CPU_CACHE_GIB: Final = "1"
_LONGEST_REASON: Final = 400


class Report(BaseModel):
    """What was found, without the size on disk, and what vLLM ran on."""

    device: str
    run: Run


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one model."""
    parser = argparse.ArgumentParser(prog="python -m quantization.gauge.engine")
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("result", type=Path)
    options = parser.parse_args(argv)
    # An engine that is left alone would hold its memory for ever.
    watch_parent(os.getppid(), lambda: os._exit(1))
    # In this very process: errors come as they are, and the model can be asked about its memory.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_CACHE_GIB)
    # Replies are greedy, and FlashInfer's sampler would have to be compiled, if it can be at all.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    rows = json.loads(options.rows.read_text())
    from vllm.platforms import current_platform

    cpu = bool(current_platform.is_cpu())
    report = Report(
        device="CPU" if cpu else str(current_platform.get_device_name()),
        run=_measure(options.model, rows, options.result, eager=cpu),
    )
    options.result.with_suffix(".json").write_text(report.model_dump_json(indent=2) + "\n")
    return 0


def _measure(model: str, rows: list[list[int]], result: Path, *, eager: bool) -> Run:
    try:
        return _measured(model, rows, result, eager=eager)
    except Exception as error:  # noqa: BLE001 - whatever vLLM raises is the finding
        traceback.print_exc()
        return Run(served=False, reason=reason(error), file_bytes=0)


def _measured(model: str, rows: list[list[int]], result: Path, *, eager: bool) -> Run:
    started = time.monotonic()
    llm = _load(model, max(map(len, rows)), eager=eager)
    loaded = time.monotonic() - started
    np.savez(result.with_suffix(".npz"), **_score(llm, rows))
    prompts = _prompts(rows)
    return Run(
        served=True,
        file_bytes=0,
        weight_bytes=_weight_bytes(llm),
        quantization=llm.llm_engine.vllm_config.model_config.quantization,
        load_seconds=round(loaded, 2),
        prefill_tokens=len(prompts[0]),
        prefill_per_second=_prefill(llm, prompts),
        decode_per_second={count: _decode(llm, prompts[0], count) for count in _BATCHES},
    )


def _load(model: str, longest: int, *, eager: bool) -> LLM:
    from vllm import LLM

    return LLM(
        model=model,
        # None: found in the model's own config, whatever it is.
        quantization=None,
        skip_tokenizer_init=True,
        max_model_len=max(longest, _PREFILLED) + _DECODED + 1,
        max_num_seqs=max(_BATCHES),
        max_num_batched_tokens=_STEP_TOKENS,
        max_logprobs=TOP,
        enable_prefix_caching=False,
        enforce_eager=eager,
        gpu_memory_utilization=0.8,
        disable_log_stats=True,
    )


def reason(error: BaseException) -> str:
    """Why a model was not loaded, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."


def _score(llm: LLM, rows: list[list[int]]) -> dict[str, Any]:
    from vllm import SamplingParams

    wanted = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=TOP, detokenize=False)
    tokens: list[int] = []
    logs: list[float] = []
    ids: list[list[int]] = []
    top: list[list[float]] = []
    outputs = llm.generate([{"prompt_token_ids": row} for row in rows], wanted, use_tqdm=False)
    for row, output in zip(rows, outputs, strict=True):
        # The first token is predicted by nothing.
        for token, there in zip(row[1:], list(output.prompt_logprobs or ())[1:], strict=True):
            if there is None:
                raise RuntimeError("vLLM left out the log-probabilities of a token")
            tokens.append(token)
            logs.append(there[token].logprob)
            best = sorted(there.items(), key=lambda one: one[1].rank or 1 << 30)[:TOP]
            ids.append([number for number, _ in best])
            top.append([one.logprob for _, one in best])
    if not np.isfinite(logs).all():
        raise RuntimeError("its log-probabilities are no numbers: weights or kernel are broken")
    there_ = {"token": np.array(tokens), "logs": np.array(logs)}
    return {**there_, "ids": np.array(ids), "top": np.array(top)}


def _prompts(rows: list[list[int]]) -> list[list[int]]:
    """Prompts of one length, each beginning elsewhere in the held-out rows."""
    tokens = [token for row in rows for token in row]
    tokens *= 1 + _PROMPTS * _PREFILLED // len(tokens)
    return [tokens[n * _PREFILLED : (n + 1) * _PREFILLED] for n in range(_PROMPTS)]


def _prefill(llm: LLM, prompts: list[list[int]]) -> float:
    """Tokens a second of prompts; the first round warms up, and the median counts."""
    took = [_seconds(llm, prompts, 1) for _ in range(_REPEATS + 1)][1:]
    return round(sum(map(len, prompts)) / statistics.median(took), 2)


def _decode(llm: LLM, prompt: list[int], count: int) -> float:
    """Tokens a second of `count` replies at a time, without the time to their first token."""
    prompts = [prompt[:32] for _ in range(count)]
    first = _seconds(llm, prompts, 1)
    probe = _seconds(llm, prompts, 1 + _PROBED) - first
    slow = probe / _PROBED * _DECODED > _PATIENCE_S
    tokens, repeats = (_PROBED, 1) if slow else (_DECODED, _REPEATS)
    took = []
    for _ in range(repeats):
        first = _seconds(llm, prompts, 1)
        took.append(_seconds(llm, prompts, 1 + tokens) - first)
    return round(count * tokens / max(statistics.median(took), 1e-6), 2)


def _seconds(llm: LLM, prompts: list[list[int]], tokens: int) -> float:
    from vllm import SamplingParams

    wanted = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True, detokenize=False)
    asked: Any = [{"prompt_token_ids": prompt} for prompt in prompts]
    started = time.perf_counter()
    llm.generate(asked, wanted, use_tqdm=False)
    return time.perf_counter() - started


def _weight_bytes(llm: LLM) -> int | None:
    """What loading took of the GPU's memory; None where vLLM does not count it."""
    counted: list[Any] = llm.collective_rpc(
        lambda worker: getattr(worker.model_runner, "model_memory_usage", None)
    )
    known = [int(one) for one in counted if one]
    return sum(known) if known else None


if __name__ == "__main__":
    sys.exit(main())
