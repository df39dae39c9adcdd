"""Trains the demo screenshot-intent classifier and saves it as a Hugging Face folder.

    python -m models.training.screen.train --out DIR --start all-MiniLM-L6-v2 --width 384 \
        --layers 3 --window 256 --steps 12000 --learning-rate 3e-4

Without `--start` the model begins from nothing, with a tokenizer of its own, fitted on the training
split alone. The checkpoint with the best validation accuracy is kept, and its temperature is fitted
on validation. The test split is not touched here.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import LongformerForSequenceClassification, PreTrainedTokenizerFast

from models.training.screen import pretrained
from models.training.screen.batches import Batch, Example, collate, endless, examples, plan
from models.training.screen.data import dataset
from models.training.screen.model import build_model, dense_encode, save_model
from models.training.screen.tokenizer import (
    EOS_ID,
    MASK_ID,
    MAX_TOKENS,
    PAD_ID,
    encode,
    train_tokenizer,
)
from yap.screen.quality import fit_temperature

TOKENIZER_ROWS = 120_000
MASK_RATES = (0.0, 0.08, 0.18)
CLASS_LOSS_WEIGHT = 0.3
MASK_LOSS_WEIGHT = 0.2
TEACHER_SHARE = 0.7  # of the yes/no loss, where there is a teacher
EMA_DECAY = 0.998
SHORT_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Settings:
    """One training run; `budget` counts padded tokens a batch."""

    out: Path
    steps: int
    minutes: float
    seed: int
    device: str
    train_rows: int
    validation_rows: int
    batch_rows: int
    budget: int
    learning_rate: float
    embedding_rate: float
    interval: int
    patience: int
    workers: int
    width: int
    layers: int
    window: int
    start: Path | None
    vocabulary: int
    resume: Path | None
    short_phase: float
    teacher: Path | None


class Heads(nn.Module):
    """Two training-only tasks: name the phrasing class, and restore masked tokens."""

    def __init__(self, width: int, n_classes: int, vocab_size: int) -> None:
        super().__init__()
        self.phrase_class = nn.Linear(width, n_classes)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def restore(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Vocabulary logits [tokens, vocab] for hidden states [tokens, width]."""
        return functional.linear(self.mix(hidden), embeddings, self.bias)


def main() -> None:
    """Command line entry point."""
    settings = _parse_arguments()
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    rows = dataset(
        {"train": settings.train_rows, "validation": settings.validation_rows, "test": 0},
        settings.seed,
        settings.workers,
    )
    tokenizer, model = _beginning(settings, [row.text for row in rows["train"][:TOKENIZER_ROWS]])
    class_names = sorted({row.phrase_class for row in rows["train"]})
    train, validation = (
        examples(rows[split], encode(tokenizer, [row.text for row in rows[split]]), class_names)
        for split in ("train", "validation")
    )
    tokens = sum(len(e.ids) for e in train) / len(train)
    print(
        f"{len(train)} training rows of {tokens:.0f} tokens, {len(validation)} validation rows, "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )
    log = _fit(model, train, validation, len(class_names), settings)
    logits = _logits(model, validation, settings)
    labels = np.array([e.label for e in validation])
    temperature = fit_temperature(logits[:, 1] - logits[:, 0], labels)
    settings.out.mkdir(parents=True, exist_ok=True)
    save_model(model.cpu(), settings.out, temperature)
    tokenizer.save_pretrained(settings.out)
    record = {
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if settings.device == "cuda" else "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "settings": {
            name: value.name if isinstance(value, Path) else value
            for name, value in asdict(settings).items()
        },
        "rows": {"train": len(train), "validation": len(validation)},
        "tokens_per_row": round(tokens, 1),
        "temperature": round(temperature, 4),
        "log": log,
        "before": _record_of(settings.resume),
    }
    (settings.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"saved {settings.out} after {record['wall_seconds']} s, T={temperature:.3f}", flush=True)


def _record_of(folder: Path | None) -> dict[str, Any] | None:
    """What an earlier run wrote about itself."""
    if folder is None:
        return None
    record: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return record


def _beginning(
    settings: Settings, texts: list[str]
) -> tuple[PreTrainedTokenizerFast, LongformerForSequenceClassification]:
    """Tokenizer and weights to begin with: an earlier run's, a MiniLM's, or new ones."""
    if settings.resume is not None:
        model = LongformerForSequenceClassification.from_pretrained(
            settings.resume, dtype=torch.float32
        )
        return PreTrainedTokenizerFast.from_pretrained(settings.resume), model
    if settings.start is None:
        tokenizer = train_tokenizer(texts)
    else:
        tokenizer = pretrained.cut_tokenizer(settings.start, texts, settings.vocabulary)
    model = build_model(len(tokenizer), settings.width, settings.layers, settings.window)
    if settings.start is not None:
        pretrained.take_weights(settings.start, model, tokenizer)
    return tokenizer, model


