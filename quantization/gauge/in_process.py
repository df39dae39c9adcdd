"""The gauge inside the quantizer's process: exact, and for every format.

Before quantization the original's log-probabilities of the whole vocabulary are written to a file,
at every position of the held-out rows, as 32-bit floats; afterwards the quantized model's are held
against them, a few tokens at a time. So both models need never be in memory together, a vocabulary
of 150,000 costs no more memory than one of 1,000, and a format is gauged that this machine could
not serve. Sums are in 64 bits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quantization.errors import ExitCode, QuantizationError
from quantization.gauge.comparison import Scores, compare_scores
from quantization.gauge.result import Gauge
from quantization.writing import part_of, write_whole

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]

_MOST_FILE: Final = 4 << 30  # bytes of the reference
_MOST_TOKENS: Final = 16_384
_CHUNK: Final = 1 << 22  # log-probabilities that are worked on at a time
_LOGS: Final = "reference.bin"
_FACTS: Final = "reference.json"


def token_budget(vocabulary: int) -> int:
    """How many held-out tokens keep the reference within 4 GiB; 16,384 at most."""
    return max(1, min(_MOST_TOKENS, _MOST_FILE // (4 * vocabulary)))


def reference(model: Any, rows: Sequence[Sequence[int]], folder: Path, progress: Progress) -> None:
    """Write the original's log-probabilities for `rows` into `folder`, unless they are there.

    Args:
        model: of transformers, for causal language models, with the original weights.
        rows: token ids; from each row of n tokens, n - 1 are scored.

    Raises:
        QuantizationError: the disk has no room, or the model's outputs are no numbers.
    """
    rows = [list(row) for row in rows if len(row) > 1]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    if not rows:
        raise QuantizationError("There are no held-out texts for the gauge.", ExitCode.USAGE)
    with_facts = folder / _FACTS
    if with_facts.is_file() and json.loads(with_facts.read_text())["sha256"] == digest:
        return
    discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scored = sum(len(row) - 1 for row in rows)
    logs: np.memmap[Any, np.dtype[np.float32]] | None = None
    done = 0
    for number, (_, chunks) in enumerate(_outputs(model, rows, "original"), 1):
        for chunk in chunks:
            if logs is None:
                logs = _mapped(folder, scored, chunk.shape[1])
            logs[done : done + len(chunk)] = chunk.float().cpu().numpy()
            done += len(chunk)
        progress("reference", number, len(rows))
    if logs is None:
        raise QuantizationError("There are no held-out texts for the gauge.", ExitCode.USAGE)
    logs.flush()
    facts = {"sha256": digest, "vocabulary": int(logs.shape[1]), "tokens": scored, "rows": rows}
    write_whole(with_facts, json.dumps(facts))  # with it the reference counts as whole


def compare(model: Any, folder: Path, progress: Progress) -> Gauge:
    """Hold the quantized model against what `reference` wrote.

    Raises:
        QuantizationError: there is no reference, or the model's outputs are no numbers.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text())
        shape = (facts["tokens"], facts["vocabulary"])
        logs = np.memmap(folder / _LOGS, np.float32, "r", shape=shape)
    except (OSError, ValueError, KeyError) as error:
        raise QuantizationError(
            f'The gauge\'s reference in "{folder}" is missing or damaged ({error}): run the '
            "command again from its beginning.",
            ExitCode.DAMAGED,
        ) from error
    rows = facts["rows"]
    scores = []
    done = 0
    for number, (targets, chunks) in enumerate(_outputs(model, rows, "quantized"), 1):
        parts = []
        at = 0
        for chunk in chunks:
            if chunk.shape[1] != shape[1]:
                raise QuantizationError(
                    f"The quantized model has a vocabulary of {chunk.shape[1]:,}, and the original "
                    f"one of {shape[1]:,}: they are not the same model.",
                    ExitCode.DAMAGED,
                )
            before = np.array(logs[done : done + len(chunk)])
            parts.append(_scores(before, chunk, targets[at : at + len(chunk)]))
            done += len(chunk)
            at += len(chunk)
        scores.append(_finite(_joined(parts)))
        progress("gauge", number, len(rows))
    return Gauge(**compare_scores(scores, kl_exact=True).model_dump())


def discard(folder: Path) -> None:
    """Remove what `reference` wrote."""
    for path in (folder / _FACTS, part_of(folder / _FACTS), folder / _LOGS):
        path.unlink(missing_ok=True)


def _mapped(folder: Path, tokens: int, vocabulary: int) -> np.memmap[Any, np.dtype[np.float32]]:
    needed, free = 4 * tokens * vocabulary, shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise QuantizationError(
            f"The gauge's reference needs {needed / 2**30:.1f} GiB in {folder}, and "
            f"{free / 2**30:.1f} are free: make room, or move the work folder.",
            ExitCode.NO_ROOM,
        )
    return np.memmap(folder / _LOGS, np.float32, "w+", shape=(tokens, vocabulary))


def _outputs(
    model: Any, rows: Sequence[Sequence[int]], which: str
) -> Iterator[tuple[torch.Tensor, Iterator[torch.Tensor]]]:
    """For each row the tokens to be predicted, and log-probabilities of shape [tokens, vocabulary]
    in chunks."""
    import torch

    model.eval()
    device = model.device
    for row in rows:
        ids = torch.tensor([list(row)], device=device)
        with torch.no_grad():
            mask = torch.ones_like(ids)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, :-1]
        yield ids[0, 1:], _log_probabilities(logits, which)


def _log_probabilities(logits: torch.Tensor, which: str) -> Iterator[torch.Tensor]:
    import torch

    tokens = max(1, _CHUNK // logits.shape[1])
    for start in range(0, len(logits), tokens):
        logs = torch.log_softmax(logits[start : start + tokens].float(), dim=-1)
        if bool(logs.isnan().any()):
            raise _no_numbers(which)
        yield logs


def _scores(before: Any, after: torch.Tensor, targets: torch.Tensor) -> Scores:
    """Scores of some tokens, from log-probabilities of shape [tokens, vocabulary]."""
    import torch

    original = torch.from_numpy(before).to(after.device)
    p = original.exp()
    # What the original holds for impossible adds nothing, whatever the other says of it.
    terms = torch.where(p > 0, p * (original - after), torch.zeros_like(p))
    at = targets.to(after.device).unsqueeze(1)
    agree = original.argmax(dim=-1) == after.argmax(dim=-1)
    return Scores(
        original=_array(original.gather(1, at).squeeze(1)),
        quantized=_array(after.gather(1, at).squeeze(1)),
        kl=_array(terms.sum(dim=-1, dtype=torch.float64)),
        agree=_array(agree),
    )


def _finite(scores: Scores) -> Scores:
    """The scores, once they are seen to be numbers: what is there cannot be impossible."""
    if not np.isfinite(scores.original).all():
        raise _no_numbers("original")
    if not (np.isfinite(scores.quantized).all() and np.isfinite(scores.kl).all()):
        raise _no_numbers("quantized")
    return scores


def _no_numbers(which: str) -> QuantizationError:
    return QuantizationError(
        f"The {which} model's outputs are no numbers (NaN or infinite): its weights are damaged, "
        "or overflow in this precision.",
        ExitCode.FAILED,
    )


def _array(values: torch.Tensor) -> Any:
    return values.double().cpu().numpy()


def _joined(parts: Sequence[Scores]) -> Scores:
    return Scores(
        original=np.concatenate([part.original for part in parts]),
        quantized=np.concatenate([part.quantized for part in parts]),
        kl=np.concatenate([part.kl for part in parts]),
        agree=np.concatenate([part.agree for part in parts]),
    )
