"""What a checkpoint is, by its files: architecture, parameters, dtypes, quantization, tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError
from quantization.model import detection
from quantization.model.detection import Quantization
from quantization.model.source import Source, find, read_json
from quantization.model.tensors import Share, Tensor, shares
from quantization.model.text_config import longest, text_config

_INDEX: Final = "model.safetensors.index.json"
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_PACKED: Final = frozenset({"weight_packed", "qweight"})
# Parts of a quantized layer that are no parameters of the model.
_AUXILIARY: Final = re.compile(
    r"(^|\.|_)(scales?|qzeros|zeros|g_idx|weight_shape|zero_point|scale_inv|absmax|quant_map|"
    r"quant_state\.\w+|global_scale|blocks_scale)$"
)
_TOWER: Final = re.compile(
    r"(^|\.)((vision|visual|audio|image|multi_modal|mm_|speech|sound)\w*)\.", re.IGNORECASE
)
_HEADERS_AT_ONCE: Final = 8
_NO_CHAT: Final = re.compile(
    r"For(Sequence|Token)Classification|ForMaskedLM|ForQuestionAnswering|ForPreTraining"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The facts of one model; nothing here comes from its name.

    `text` is the text model's config, defaults filled in. `weights` is "safetensors", "pytorch",
    "gguf" or None where there are none; without safetensors `tensors` is empty. `parameters` counts
    packed weights as what they stand for. `towers` are encoders of images and sound.
    """

    model: str
    place: str
    revision: str | None
    architecture: str
    model_type: str
    config: Mapping[str, Any]
    text: SimpleNamespace
    longest: int | None
    weights: str | None
    weight_bytes: int
    files: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    quantization: Quantization | None
    tokenizer: bool
    chat_template: bool

    @property
    def own_code(self) -> bool:
        """Whether it brings Python code."""
        return "auto_map" in self.config

    @property
    def chats(self) -> bool:
        """Whether it generates text from text alone."""
        return not (self.config.get("is_encoder_decoder") or _NO_CHAT.search(self.architecture))

    @property
    def shares(self) -> tuple[Share, ...]:
        """What is stored, by dtype."""
        return shares(self.tensors)

    @property
    def parameters(self) -> int | None:
        """Parameters; those of towers too. None where no header tells."""
        if not self.tensors:
            return None
        bits = self.quantization.bits if self.quantization else None
        return sum(_stands_for(tensor, bits or 4) for tensor in self.tensors)

    @property
    def towers(self) -> tuple[str, ...]:
        """Encoders of images and sound: the names of their modules' roots."""
        return tuple(sorted({found[2] for t in self.tensors if (found := _TOWER.search(t.name))}))

    @property
    def has_towers(self) -> bool:
        """Whether there are any, by weights or config."""
        return bool(self.towers) or any(
            f"{kind}_config" in self.config for kind in ("vision", "audio", "speech")
        )

    @property
    def dtype(self) -> str:
        """The dtype that it is computed in, in torch's words."""
        for holder in (self.text.__dict__, self.config):
            said = holder.get("dtype") or holder.get("torch_dtype")
            if isinstance(said, str):
                return said.removeprefix("torch.")
        return "float32"

    @property
    def experts(self) -> int:
        """Experts of a mixture-of-experts layer; 0 where there are none."""
        for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"):
            number = getattr(self.text, key, None)
            if isinstance(number, int) and number > 1:
                return number
        return 0


def in_tower(tensor: Tensor) -> bool:
    """Whether a tensor belongs to an encoder of images or sound."""
    return _TOWER.search(tensor.name) is not None


def read(model: str, revision: str | None = None) -> Checkpoint:
    """The facts of a folder or a Hub id.

    Raises:
        QuantizationError: it is not there, cannot be reached, or is damaged.
    """
    try:
        return _read(find(model, revision))
    except QuantizationError as error:
        said = detection.hint(model)
        if said is None or error.code not in (ExitCode.NO_ACCESS, ExitCode.UNREACHABLE):
            raise
        raise QuantizationError(
            f"{error.message} Its name suggests {said}, which is only a hint: no file was read.",
            error.code,
        ) from error


