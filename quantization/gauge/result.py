"""The gauge's result: numbers, bounds on them, and a table for people."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantization.gauge.comparison import Comparison

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Run(BaseModel):
    """One model in vLLM; `reason` says why where it was not served, and then nothing was measured.

    `file_bytes` is of the weights on disk, `weight_bytes` of those in the GPU's memory (None on a
    CPU, where vLLM does not count them). Speeds are tokens a second, of prompts and, by the number
    of replies at a time, of replies.
    """

    model_config = _STRICT

    served: bool
    reason: str | None = None
    file_bytes: int
    weight_bytes: int | None = None
    quantization: str | None = None
    load_seconds: float | None = None
    prefill_tokens: int | None = None
    prefill_per_second: float | None = None
    decode_per_second: dict[int, float] = Field(default_factory=dict)


class Served(BaseModel):
    """Both models in vLLM, on `device`; `comparison` is None unless both were served."""

    model_config = _STRICT

    device: str
    vllm: str
    original: Run
    quantized: Run
    comparison: Comparison | None = None


class Gauge(Comparison):
    """The comparison made in process, and `served` where vLLM was asked too.

    Where the quantizer's process cannot run what it made, `how` is "vLLM" and the numbers are
    those of `served`.
    """

    how: Literal["in process", "vLLM"] = "in process"
    served: Served | None = None


def of_served(served: Served) -> Gauge | None:
    """The gauge by vLLM alone; None where that did not serve both models."""
    if served.comparison is None:
        return None
    return Gauge(**served.comparison.model_dump(), how="vLLM", served=served)


class Bounds(BaseModel):
    """What a quantized model may lose; None is no bound.

    The defaults catch a model that is broken, not one that is a little worse.
    """

    model_config = _STRICT

    max_kl: float | None = Field(0.5, ge=0, allow_inf_nan=False)
    max_perplexity_ratio: float | None = Field(1.25, ge=1, allow_inf_nan=False)
    min_agreement: float | None = Field(0.6, ge=0, le=1)


def breaches(gauge: Gauge, bounds: Bounds) -> list[str]:
    """One sentence for each bound that is broken, in process or in vLLM."""
    found = [] if gauge.how == "vLLM" else _breaches(gauge, bounds, "")
    if gauge.served is not None and gauge.served.comparison is not None:
        found += _breaches(gauge.served.comparison, bounds, " in vLLM")
    return found


def _breaches(said: Comparison, bounds: Bounds, where: str) -> list[str]:
    found = []
    # Written so that what is no number breaks a bound.
    if bounds.max_kl is not None and not said.kl <= bounds.max_kl:
        least = "" if said.kl_exact else "at least "
        found.append(
            f"The KL divergence{where} is {least}{said.kl:.4f} nats a token, and "
            f"{bounds.max_kl:g} is allowed (--max-kl)."
        )
    if bounds.max_perplexity_ratio is not None and not (
        said.perplexity_ratio <= bounds.max_perplexity_ratio
    ):
        found.append(
            f"The perplexity{where} is {said.perplexity_ratio:.3f} times the original's, and "
            f"{bounds.max_perplexity_ratio:g} times is allowed (--max-perplexity-ratio)."
        )
    if bounds.min_agreement is not None and not said.agreement >= bounds.min_agreement:
        found.append(
            f"The likeliest next token{where} is the same for {said.agreement:.1%} of the tokens, "
            f"and {bounds.min_agreement:.1%} is demanded (--min-agreement)."
        )
    return found


def table(gauge: Gauge) -> str:
    """Both models side by side, as a Markdown table that reads well as plain text too."""
    served = gauge.served
    rows = [("in process", "original", "quantized", "difference"), *_compared(gauge)]
    text = _aligned(rows)
    where = f"{gauge.tokens:,} held-out tokens in {gauge.rows} rows; ± is one standard error."
    if served is None:
        return f"{text}\n{where}\n"
    if gauge.how == "vLLM":
        return f"{served_table(served)}{where}\n"
    return f"{text}\n{where}\n\n{served_table(served)}"


def served_table(served: Served) -> str:
    """The same for what vLLM serves, with sizes and speeds."""
    before, after = served.original, served.quantized
    rows = [(f"vLLM {served.vllm}", "original", "quantized", "difference")]
    if served.comparison is not None:
        rows += _compared(served.comparison)
    rows.append(_ratio("weights on disk, MiB", before.file_bytes, after.file_bytes, 2**20))
    rows.append(_ratio("weights on the GPU, MiB", before.weight_bytes, after.weight_bytes, 2**20))
    rows.append(_ratio("prefill, tokens/s", before.prefill_per_second, after.prefill_per_second))
    for count in sorted(before.decode_per_second.keys() | after.decode_per_second.keys()):
        label = f"decode, {count} at a time, tokens/s"
        pair = before.decode_per_second.get(count), after.decode_per_second.get(count)
        rows.append(_ratio(label, *pair))
    text = _aligned([row for row in rows if row[1:3] != ("-", "-")])
    notes = [f"On {served.device}."]
    for name, run in (("original", before), ("quantized model", after)):
        if not run.served:
            notes.append(f"vLLM does not serve the {name} here: {run.reason}")
    return f"{text}\n{' '.join(notes)}\n"


def _compared(said: Comparison) -> list[tuple[str, str, str, str]]:
    ratio = f"{_signed(said.perplexity_ratio - 1)} {_error(said.perplexity_ratio_se, 100, '%')}"
    least = "" if said.kl_exact else ">= "
    agreement = f"{said.agreement:.2%} {_error(said.agreement_se, 100, '%')}"
    return [
        (
            "perplexity",
            f"{said.perplexity_original:.3f}",
            f"{said.perplexity_quantized:.3f}",
            ratio.strip(),
        ),
        (
            "KL divergence, nats a token",
            "",
            "",
            f"{least}{said.kl:.5f} {_error(said.kl_se, 1, '')}".strip(),
        ),
        ("KL divergence, 99th percentile", "", "", f"{least}{said.kl_p99:.5f}"),
        ("same likeliest token", "", "", agreement.strip()),
    ]


def _signed(change: float) -> str:
    return f"{change * 100:+.2f}%"


def _error(error: float | None, scale: float, unit: str) -> str:
    if error is None:
        return ""
    return f"± {error * scale:.2f}{unit}" if unit else f"± {error:.5f}"


def _ratio(
    label: str, before: float | None, after: float | None, unit: float = 1
) -> tuple[str, str, str, str]:
    said = [f"{one / unit:,.1f}" if one is not None else "-" for one in (before, after)]
    change = f"x {after / before:.2f}" if before and after is not None else ""
    return label, said[0], said[1], change


def _aligned(rows: list[tuple[str, str, str, str]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = [
        f"| {row[0]:<{widths[0]}} | "
        + " | ".join(f"{row[n]:>{widths[n]}}" for n in range(1, 4))
        + " |"
        for row in rows
    ]
    rule = f"|{'-' * (widths[0] + 2)}|" + "|".join(f"{'-' * (w + 1)}:" for w in widths[1:]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
