"""Runs a checkpoint over a dataset as the service runs it, and times it."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yap.screen.dataset import DatasetError, Row
from yap.screen.quality import Labels, Probabilities

if TYPE_CHECKING:
    from yap.screen.checkpoint import Checkpoint, Options

Advance = Callable[[int], object]

_CHUNK_ROWS = 1024
_WARM_UPS = 3
_GPU_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Host:
    """What the figures were measured on."""

    device: str
    machine: str
    cpus: int
    threads: int
    python: str
    torch: str
    transformers: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokenizing and forward passes in batches."""

    rows_per_s: float
    tokens_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds to tokenize a row and run it, one at a time; tokens are its median length."""

    texts: int
    tokens: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is judged, and how it is run as far as the service has settings for that."""
    parser.add_argument("model", metavar="MODEL", help="a folder, or a name on the Hub")
    parser.add_argument(
        "datasets", metavar="DATASET", nargs="+", type=Path, help="labelled lines, see below"
    )
    group = parser.add_argument_group("how the model is run")
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)"
    )
    group.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="CPU threads (default: 1)"
    )
    group.add_argument(
        "--batch",
        type=positive,
        default=32,
        metavar="N",
        help="most texts in a batch (default: 32)",
    )
    group.add_argument(
        "--history-tokens",
        type=not_negative,
        default=1536,
        metavar="N",
        help="most tokens of earlier lines, as TOOL_HISTORY_TOKENS (default: 1536)",
    )
    group.add_argument(
        "--max-length",
        type=positive,
        default=1536,
        metavar="N",
        help="most tokens of an input, as TOOL_MAX_LENGTH (default: 1536)",
    )
    group.add_argument(
        "--int8", action="store_true", help="quantize on the CPU, as TOOL_INT8=1 does"
    )
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with the model; only for one that you trust",
    )


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def not_negative(text: str) -> int:
    """A whole number from 0, for argparse."""
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{value} is not 0 or more")
    return value


def options(arguments: argparse.Namespace) -> Options:
    """The `Options` that parsed `add_arguments` stand for."""
    from yap.screen.checkpoint import Options

    return Options(
        model=arguments.model,
        device=arguments.device,
        gpu_share=_GPU_SHARE,
        threads=arguments.threads,
        max_length=arguments.max_length,
        history_tokens=arguments.history_tokens,
        batch_texts=arguments.batch,
        int8=arguments.int8,
        trust_remote_code=arguments.trust_remote_code,
    )


def load(chosen: Options) -> Checkpoint:
    """The checkpoint, loaded without a progress bar of its own.

    Raises:
        StartupError: it cannot be loaded; the message says what to change.
    """
    from transformers.utils import logging

    from yap.screen.checkpoint import Checkpoint

    logging.disable_progress_bar()
    return Checkpoint(chosen)


def host(chosen: Options) -> Host:
    """This machine, and the device that `chosen` selects on it."""
    import torch
    import transformers

    on_gpu = chosen.device != "cpu" and torch.cuda.is_available()
    return Host(
        device=torch.cuda.get_device_name() if on_gpu else "CPU",
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
        threads=chosen.threads,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


def labels_of(rows: Sequence[Row]) -> Labels:
    """The labels, [rows]."""
    return np.array([row.label for row in rows], dtype=np.int64)


def score(
    checkpoint: Checkpoint, rows: Sequence[Row], chosen: Options, advance: Advance
) -> tuple[Probabilities, Throughput]:
    """The probability of yes for each row, in their order, and how fast that went.

    Args:
        advance: is told how many more rows are done, after each batch.

    Raises:
        DatasetError: the model gives no number for a row.
    """
    p_yes = np.zeros(len(rows))
    tokens = 0
    started = time.perf_counter()
    for begin in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[begin : begin + _CHUNK_ROWS]
        inputs = [checkpoint.token_ids(row.utterance, row.earlier) for row in chunk]
        tokens += sum(map(len, inputs))
        for batch in _batches(inputs, chosen.batch_texts, chosen.batch_tokens):
            p_yes[[begin + i for i in batch]] = checkpoint.probabilities([inputs[i] for i in batch])
            advance(len(batch))
    seconds = time.perf_counter() - started
    if not np.isfinite(p_yes).all():
        first = rows[int(np.flatnonzero(~np.isfinite(p_yes))[0])]
        raise DatasetError(
            f"{first.where}: the model's answer is not a number; its weights are damaged, or too "
            "large for 16-bit floats (try --device cpu)."
        )
    return p_yes, Throughput(len(rows) / seconds, tokens / seconds, seconds)


def _batches(
    inputs: Sequence[Sequence[int]], most_texts: int, most_tokens: int
) -> Iterator[list[int]]:
    """Indices of inputs of about one length, padded tokens within `most_tokens`."""
    batch: list[int] = []
    for index in sorted(range(len(inputs)), key=lambda i: len(inputs[i])):
        full = len(batch) == most_texts or (len(batch) + 1) * len(inputs[index]) > most_tokens
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def latency(
    checkpoint: Checkpoint, rows: Sequence[Row], texts: int, advance: Advance
) -> Latency | None:
    """Time `texts` rows, spread evenly over the dataset, one at a time; None for no texts."""
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(texts, len(rows))).astype(int)]
    if not chosen:
        return None
    for row in chosen[:_WARM_UPS]:
        checkpoint.probabilities([checkpoint.token_ids(row.utterance, row.earlier)])
    times, lengths = np.zeros(len(chosen)), np.zeros(len(chosen))
    for i, row in enumerate(chosen):
        started = time.perf_counter()
        token_ids = checkpoint.token_ids(row.utterance, row.earlier)
        checkpoint.probabilities([token_ids])
        times[i] = (time.perf_counter() - started) * 1000
        lengths[i] = len(token_ids)
        advance(1)
    p50, p90, p99 = (float(np.percentile(times, q)) for q in (50, 90, 99))
    return Latency(len(chosen), float(np.median(lengths)), p50, p90, p99)
