"""What `inspect` and `plan` print: for people, and as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, Final

from quantization.model.checkpoint import Checkpoint
from quantization.planning.plan import Plan
from quantization.serving.judging import Serving
from quantization.serving.target import Target
from quantization.units import duration, number, size

_WIDTH: Final = 100
_LABEL: Final = 18


def inspection(checkpoint: Checkpoint, target: Target, served: Serving) -> dict[str, Any]:
    """All that `inspect` found."""
    found = checkpoint.quantization
    return {
        "model": checkpoint.model,
        "place": checkpoint.place,
        "revision": checkpoint.revision,
        "architecture": checkpoint.architecture,
        "model_type": checkpoint.model_type,
        "parameters": checkpoint.parameters,
        "experts": checkpoint.experts,
        "towers": list(checkpoint.towers),
        "longest_context": checkpoint.longest,
        "tokenizer": checkpoint.tokenizer,
        "chat_template": checkpoint.chat_template,
        "own_code": checkpoint.own_code,
        "weights": {
            "format": checkpoint.weights,
            "bytes": checkpoint.weight_bytes,
            "dtypes": [
                {
                    "dtype": share.dtype,
                    "tensors": share.tensors,
                    "numbers": share.numbers,
                    "bytes": share.size,
                }
                for share in checkpoint.shares
            ],
        },
        "quantization": None
        if found is None
        else {
            "method": found.method,
            "format": found.format,
            "bits": found.bits,
            "group_size": found.group_size,
            "symmetric": found.symmetric,
            "ignored": list(found.ignored),
            "kv_cache": found.kv_cache,
            "place": found.place,
        },
        "hardware": str(target),
        "serving": serving(served),
    }


def serving(served: Serving) -> dict[str, Any]:
    """How a model is served, for programs."""
    memory = served.memory
    return {
        "serves": served.serves,
        "kernel": served.kernel,
        "reasons": list(served.reasons),
        "warnings": list(served.warnings),
        "gpus": served.gpus,
        "context": served.context,
        "weights_bytes": served.weights,
        "kv_bytes_per_token": served.kv_bytes_per_token,
        "kv_cache_bytes": memory.kv_cache if memory else None,
        "kv_cache_tokens": memory.tokens if memory else None,
        "full_context_sessions": round(memory.sessions, 2) if memory else None,
    }


def planned(plan: Plan) -> dict[str, Any]:
    """All that `plan` decided."""
    estimate = plan.estimate
    return {
        "model": plan.checkpoint.model,
        "revision": plan.checkpoint.revision,
        "hardware": str(plan.target),
        "recipe": plan.recipe.model_dump(mode="json"),
        "scheme": plan.recipe.scheme,
        "fingerprint": plan.recipe.fingerprint,
        "decisions": [
            {"name": one.name, "value": _plain(one.value), "why": one.why} for one in plan.decisions
        ],
        "warnings": list(plan.warnings),
        "quantized_layers": len(plan.layers),
        "estimate": {
            "seconds": round(estimate.seconds),
            "memory_bytes": estimate.memory,
            "gpu_memory_bytes": estimate.device_memory,
            "disk_bytes": estimate.disk,
            "export_bytes": estimate.export,
            "download_bytes": estimate.download,
            "environment_bytes": estimate.environment,
        },
        "serving": serving(plan.serving),
    }


def inspection_text(checkpoint: Checkpoint, target: Target, served: Serving) -> str:
    """`inspection`, for people."""
    count = checkpoint.parameters
    kind = checkpoint.architecture
    if checkpoint.experts:
        kind += f", {checkpoint.experts} experts"
    if checkpoint.has_towers:
        kind += f", with {', '.join(checkpoint.towers) or 'towers'}"
    place = checkpoint.place
    if checkpoint.revision:
        place += f", revision {checkpoint.revision}"
    found = checkpoint.quantization
    rows = [
        ("read from", place),
        ("architecture", kind),
        ("parameters", f"{number(count)} ({count:,})" if count else "not known"),
        ("weights", _weights(checkpoint)),
        ("quantization", f"{found}; by {found.place}" if found else "none"),
        ("context", f"{checkpoint.longest:,} tokens at most" if checkpoint.longest else "unknown"),
        ("tokenizer", _tokenizer(checkpoint)),
    ]
    if found is not None and found.ignored:
        rows.insert(5, ("left in 16 bits", _few(found.ignored)))
    if checkpoint.own_code:
        rows.append(("own code", "brings Python code: TRUST_REMOTE_CODE_MODELS must name it"))
    lines = [checkpoint.model, *_table(rows), "", f"On {target}", *_served(served)]
    return "\n".join(lines) + "\n"


def plan_text(plan: Plan) -> str:
    """`planned`, for people."""
    estimate = plan.estimate
    lines = [plan.checkpoint.model, f"  on {plan.target}", "", "Recipe"]
    for one in plan.decisions:
        value = _plain(one.value)
        shown = _few(value) if isinstance(value, list) else _word(value)
        lines += _wrapped(f"{one.name:<{_LABEL}} {shown}", "  ", " " * (_LABEL + 3))
        lines += _wrapped(one.why, " " * (_LABEL + 3))
    rows = [
        ("scheme", f"{plan.recipe.scheme}, {len(plan.layers)} layers"),
        ("fingerprint", plan.recipe.fingerprint),
    ]
    before = plan.checkpoint.weight_bytes
    takes = [
        ("time", duration(estimate.seconds)),
        ("memory", _memory(plan)),
        ("disk", _disk(plan)),
        ("weights", f"{size(before)} now, {size(estimate.export)} then"),
    ]
    lines += [*_table(rows), "", "What it takes, roughly", *_table(takes)]
    lines += ["", f"Served on {plan.target}", *_served(plan.serving, warnings=False)]
    for warning in plan.warnings:
        lines += _wrapped(f"{'note':<{_LABEL}} {warning}", "  ", " " * (_LABEL + 3))
    return "\n".join(lines) + "\n"


def _served(served: Serving, *, warnings: bool = True) -> list[str]:
    word = {True: "yes", False: "no", None: "perhaps"}[served.serves]
    rows = [("vLLM serves it", f"{word}{f', with {served.kernel}' if served.kernel else ''}")]
    rows += [("", reason) for reason in served.reasons]
    if served.weights is not None:
        rows.append(("weights", size(served.weights)))
    memory = served.memory
    if memory is not None:
        each = f"{size(memory.token)} a token, {size(memory.session)} a session"
        rows.append(("KV cache", f"{each} of {served.context:,} tokens"))
        gpus = f"{served.gpus} GPUs, " if served.gpus > 1 else ""
        share = f"{gpus}{size(memory.kv_cache)} of KV cache for {memory.tokens:,} tokens"
        rows.append(("sessions", f"{memory.sessions:.1f} of a full context ({share})"))
    if warnings:
        rows += [("note", warning) for warning in served.warnings]
    return _table(rows)


def _weights(checkpoint: Checkpoint) -> str:
    if checkpoint.weights is None:
        return "none"
    dtypes = ", ".join(
        f"{share.dtype} {number(share.numbers)} in {size(share.size)}"
        for share in checkpoint.shares
    )
    return f"{size(checkpoint.weight_bytes)}, {checkpoint.weights}{f': {dtypes}' if dtypes else ''}"


def _tokenizer(checkpoint: Checkpoint) -> str:
    tokenizer = "there" if checkpoint.tokenizer else "missing"
    template = "with" if checkpoint.chat_template else "without"
    return f"{tokenizer}, {template} a chat template"


def _memory(plan: Plan) -> str:
    estimate = plan.estimate
    gpu = f", {size(estimate.device_memory)} of the GPU's" if estimate.device_memory else ""
    return f"{size(estimate.memory)}{gpu}"


def _disk(plan: Plan) -> str:
    estimate = plan.estimate
    parts = [f"{size(estimate.export)} for the result"]
    if estimate.download:
        parts.append(f"{size(estimate.download)} to download")
    parts.append(f"{size(estimate.environment)} for the quantizer's environment, once")
    return f"{size(estimate.disk)}: {', '.join(parts)}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    lines = []
    for label, text in rows:
        lines += _wrapped(f"{label:<{_LABEL}} {text}", "  ", " " * (_LABEL + 3))
    return lines


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
