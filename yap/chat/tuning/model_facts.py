"""What a chat model's own files say about how it must be run. No weights are loaded.

Everything comes from the checkpoint (config.json as vLLM reads it, the headers of the weights, the
tokenizer's files), so that a model nobody has heard of is treated like one that everybody knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from yap.chat.tuning import weights
from yap.chat.tuning.model_shape import KvShape, kv_shape, parameters
from yap.chat.tuning.weights import Weights
from yap.errors import StartupError
from yap.settings import Settings

# Where older quantizers wrote what config.json has no room for, and vLLM reads it once it is told
# the method: file -> the method, where the file does not name it.
_QUANTIZATION_FILES: Final = {"quant_config.json": "awq", "quantize_config.json": "gptq"}
# The keys under which configs give the longest context, as vLLM looks for them.
_LENGTH_KEYS: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Of these, max_position_embeddings holds the scaling already.
_SCALED_ALREADY: Final = frozenset(
    {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
)
_NO_CHAT: Final = re.compile(
    r"For(Sequence|Token)Classification|ForMaskedLM|ForQuestionAnswering|ForPreTraining"
)
# Mistral's vocabulary of this size was published with the splitting rule of another family.
_TEKKEN_VOCABULARY: Final = 131_072
_MISTRAL: Final = frozenset({"mistral", "mistral3", "ministral", "ministral3", "pixtral"})
_WRONG_SPLIT: Final = re.compile(r"\(\?i:'s\|'t.*\\p\{N\}\{1,3\}")
_HUB_FILES: Final = ("*.json", "*.jinja")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a chat model before it is loaded.

    `longest` is the context it was made for, in tokens. `parameters` and `active` (those that
    compute one token) are estimates from the config, None where it does not say enough.
    `kv_format`: the checkpoint says itself in which format its KV cache is kept.
    """

    model: str
    architecture: str
    dtype: str
    longest: int | None
    vocabulary: int
    hidden: int
    intermediate: int
    heads: int
    kv: KvShape
    parameters: int | None
    active: int | None
    weights: Weights | None
    quantization: str | None
    quantization_in_config: bool
    kv_format: bool
    key_bias: bool
    towers: bool
    mistral_files: bool
    chat_template: bool
    wrong_split: bool


def read_for(settings: Settings) -> ModelFacts:
    """The facts of CHAT_MODEL; see `read`."""
    overrides = settings.chat_engine_args.get("hf_overrides")
    return read(
        settings.chat_model,
        trust_remote_code=settings.trusts_remote_code(settings.chat_model),
        overrides=overrides if isinstance(overrides, dict) else None,
    )


