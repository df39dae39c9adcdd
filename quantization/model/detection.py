"""How a checkpoint is quantized already, by its own files. The name of a model plays no part.

The places are looked at in vLLM's order: `quantization_config` in config.json, then
`compression_config`, the text model's own, and last the files beside it: hf_quant_config.json
(ModelOpt), quantize_config.json and quant_config.json (older GPTQ and AWQ).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from quantization.model.source import Source, read_json
from quantization.model.text_config import text_part

# Files that older quantizers wrote beside config.json: name -> the method, where it names none.
_BESIDE: Final = {
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "quantization_config.json": "awq",
    "awq_config.json": "awq",
}
# Of these vLLM finds by itself only the first.
_FOUND_BY_VLLM: Final = frozenset({"hf_quant_config.json"})
_MODELOPT: Final = {
    "FP8": ("fp8-static", 8),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", 8),
    "FP8_PB_WO": ("fp8-block", 8),
    "NVFP4": ("nvfp4", 4),
    "NVFP4_AWQ": ("nvfp4", 4),
    "MXFP8": ("mxfp8", 8),
    "MIXED_PRECISION": ("mixed", None),
}
_HINTS: Final = (
    (r"nvfp4", "NVFP4"),
    (r"gguf", "GGUF"),
    (r"auto-?round", "AutoRound"),
    (r"bnb|bitsandbytes", "bitsandbytes"),
    (r"awq", "AWQ"),
    (r"gptq", "GPTQ"),
    (r"w4a16", "W4A16"),
    (r"w8a8|int8", "INT8"),
    (r"fp8", "FP8"),
)


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a checkpoint's files say about its quantization.

    `method` is the producer's word, `format` a key of `formats.FORMATS` (or of `GONE`), `place` the
    file and key where it was found. `group_size` is None for one scale a channel or tensor.
    `tells_vllm`: vLLM finds it there by itself.
    """

    method: str
    format: str
    bits: int | None
    group_size: int | None
    symmetric: bool | None
    ignored: tuple[str, ...]
    kv_cache: str | None
    place: str
    tells_vllm: bool = True

    def __str__(self) -> str:
        parts = [self.method, self.format if self.format != self.method else ""]
        parts.append(f"{self.bits} bits" if self.bits else "")
        parts.append(f"groups of {self.group_size}" if self.group_size else "")
        if self.symmetric is not None:
            parts.append("symmetric" if self.symmetric else "asymmetric")
        parts.append(f"KV cache {self.kv_cache}" if self.kv_cache else "")
        return ", ".join(part for part in parts if part)


def detect(source: Source, config: Mapping[str, Any]) -> Quantization | None:
    """The quantization of a checkpoint; None where its files name none."""
    for place, found, tells in _places(source, config):
        return _read(found, place, tells)
    if any(name.endswith(".gguf") for name in source.files()):
        return Quantization("gguf", "gguf", None, None, None, (), None, "*.gguf", tells_vllm=False)
    return None


