"""Train the demo chat model: ``python -m models.training.chat.train --out DIR``.

Data, tokenizer, initial weights and batch order depend on ``--seed`` alone. On a GPU the
arithmetic (bfloat16, atomics in backward kernels) is not bit-deterministic.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
import transformers
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from models.training.chat.data import Batch, pad_id, sample_texts, stream_batches, stream_shards
from models.training.chat.model import MAX_POSITIONS, generation_config, model_config
from models.training.chat.tokenizer import train_tokenizer, wrap

WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.98)
MIN_LR_SHARE = 0.02
LOG_EVERY = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does; `minutes` bounds the training loop's wall clock."""

    out: Path
    steps: int
    minutes: float
    seed: int
    device: str
    batch_tokens: int
    tokenizer_shards: int
    workers: int
    lr: float
    warmup: int
    compile: bool


class Log:
    """Prints records and appends them to a JSON lines file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, **record: object) -> None:
        """Write one record."""
        line = json.dumps(record)
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()


def lr_scale(progress: float, step: int, warmup: int) -> float:
    """Linear warm-up, then cosine from 1 to MIN_LR_SHARE over `progress` in [0, 1]."""
    cosine = MIN_LR_SHARE + (1 - MIN_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return min(1.0, (step + 1) / warmup) * cosine


def batch_loss(model: LlamaForCausalLM, batch: Batch, device: torch.device) -> tuple[Tensor, int]:
    """Mean cross-entropy over the masked tokens, and their number."""
    tokens = torch.from_numpy(batch.tokens)
    # The hidden state before a token predicts it, so position 0 is never a target.
    targets = torch.from_numpy(batch.mask[:, 1:]).flatten().nonzero().squeeze(1)
    labels = tokens[:, 1:].flatten()[targets].to(device, non_blocking=True)
    inputs = tokens[:, :-1].to(device, non_blocking=True)
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    picked = hidden.flatten(0, 1)[targets.to(device, non_blocking=True)]
    logits: Tensor = model.lm_head(picked)
    return functional.cross_entropy(logits.float(), labels), len(labels)


def make_optimizer(model: LlamaForCausalLM, lr: float, device: torch.device) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, fused=device.type == "cuda")


def compile_layers(model: LlamaForCausalLM, batch: Batch, device: torch.device) -> bool:
    """Compile the decoder layers and try one pass; falls back to eager when that fails."""
    for layer in model.model.layers:
        layer.compile(dynamic=True)
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss, _ = batch_loss(model, batch, device)
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - any compiler failure means: run uncompiled
        print(f"torch.compile does not work here, training uncompiled: {error}", flush=True)
        for layer in model.model.layers:
            layer._compiled_call_impl = None
        return False
    finally:
        model.zero_grad(set_to_none=True)
    return True


def train(model: LlamaForCausalLM, batches: Iterator[Batch], plan: Plan, log: Log) -> None:
    """Run the training loop: `plan.steps` steps, annealed earlier if the clock runs out first."""
    device = torch.device(plan.device)
    model.train()
    first = next(batches)
    compiled = plan.compile and compile_layers(model, first, device)
    log.write(event="ready", compiled=compiled)
    optimizer = make_optimizer(model, plan.lr, device)
    begun = time.monotonic()
    seen = targets = 0
    step = 0
    progress = 0.0
    while step < plan.steps and progress < 1.0:
        batch = first if step == 0 else next(batches)
        elapsed = time.monotonic() - begun
        progress = max(step / plan.steps, elapsed / (60 * plan.minutes))
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * lr_scale(progress, step, plan.warmup)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss, count = batch_loss(model, batch, device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += batch.tokens.size
        targets += count
        step += 1
        if step % LOG_EVERY == 0 or step == plan.steps:
            log.write(
                event="step",
                step=step,
                loss=round(loss.item(), 4),
                lr=round(optimizer.param_groups[0]["lr"], 6),
                tokens=seen,
                seconds=round(time.monotonic() - begun, 1),
            )
    log.write(
        event="end",
        steps=step,
        by_clock=step < plan.steps,
        tokens=seen,
        target_tokens=targets,
        seconds=round(time.monotonic() - begun, 1),
    )


def describe(plan: Plan, model: LlamaForCausalLM) -> dict[str, object]:
    """The facts of a run that the model card states."""
    cuda = plan.device.startswith("cuda")
    return {
        "event": "start",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": plan.seed,
        "steps": plan.steps,
        "batch_tokens": plan.batch_tokens,
        "lr": plan.lr,
        "parameters": model.num_parameters(),
        "hardware": torch.cuda.get_device_name(0) if cuda else "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write weights (bfloat16) and configuration beside the tokenizer."""
    for layer in model.model.layers:
        layer._compiled_call_impl = None
    model.generation_config = generation_config(tokenizer)
    model.to(device="cpu", dtype=torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)


def run(plan: Plan) -> None:
    """Make the tokenizer, train, save."""
    plan.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    torch.set_float32_matmul_precision("high")
    begun = time.monotonic()
    tokenizer = train_tokenizer(sample_texts(plan.seed, plan.tokenizer_shards, plan.workers))
    print(f"tokenizer trained in {time.monotonic() - begun:.1f} s", flush=True)
    model = LlamaForCausalLM(model_config(tokenizer)).to(plan.device)
    wrap(tokenizer, MAX_POSITIONS).save_pretrained(plan.out)
    shards = stream_shards(str(plan.out / "tokenizer.json"), plan.seed, plan.workers)
    batches = stream_batches(shards, plan.batch_tokens, pad_id(tokenizer))
    with (plan.out / "training.jsonl").open("w", encoding="utf-8") as file:
        log = Log(file)
        log.write(**describe(plan, model))
        train(model, batches, plan, log)
    shards.close()  # type: ignore[attr-defined]
    save(model, tokenizer, plan.out)
    print(f"saved to {plan.out} after {time.monotonic() - begun:.0f} s", flush=True)


def parse_args() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("models/yap-chat-demo"), help="output folder")
    add("--steps", type=int, default=9000, help="optimizer steps; defines the run")
    add("--minutes", type=float, default=8.0, help="safety stop of the training loop")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch-tokens", type=int, default=65536, help="tokens a step, padding included")
    add("--tokenizer-shards", type=int, default=40, help="1,024 conversations each")
    add("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    add("--lr", type=float, default=3e-3, help="peak learning rate")
    add("--warmup", type=int, default=300, help="warm-up steps")
    add("--no-compile", dest="compile", action="store_false", help="skip torch.compile")
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    run(parse_args())
