"""The part of config.json that describes the text model, with what it leaves to defaults.

Configs leave out what their class in transformers has as a default, and the kind of each layer is
often made by the class. Importing a class takes seconds, for it brings torch with it; so defaults
are read from the class's source, and the few rules about layers are written down here.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from quantization.model.tensors import Tensor
from yap.chat.tuning.model_facts import longest_context, ropes_of

_NESTED: Final = ("text_config", "llm_config", "language_config", "thinker_config")
# Every n-th layer sees all tokens; those between, a window. Key that names n, and its default.
_WINDOWED: Final = {
    "gemma2": ("", 2),
    "gpt_oss": ("", 2),
    "gemma3_text": ("sliding_window_pattern", 6),
    "gemma3n_text": ("", 5),
    "cohere2": ("sliding_window_pattern", 4),
    "exaone4": ("sliding_window_pattern", 4),
    "olmo3": ("", 4),
}
# Every n-th layer has attention; those between keep a state.
_RECURRENT: Final = {"qwen3_next": ("full_attention_interval", 4)}
# The window counts from max_window_layers on, and only where it is switched on.
_SWITCHED: Final = frozenset({"qwen2", "qwen3", "qwen2_moe", "qwen3_moe"})


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The text model's own keys, as they are in the file."""
    for key in _NESTED:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return text_part(inner)
    return config


def text_config(config: Mapping[str, Any], tensors: tuple[Tensor, ...] = ()) -> SimpleNamespace:
    """The text model's config with everything that can be known filled in.

    Keys of the file go first, then what the shapes of the weights tell, then defaults.
    """
    own = {key: value for key, value in text_part(config).items() if value is not None}
    given = text_part(config)
    kind = str(own.get("model_type") or config.get("model_type") or "")
    found = {**_defaults(kind), **_from_shapes(own, tensors), **own}
    found.update({key: None for key, value in given.items() if value is None})
    if found.get("layer_types") is None:
        layers = _layer_types(kind, found)
        if layers:
            found["layer_types"] = layers
    if kind in _SWITCHED and not found.get("use_sliding_window"):
        found["sliding_window"] = None
    outer = config.get("tie_word_embeddings")
    if outer is not None and "tie_word_embeddings" not in own:
        found["tie_word_embeddings"] = outer
    return SimpleNamespace(**found)


def longest(config: Mapping[str, Any], text: SimpleNamespace) -> int | None:
    """The longest context in tokens; see `longest_context`."""
    scaling = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None)
    # Older configs name the kind otherwise.
    ropes = [
        {**rope, "rope_type": rope.get("rope_type") or rope.get("type")}
        for rope in ropes_of(scaling)
    ]
    return longest_context(text, config.get("model_type"), ropes)


def _layer_types(kind: str, found: Mapping[str, Any]) -> list[str] | None:
    layers = found.get("num_hidden_layers")
    if not isinstance(layers, int):
        return None
    for rules, between in ((_WINDOWED, "sliding_attention"), (_RECURRENT, "linear_attention")):
        if kind in rules:
            key, usual = rules[kind]
            every = found.get(key) if key else usual
            every = every if isinstance(every, int) and every > 0 else usual
            return [between if n % every else "full_attention" for n in range(1, layers + 1)]
    if kind in _SWITCHED and found.get("use_sliding_window") and found.get("sliding_window"):
        first = found.get("max_window_layers")
        first = first if isinstance(first, int) else layers
        return ["full_attention" if n < first else "sliding_attention" for n in range(layers)]
    return None


def _from_shapes(own: Mapping[str, Any], tensors: tuple[Tensor, ...]) -> dict[str, int]:
    """What the shapes of unquantized weights tell of the decoder."""
    found: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    layers = -1
    for tensor in tensors:
        parts = tensor.name.split(".")
        if any("vis" in part or "audio" in part for part in parts[:-1]):
            continue
        if "layers" in parts[:-1]:
            number = parts[parts.index("layers") + 1]
            layers = max(layers, int(number)) if number.isdigit() else layers
        shapes.setdefault(".".join(parts[-2:]), tensor.shape)
    if layers >= 0 and "mtp" not in own:
        found["num_hidden_layers"] = layers + 1
    embedding = shapes.get("embed_tokens.weight")
    if embedding and len(embedding) == 2:
        found["vocab_size"], found["hidden_size"] = embedding
    norm = shapes.get("q_norm.weight") or shapes.get("k_norm.weight")
    size = own.get("head_dim") or (norm[0] if norm and len(norm) == 1 and norm[0] <= 512 else 0)
    if isinstance(size, int) and size:
        found["head_dim"] = size
        for key, name in (("num_attention_heads", "q_proj"), ("num_key_value_heads", "k_proj")):
            shape = shapes.get(f"{name}.weight")
            if shape and len(shape) == 2 and shape[0] % size == 0:
                found[key] = shape[0] // size
    return found


def _defaults(kind: str) -> dict[str, Any]:
    """Defaults of the config class in the installed transformers, by its source."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None or not kind.isidentifier():
        return {}
    models = Path(spec.origin).parent / "models"
    for folder in (kind, kind.removesuffix("_text"), kind.removesuffix("_moe")):
        path = models / folder / f"configuration_{folder}.py"
        if path.is_file():
            with suppress(OSError, SyntaxError):
                found = _class_defaults(ast.parse(path.read_text(encoding="utf-8")), kind)
                if found:
                    return found
    return {}


def _class_defaults(module: ast.Module, kind: str) -> dict[str, Any]:
    for node in module.body:
        if not isinstance(node, ast.ClassDef):
            continue
        values: dict[str, Any] = {}
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                name, value = line.target.id, line.value
            elif isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                name, value = line.targets[0].id, line.value
            else:
                continue
            with suppress(ValueError, TypeError):
                values[name] = ast.literal_eval(value) if value is not None else None
        if values.pop("model_type", None) == kind:
            return {k: v for k, v in values.items() if isinstance(v, int | float | str)}
    return {}