def read(
    model: str, *, trust_remote_code: bool, overrides: Mapping[str, Any] | None = None
) -> ModelFacts:
    """The facts of a folder or a Hub id.

    Args:
        overrides: what `hf_overrides` changes in its config.

    Raises:
        StartupError: it cannot be read, or is no model that chats.
    """
    folder = _folder(model)
    raw = _json(folder / "config.json", model)
    config = _config(model, raw, trust_remote_code, overrides)
    architecture = (config.architectures or ["unknown"])[0]
    if getattr(config, "is_encoder_decoder", False) or _NO_CHAT.search(architecture):
        raise StartupError(
            f'CHAT_MODEL="{model}" is a {architecture}, which cannot chat: name a decoder-only '
            "language model."
        )
    text = config.get_text_config()
    try:
        measured = weights.read(model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(
            f'The weights of CHAT_MODEL="{model}" cannot be read ({_first_line(error)}): '
            "fetch them again."
        ) from error
    quantization, in_config = _quantization(config, text, folder)
    every, active = parameters(text)
    return ModelFacts(
        model=model,
        architecture=architecture,
        dtype=str(getattr(text, "dtype", None) or config.dtype or "float32").removeprefix("torch."),
        longest=longest_context(
            text, config.model_type, ropes_of(getattr(config, "rope_parameters", None))
        ),
        vocabulary=int(getattr(text, "vocab_size", 0) or 0),
        hidden=int(getattr(text, "hidden_size", 0) or 0),
        intermediate=_largest_intermediate(text),
        heads=int(getattr(text, "num_attention_heads", 0) or 0),
        kv=kv_shape(text, raw),
        parameters=every,
        active=active,
        weights=measured,
        quantization=quantization,
        quantization_in_config=in_config,
        kv_format=_names_kv_format(config),
        key_bias=_key_bias(text, measured),
        towers=any(hasattr(config, f"{kind}_config") for kind in ("vision", "audio", "speech")),
        mistral_files=(folder / "params.json").is_file(),
        chat_template=_has_chat_template(folder),
        wrong_split=_has_wrong_split(folder, raw, text),
    )


# --- reading --------------------------------------------------------------------------------


def _folder(model: str) -> Path:
    """The folder with the model's small files; those of a Hub id are fetched if need be."""
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # no such model, no network, no access, ...
        raise StartupError(
            f'CHAT_MODEL="{model}" cannot be read: there is no such folder, or no such model '
            "on the Hugging Face Hub that this machine can reach."
        ) from error


def _json(path: Path, model: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(
            f'CHAT_MODEL="{model}" cannot be read: it has no {path.name}; give a model in the '
            "format of the Hugging Face Hub."
        ) from error
    except ValueError as error:
        raise StartupError(
            f'CHAT_MODEL="{model}" cannot be read: its {path.name} is not JSON ({error}).'
        ) from error
    if not isinstance(found, dict):
        raise StartupError(
            f'CHAT_MODEL="{model}" cannot be read: its {path.name} is not a JSON object.'
        )
    return found


def _config(
    model: str, raw: Mapping[str, Any], trust: bool, overrides: Mapping[str, Any] | None
) -> Any:
    """The config as vLLM reads it: it knows kinds of model that transformers does not."""
    from vllm.transformers_utils.config import get_config

    try:
        return get_config(
            model,
            trust_remote_code=trust,
            config_format="hf",
            hf_overrides_kw=dict(overrides or {}),
        )
    except Exception as error:
        if "auto_map" in raw and not trust:
            raise StartupError(
                f'CHAT_MODEL="{model}" brings Python code of its own: if you trust it, name it in '
                "TRUST_REMOTE_CODE_MODELS."
            ) from error
        kind = raw.get("model_type", "no model_type")
        raise StartupError(
            f'CHAT_MODEL="{model}" cannot be read: its config.json ({kind}) is not one that this '
            f"vLLM knows ({_first_line(error)})."
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line if len(line) <= 200 else line[:197] + "..."


# --- facts ----------------------------------------------------------------------------------


def longest_context(
    text: Any, model_type: object, ropes: Iterable[Mapping[str, Any]]
) -> int | None:
    """The longest context in tokens, by vLLM's rule: the least of the keys, scaled where due.

    Args:
        text: the text model's part of the config, its keys as attributes.
        ropes: as `ropes_of` gives them.
    """
    found = [getattr(text, key, None) for key in _LENGTH_KEYS]
    lengths = [length for length in found if isinstance(length, int) and length > 0]
    if not lengths:
        return None
    longest = getattr(text, "model_max_length", None) or min(lengths)
    factor = 1.0
    if "gemma3" not in str(model_type):
        for rope in ropes:
            if rope.get("rope_type") not in _SCALED_ALREADY:
                factor = rope.get("factor") or factor
    return int(longest * factor)


def ropes_of(rope: object) -> list[dict[str, Any]]:
    """The scaling of positions: one for the model, or one for each kind of layer."""
    if not isinstance(rope, Mapping):
        return []
    nested = [dict(value) for value in rope.values() if isinstance(value, Mapping)]
    return nested or [dict(rope)]


def _quantization(config: Any, text: Any, folder: Path) -> tuple[str | None, bool]:
    """How the weights are quantized, and whether config.json says so."""
    for holder, name in (
        (config, "quantization_config"),
        (config, "compression_config"),
        (text, "quantization_config"),
    ):
        found = getattr(holder, name, None)
        if isinstance(found, Mapping):
            method = found.get("quant_method") or found.get("quant_library") or "unknown"
            return str(method).lower().replace("_", "-" if "tensors" in str(method) else "_"), True
    for name, usual in _QUANTIZATION_FILES.items():
        if (folder / name).is_file():
            said = _json(folder / name, str(folder)).get("quant_method")
            return str(said or usual).lower(), False
    return None, False


def _names_kv_format(config: Any) -> bool:
    found = getattr(config, "quantization_config", None) or {}
    inner = found.get("quantization") if isinstance(found, Mapping) else None
    places = [place for place in (found, inner) if isinstance(place, Mapping)]
    return any(
        place.get(key) for place in places for key in ("kv_cache_scheme", "kv_cache_quant_algo")
    )


def _key_bias(text: Any, measured: Weights | None) -> bool:
    if measured is not None and measured.linear:
        return measured.key_bias
    return any(
        getattr(text, key, False) is True
        for key in ("attention_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias")
    )


def _largest_intermediate(text: Any) -> int:
    """Width of the widest feed-forward layer that one token goes through."""
    dense = _number(getattr(text, "intermediate_size", None))
    return dense or 4 * int(getattr(text, "hidden_size", 0) or 0)


def _number(value: Any) -> int:
    if isinstance(value, (list, tuple)):
        return max((int(one) for one in value), default=0)
    return int(value) if isinstance(value, int) else 0


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and bool(found.get("chat_template"))


def _has_wrong_split(folder: Path, raw: Mapping[str, Any], text: Any) -> bool:
    """Whether the tokenizer is Mistral's with the rule that cuts text as Llama 3 does.

    https://huggingface.co/mistralai/Mistral-Small-3.1-24B-Instruct-2503/discussions/84
    """
    if (
        getattr(text, "vocab_size", 0) != _TEKKEN_VOCABULARY
        or raw.get("model_type") not in _MISTRAL
    ):
        return False
    try:
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        steps = tokenizer["pre_tokenizer"].get("pretokenizers", [tokenizer["pre_tokenizer"]])
        rules = [step["pattern"]["Regex"] for step in steps if step.get("type") == "Split"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return any(_WRONG_SPLIT.search(rule) for rule in rules)