def _fit(
    model: LongformerForSequenceClassification,
    train: list[Example],
    validation: list[Example],
    n_classes: int,
    settings: Settings,
) -> list[dict[str, float]]:
    """Train in place and leave the best averaged weights in `model`; returns the log."""
    device = torch.device(settings.device)
    heads = Heads(model.config.hidden_size, n_classes, model.config.vocab_size)
    both = nn.ModuleList((model, heads)).to(device)
    averaged = copy.deepcopy(model).eval()
    teacher = _teacher(settings, model)
    optimizer = _optimizer(both, model, settings)
    batches = _curriculum(train, settings)
    dice = Random(settings.seed + 1)
    log: list[dict[str, float]] = []
    best, best_weights, stale, running = -1.0, copy.deepcopy(model.state_dict()), 0, 0.0
    started = time.perf_counter()
    for step in range(1, settings.steps + 1):
        elapsed = (time.perf_counter() - started) / 60
        progress = max(step / settings.steps, elapsed / settings.minutes)
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * _warm_cosine(progress)
        model.train()
        loss = _loss(model, heads, next(batches), dice, teacher)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        _average(averaged, model, min(EMA_DECAY, step / (step + 10)))
        running += float(loss.detach()) if step % 10 == 0 else 0.0
        over = progress >= 1
        if step % settings.interval and not over:
            continue
        entry = _score(averaged, validation, settings)
        entry |= {"step": step, "loss": round(running * 10 / settings.interval, 4)}
        entry["seconds"] = round(time.perf_counter() - started, 1)
        running = 0.0
        log.append(entry)
        print(json.dumps(entry), flush=True)
        if entry["accuracy"] > best:
            best, stale = entry["accuracy"], 0
            best_weights = copy.deepcopy(averaged.state_dict())
        else:
            stale += 1
        if over or stale >= settings.patience:
            break
    model.load_state_dict(best_weights)
    return log


def _teacher(
    settings: Settings, model: LongformerForSequenceClassification
) -> LongformerForSequenceClassification | None:
    """A deeper model that was trained on the same rows, whose doubts are learnt as well as labels
    (Hinton et al., 2015, arXiv:1503.02531).

    Raises:
        ValueError: its words are not the model's.
    """
    if settings.teacher is None:
        return None
    teacher = LongformerForSequenceClassification.from_pretrained(
        settings.teacher, dtype=torch.float32
    )
    if teacher.config.vocab_size != model.config.vocab_size:
        raise ValueError(f"--teacher {settings.teacher} has another vocabulary")
    return teacher.to(settings.device).eval()


def _optimizer(
    both: nn.ModuleList, model: LongformerForSequenceClassification, settings: Settings
) -> torch.optim.Optimizer:
    """AdamW, its groups with the full rate under "full"; word vectors have a rate of their own.

    Words that no training row holds keep the places that the encoder gave them, so the words that
    are trained must not wander far from there either.
    """
    words = model.longformer.embeddings.word_embeddings.weight
    others = [parameter for parameter in both.parameters() if parameter is not words]
    rate = settings.learning_rate
    groups = [
        {"params": others, "full": rate},
        {"params": [words], "full": rate * settings.embedding_rate},
    ]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.05)


def _curriculum(train: list[Example], settings: Settings) -> Iterator[Batch]:
    """All rows, after a phase of short ones: a model that starts from nothing learns much sooner
    to tell the judged line when there is no long history before it."""
    dice, device = Random(settings.seed), torch.device(settings.device)
    short = [example for example in train if len(example.ids) <= SHORT_TOKENS]
    first = endless(short, settings.budget, settings.batch_rows, dice, device)
    then = endless(train, settings.budget, settings.batch_rows, dice, device)
    return chain(islice(first, int(settings.short_phase * settings.steps)), then)


def _loss(
    model: LongformerForSequenceClassification,
    heads: Heads,
    batch: Batch,
    dice: Random,
    teacher: LongformerForSequenceClassification | None = None,
) -> Tensor:
    """Yes/no loss plus the two side tasks on one batch."""
    masked = _mask(batch.ids, dice.choice(MASK_RATES))
    shift = _shift(batch.ids, dice)
    with torch.autocast(batch.ids.device.type, dtype=torch.bfloat16):
        hidden = dense_encode(model, masked, shift)
        logits = model.classifier(hidden)
        classes = heads.phrase_class(hidden[:, 0])
        where = masked != batch.ids
        restored = heads.restore(hidden[where], model.longformer.embeddings.word_embeddings.weight)
    loss = functional.cross_entropy(logits.float(), _goal(batch, teacher))
    loss = loss + CLASS_LOSS_WEIGHT * functional.cross_entropy(classes.float(), batch.classes)
    if len(restored):
        target = batch.ids[where]
        loss = loss + MASK_LOSS_WEIGHT * functional.cross_entropy(restored.float(), target)
    return loss