def hint(name: str) -> str | None:
    """What a model's name suggests. Good for a sentence where no file can be read, for no more."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    return next((said for pattern, said in _HINTS if re.search(pattern, last)), None)


def _places(
    source: Source, config: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for key in ("quantization_config", "compression_config"):
        found = config.get(key)
        if isinstance(found, Mapping) and found:
            yield f"config.json ({key})", found, True
    inner = text_part(config).get("quantization_config")
    if inner is not config.get("quantization_config") and isinstance(inner, Mapping) and inner:
        yield "config.json (quantization_config of its text model)", inner, True
    for name, method in _BESIDE.items():
        if name in source.files():
            found = read_json(source, name)
            yield name, {"quant_method": method, **found}, name in _FOUND_BY_VLLM


def _read(found: Mapping[str, Any], place: str, tells: bool) -> Quantization:
    method = _method(found)
    reader = {
        "compressed-tensors": _compressed_tensors,
        "modelopt": _modelopt,
        "fp8": _fp8,
    }.get(method, _plain)
    return reader(found, method, place, tells)


def _method(found: Mapping[str, Any]) -> str:
    producer = found.get("producer")
    if isinstance(producer, Mapping) and producer.get("name") == "modelopt":
        return "modelopt"
    said = (
        found.get("quant_method") or found.get("quantization_method") or found.get("quant_library")
    )
    if said is None and ("config_groups" in found or "quantization_status" in found):
        said = "compressed-tensors"
    if said is None and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        said = "bitsandbytes"
    method = str(said or "unknown").lower().replace("_", "-")
    return "modelopt" if method.startswith("modelopt") else method


def _compressed_tensors(
    found: Mapping[str, Any], method: str, place: str, tells: bool
) -> Quantization:
    groups = found.get("config_groups")
    parts = list(groups.values()) if isinstance(groups, Mapping) else []
    kinds = {_scheme(part, str(found.get("format") or "")) for part in parts} or {"unknown"}
    first = parts[0] if parts and isinstance(parts[0], Mapping) else {}
    weights = _mapping(first.get("weights"))
    return Quantization(
        method=method,
        format=kinds.pop() if len(kinds) == 1 else "mixed",
        bits=_int(weights.get("num_bits")),
        group_size=_group(weights.get("group_size")),
        symmetric=_bool(weights.get("symmetric")),
        ignored=_names(found.get("ignore")),
        kv_cache=_kv_scheme(found.get("kv_cache_scheme")),
        place=place,
        tells_vllm=tells,
    )


def _scheme(part: Any, format_: str) -> str:
    """The format of one config group."""
    part = _mapping(part)
    weights, inputs = _mapping(part.get("weights")), _mapping(part.get("input_activations"))
    bits, kind, strategy = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    format_ = str(part.get("format") or format_)
    if "mxfp4" in format_:
        return "mxfp4"
    if "mxfp8" in format_:
        return "mxfp8"
    if kind == "float" and bits == 4:
        return "nvfp4" if inputs else "nvfp4a16"
    if kind == "float" and bits == 8:
        if strategy == "block":
            return "fp8-block"
        return "fp8" if not inputs or inputs.get("dynamic") else "fp8-static"
    if kind == "int" and not inputs:
        return {4: "w4a16", 8: "w8a16"}.get(bits if isinstance(bits, int) else 0, "unknown")
    if kind == "int" and bits == 8 and inputs.get("type") == "int":
        return "int8"
    if kind == "int" and bits == 4 and inputs.get("type") == "float":
        return "w4afp8"
    return "unknown"


def _modelopt(found: Mapping[str, Any], method: str, place: str, tells: bool) -> Quantization:
    inner = _mapping(found.get("quantization")) or found
    said = str(inner.get("quant_algo") or "unknown").upper()
    format_, bits = _MODELOPT.get(said, ("unknown", None))
    kv = inner.get("kv_cache_quant_algo")
    return Quantization(
        method=method,
        format=format_,
        bits=bits,
        group_size=_group(inner.get("group_size")) or (16 if format_ == "nvfp4" else None),
        symmetric=True,
        ignored=_names(inner.get("exclude_modules") or inner.get("ignore")),
        kv_cache=str(kv).lower() if kv else _kv_scheme(inner.get("kv_cache_scheme")),
        place=place,
        tells_vllm=tells,
    )


def _fp8(found: Mapping[str, Any], method: str, place: str, tells: bool) -> Quantization:
    if found.get("weight_block_size"):
        format_ = "fp8-block"
    else:
        format_ = "fp8-static" if found.get("activation_scheme") == "static" else "fp8"
    ignored = found.get("ignored_layers") or found.get("modules_to_not_convert")
    return Quantization(method, format_, 8, None, True, _names(ignored), None, place, tells)


def _plain(found: Mapping[str, Any], method: str, place: str, tells: bool) -> Quantization:
    """The flat configs: AWQ, GPTQ, AutoRound, bitsandbytes, torchao, MXFP4 and others."""
    bits = _int(found.get("bits") or found.get("w_bit"))
    symmetric = _bool(found.get("sym"))
    zero_point = found.get("zero_point")
    if symmetric is None and isinstance(zero_point, bool):
        symmetric = not zero_point
    format_ = method
    if method in ("mxfp4", "gpt-oss-mxfp4"):
        format_, bits = "mxfp4", 4
    elif method in ("auto-round", "intel/auto-round", "inc"):
        format_ = "auto-round"
    elif method.startswith(("awq", "gptq")):
        format_ = method[:4].rstrip("-_") if method.startswith("gptq") else "awq"
    elif method == "bitsandbytes":
        bits = 4 if found.get("load_in_4bit") else 8
    elif method == "torchao":
        bits = _torchao_bits(found)
    group = found.get("group_size") or found.get("q_group_size")
    ignored = (
        found.get("modules_to_not_convert")
        or found.get("llm_int8_skip_modules")
        or found.get("block_name_to_exclude")
    )
    return Quantization(
        method, format_, bits, _group(group), symmetric, _names(ignored), None, place, tells
    )


def _torchao_bits(found: Mapping[str, Any]) -> int | None:
    matched = re.search(r"int(4|8)|float(8)", str(found.get("quant_type")).lower())
    return int(matched[1] or matched[2]) if matched else None


def _kv_scheme(scheme: Any) -> str | None:
    scheme = _mapping(scheme)
    if not scheme:
        return None
    return f"{'fp' if scheme.get('type') == 'float' else 'int'}{scheme.get('num_bits', '')}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _group(value: Any) -> int | None:
    size = _int(value)
    return size if size is not None and size > 0 else None