def _read(source: Source) -> Checkpoint:
    files = source.files()
    if "config.json" not in files:
        raise QuantizationError(_no_config(source.name, files), ExitCode.NOT_FOUND)
    config = read_json(source, "config.json")
    architectures = config.get("architectures")
    named = architectures if isinstance(architectures, list) else []
    weights, names = weight_files(source)
    tensors = _tensors(source, names) if weights == "safetensors" else ()
    text = text_config(config, tensors)
    return Checkpoint(
        model=source.name,
        place=source.place,
        revision=source.revision,
        architecture=str(named[0]) if named else "unknown",
        model_type=str(config.get("model_type") or "unknown"),
        config=config,
        text=text,
        longest=longest(config, text),
        weights=weights,
        weight_bytes=sum(t.size for t in tensors) or sum(files[name] for name in names),
        files=files,
        tensors=tensors,
        quantization=detection.detect(source, config),
        tokenizer=any(name in files for name in _TOKENIZERS),
        chat_template=_has_chat_template(source),
    )


def _no_config(name: str, files: Mapping[str, int]) -> str:
    if any(file.endswith(".gguf") for file in files):
        return (
            f'"{name}" holds GGUF files and no config.json, which neither vLLM nor a quantizer '
            "reads: take the repository that they were made from."
        )
    if "params.json" in files:
        return (
            f'"{name}" is in Mistral\'s own format, without config.json: take the version in the '
            "format of the Hugging Face Hub."
        )
    return f'"{name}" holds no config.json: give a folder or repository with a model in it.'


def weight_files(source: Source) -> tuple[str | None, list[str]]:
    """Kind and names of the weights: the files that vLLM loads. Raises QuantizationError."""
    files = source.files()
    if _INDEX in files:
        names = _shards(source)
        missing = [name for name in names if name not in files]
        if missing:
            raise QuantizationError(
                f'"{source.name}" is incomplete: {len(missing)} of {len(names)} shards are missing '
                f"({missing[0]}{', ...' if len(missing) > 1 else ''}); fetch the model again.",
                ExitCode.DAMAGED,
            )
        return "safetensors", names
    found = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
    usual = [name for name in found if not name.startswith("consolidated")]
    if found:
        return "safetensors", usual or found
    for kind, pattern in (("pytorch", r"pytorch_model.*\.bin$"), ("gguf", r".*\.gguf$")):
        names = sorted(name for name in files if re.match(pattern, name))
        if names:
            return kind, names
    return None, []


def _shards(source: Source) -> list[str]:
    mapped = read_json(source, _INDEX).get("weight_map")
    if not isinstance(mapped, Mapping) or not mapped:
        raise QuantizationError(
            f'The {_INDEX} of "{source.name}" names no files: fetch the model again.',
            ExitCode.DAMAGED,
        )
    return sorted({str(name) for name in mapped.values()})


def _tensors(source: Source, names: list[str]) -> tuple[Tensor, ...]:
    if source.place == "Hub" and len(names) > 1:
        with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
            found = list(pool.map(source.header, names))
    else:
        found = [source.header(name) for name in names]
    return tuple(tensor for of_file in found for tensor in of_file)


def _stands_for(tensor: Tensor, bits: int) -> int:
    """The parameters that a tensor holds."""
    part = tensor.name.rpartition(".")[2]
    if part in _PACKED:
        return tensor.size * 8 // bits
    if _AUXILIARY.search(tensor.name):
        return 0
    if tensor.dtype == "U8":  # two numbers of four bits
        return tensor.count * 2
    return tensor.count


def _has_chat_template(source: Source) -> bool:
    files = source.files()
    if "chat_template.jinja" in files or "chat_template.json" in files:
        return True
    if "tokenizer_config.json" not in files:
        return False
    try:
        found = json.loads(source.text("tokenizer_config.json"))
    except (ValueError, QuantizationError):
        return False
    return isinstance(found, dict) and bool(found.get("chat_template"))