def _goal(batch: Batch, teacher: LongformerForSequenceClassification | None) -> Tensor:
    """What the yes/no answer is to be, as probabilities [rows, 2]."""
    labels = functional.one_hot(batch.labels, 2).float()
    if teacher is None:
        return labels
    with torch.no_grad(), torch.autocast(batch.ids.device.type, dtype=torch.bfloat16):
        said = teacher.classifier(dense_encode(teacher, batch.ids)).float().softmax(dim=1)
    return torch.lerp(labels, said, TEACHER_SHARE)


def _mask(ids: Tensor, rate: float) -> Tensor:
    """Replace a share of the ordinary tokens by `<mask>`: token dropout and cloze task in one."""
    ordinary = (ids != PAD_ID) & (ids != EOS_ID)
    ordinary[:, 0] = False
    chosen = (torch.rand(ids.shape, device=ids.device) < rate) & ordinary
    return ids.masked_fill(chosen, MASK_ID)


def _shift(ids: Tensor, dice: Random) -> Tensor | None:
    """Now and then move rows to far positions, so that all 1536 are trained by short rows too."""
    room = MAX_TOKENS - ids.shape[1]
    if room <= 0 or dice.random() > 0.3:
        return None
    return torch.randint(0, room + 1, (ids.shape[0],), device=ids.device)


def _warm_cosine(progress: float) -> float:
    """Linear warm-up over the first twentieth of the run, then a cosine down to 2 %."""
    if progress < 0.05:
        return max(progress, 0.001) / 0.05
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.05) / 0.95)))


def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    with torch.no_grad():
        ours: list[Tensor] = list(averaged.parameters())
        theirs: list[Tensor] = list(model.parameters())
        torch._foreach_mul_(ours, decay)
        torch._foreach_add_(ours, theirs, alpha=1 - decay)


def _score(
    model: LongformerForSequenceClassification, pool: list[Example], settings: Settings
) -> dict[str, float]:
    """Validation accuracy at 0.5 and log-loss."""
    logits = torch.from_numpy(_logits(model, pool, settings))
    labels = torch.tensor([e.label for e in pool])
    return {
        "accuracy": round(float((logits.argmax(1) == labels).double().mean()), 4),
        "log_loss": round(float(functional.cross_entropy(logits, labels)), 4),
    }


@torch.no_grad()
def _logits(
    model: LongformerForSequenceClassification, pool: list[Example], settings: Settings
) -> NDArray[np.float64]:
    """Logits [rows, 2] in the order of `pool`."""
    device = torch.device(settings.device)
    model.eval()
    place = {id(example): index for index, example in enumerate(pool)}
    out = np.zeros((len(pool), 2))
    for members in plan(pool, settings.budget, settings.batch_rows):
        logits = model.classifier(dense_encode(model, collate(members, device).ids))
        out[[place[id(e)] for e in members]] = logits.double().cpu().numpy()
    return out


def _parse_arguments() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument(
        "--minutes", type=float, default=60, help="end sooner, with the schedule squeezed into it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--train-rows", type=int, default=400_000)
    parser.add_argument("--validation-rows", type=int, default=6000)
    parser.add_argument("--batch-rows", type=int, default=512)
    parser.add_argument("--budget", type=int, default=49_152, help="padded tokens a batch")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument(
        "--embedding-rate", type=float, default=1.0, help="of word vectors, times --learning-rate"
    )
    parser.add_argument("--interval", type=int, default=250, help="steps between validations")
    parser.add_argument("--patience", type=int, default=12, help="intervals without a gain")
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--window", type=int, default=64, help="of the local attention, in tokens")
    parser.add_argument("--start", type=Path, help="folder of a MiniLM to start from")
    parser.add_argument(
        "--short-phase", type=float, default=0.0, help="share of --steps on short rows alone, first"
    )
    parser.add_argument("--resume", type=Path, help="folder of an earlier run to go on from")
    parser.add_argument(
        "--vocabulary", type=int, default=16_384, help="word pieces to keep of the MiniLM's"
    )
    parser.add_argument("--teacher", type=Path, help="folder of a deeper model of the same words")
    return Settings(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
