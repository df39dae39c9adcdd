"""The model card of an export: README.md, from its metadata and from nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from quantization.export.metadata import Metadata
from quantization.planning.methods import METHODS
from quantization.units import number, size

_LICENCE: Final = re.compile(
    r"^(license|license_name|license_link):[ \t]*(.+?)[ \t]*$", re.MULTILINE
)
_FRONT: Final = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


def licence_of(folder: Path) -> dict[str, str]:
    """What the source's own card says about its licence; nothing where it says nothing."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return {}
    front = _FRONT.match(text)
    if front is None:
        return {}
    return {name: value.strip("\"'") for name, value in _LICENCE.findall(front[1])}


def card(metadata: Metadata) -> str:
    """The card as Markdown, with the front matter that the Hub reads."""
    parts = [
        _front(metadata),
        f"# {_title(metadata)}",
        _what(metadata),
        "## How it was made\n\n" + _recipe(metadata),
        "## What it lost\n\n" + _lost(metadata),
        "## Serving\n\n" + _serving(),
        "## Files\n\n" + _files(),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _front(metadata: Metadata) -> str:
    method = METHODS[metadata.recipe["method"]]
    values: dict[str, Any] = {
        **metadata.source.licence,
        "library_name": "vllm",
        "pipeline_tag": "text-generation",
        "tags": ["quantized", method.name, f"{method.bits}-bit", metadata.recipe["backend"]],
    }
    if metadata.source.on_hub:
        values["base_model"] = metadata.source.model
        values["base_model_relation"] = "quantized"
    # JSON is YAML, and quotes what needs to be quoted.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "---\n" + "\n".join(lines) + "\n---"


def _title(metadata: Metadata) -> str:
    name = metadata.source.model.rstrip("/").rpartition("/")[2]
    return f"{name}, {METHODS[metadata.recipe['method']].title}"


def _what(metadata: Metadata) -> str:
    source = metadata.source
    count = f" of {number(source.parameters)} parameters" if source.parameters else ""
    known = f" at revision `{source.revision}`" if source.revision else ""
    model = (
        f"[{source.model}](https://huggingface.co/{source.model})"
        if source.on_hub
        else (
            f"`{source.model}`, a folder of files with the digest `{(source.content or '')[:16]}`"
        )
    )
    return (
        f"The weights of {model}{known}, a {source.architecture}{count}, quantized to "
        f"{metadata.recipe['bits']} bits: {size(metadata.weight_bytes)} in place of "
        f"{size(source.weight_bytes)}."
    )


def _recipe(metadata: Metadata) -> str:
    recipe = metadata.recipe
    group = recipe["group_size"]
    rows = [
        (
            "method",
            f"{METHODS[recipe['method']].title} (`{metadata.quantization_config['scheme']}`)",
        ),
        ("made with", metadata.awq_version),
        ("weights", f"{recipe['bits']} bits, {_groups(group)}, {_symmetry(recipe['symmetric'])}"),
        ("quantized", f"{metadata.quantized_layers} layers"),
        ("left in 16 bits", ", ".join(f"`{one}`" for one in recipe["ignore"]) or "nothing"),
        ("calibration", _calibration(metadata)),
        ("recipe's fingerprint", f"`{metadata.fingerprint}`"),
    ]
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {said} |" for name, said in rows)


def _groups(group: int | None) -> str:
    return f"groups of {group}" if group else "a scale for each channel"


def _symmetry(symmetric: bool) -> str:
    return "symmetric" if symmetric else "with zero points"


def _calibration(metadata: Metadata) -> str:
    record, asked = metadata.calibration_config, metadata.calibration_dataset
    if record is None or asked is None:
        return "none; the method needs no data"
    effective = asked.get("effective")
    fallback = asked.get("fallback_from")
    instead = f" (in place of {fallback})" if fallback else ""
    personas = ", personas mixed in" if record.get("personas") else ""
    return (
        f"{effective}{instead}: {record.get('samples')} sequences, {record.get('tokens'):,} "
        f"tokens, at most {metadata.calibration_seqlen} each{personas}"
    )


def _lost(metadata: Metadata) -> str:
    from quantization.gauge import table

    parts = []
    measured = metadata.measured
    if measured is not None:
        parts.append(table(measured).strip("\n"))
    if metadata.held_out is not None:
        parts.append(f"The held-out text is `{metadata.held_out['name']}`.")
    parts += [note for note in (metadata.gauge_note, metadata.served_note) if note]
    return "\n\n".join(parts) or "It was not measured."


def _serving() -> str:
    return (
        "vLLM reads the format from `config.json`; name no quantization.\n\n"
        "```\nvllm serve FOLDER\n```\n\n"
        "With Yap: `CHAT_MODEL=FOLDER scripts/main.sh`, and leave `CHAT_QUANTIZATION` unset."
    )


def _files() -> str:
    return (
        "Tokenizer, chat template and generation settings are the source's own, byte for byte. "
        "`quantization_metadata.json` holds the recipe, the versions of all that made this, the "
        "measurements above, and a SHA-256 of each file."
    )
