"""A sequence classification checkpoint, loaded and ready to be run on batches of token ids.

Everything here blocks. The service runs it in a process of its own (`worker.py`); the evaluation
runs it as it is.
"""

from __future__ import annotations

import logging
import pickle
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yap.errors import StartupError
from yap.screen.inputs import join_lines

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Label names that mean "capture the screen", as checkpoints for this task spell them.
_POSITIVE_LABELS = frozenset(
    {"screenshot", "take_screenshot", "yes", "true", "positive", "label_1"}
)
_OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "longformer",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
# A dense score matrix beyond this costs more than the sliding chunks that it replaces.
DENSE_MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Options:
    """How a checkpoint is to be run.

    Args:
        model: a folder or a name on the Hugging Face Hub.
        device: `cpu`, `cuda` or `auto`.
        gpu_share: the most of the GPU's memory that it may take, 0 to 1.
        threads: CPU threads.
        max_length: the most tokens of an input; its start is cut off.
        history_tokens: the most tokens of what the user said before.
        batch_texts, batch_tokens: see `Batcher`.
        graphs: whether to capture CUDA graphs.
        int8: whether to quantize its linear layers on the CPU.
        trust_remote_code: whether code that comes with the checkpoint may run.
    """

    model: str
    device: str = "auto"
    gpu_share: float = 0.2
    threads: int = 1
    max_length: int = 1536
    history_tokens: int = 1536
    batch_texts: int = 32
    batch_tokens: int = 8192
    graphs: bool = True
    int8: bool = False
    trust_remote_code: bool = False


class Checkpoint:
    """A tokenizer, and the model's probability that a text asks to look at the screen."""

    def __init__(self, options: Options) -> None:
        """Load the model and run it once.

        Raises:
            StartupError: it cannot be served; the message says what to change.
        """
        import torch

        self._device = _device(options)
        if self._device.type == "cpu":
            torch.set_num_threads(options.threads)
        self.tokenizer, model = _load(options, self._device)
        config = model.config
        self._positive = positive_label(config.id2label)
        self._padding = int(config.pad_token_id or 0)
        self._history_tokens = options.history_tokens
        self.max_length = min(
            options.max_length, self.tokenizer.model_max_length, _positions(config)
        )
        self._forward = _forward(model, options, self.max_length, self._device)
        self.probabilities([self.token_ids("hey"), self.token_ids("look at my screen", ["hm"])])

    @property
    def on_cpu(self) -> bool:
        """Whether it is computed on the CPU."""
        return self._device.type == "cpu"

    def token_ids(self, utterance: str, earlier: Sequence[str] = ()) -> list[int]:
        """The input of the model for `utterance`, after the user's `earlier` lines.

        Args:
            earlier: oldest first; the newest that fit into the history's tokens are read. What
                is over the model's length is cut off at the start.
        """
        text = join_lines(utterance, earlier, self._history_tokens, self._count)
        encoded = self.tokenizer(
            text,
            truncation=True,
            max_length=self.max_length,
            split_special_tokens=True,  # "<pad>" in what a user says is text
        )
        ids: list[int] = encoded["input_ids"]
        return ids

    def probabilities(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """The probability of yes, 0 to 1, for each of these inputs; NaN if the model says so."""
        import torch

        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), self._padding, dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.bool)
        for row, token_ids in enumerate(batch):
            ids[row, : len(token_ids)] = torch.tensor(token_ids)
            mask[row, : len(token_ids)] = True
        with torch.inference_mode():
            logits = self._forward(ids.to(self._device), mask.to(self._device))
            yes: list[float] = torch.softmax(logits.float(), dim=-1)[:, self._positive].tolist()
        return yes

    def _count(self, line: str) -> int:
        ids = self.tokenizer.encode(line, add_special_tokens=False, split_special_tokens=True)
        return len(ids)


def positive_label(labels: dict[int, str]) -> int:
    """The index of the label that means "capture the screen".

    Raises:
        StartupError: the labels are not two, or none of them is known to mean that.
    """
    known = [i for i, label in labels.items() if label.strip().lower() in _POSITIVE_LABELS]
    if len(labels) != 2 or len(known) != 1:
        raise StartupError(
            f"TOOL_MODEL must have two labels, one of them named like {sorted(_POSITIVE_LABELS)}; "
            f"its config has {list(labels.values())}. Set id2label in its config.json."
        )
    return int(known[0])


def _load(options: Options, device: torch.device) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    name, trust = options.model, options.trust_remote_code
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust, truncation_side="left"
        )
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name,
            trust_remote_code=trust,
            dtype=torch.float16 if device.type == "cuda" else torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise StartupError(
            f'TOOL_MODEL="{name}" cannot be loaded as a sequence classifier: there is no such '
            "folder, no such model on the Hugging Face Hub that this machine can reach, or it "
            "is of another kind."
        ) from error
    except (RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise StartupError(
            f'TOOL_MODEL="{name}" has weights that cannot be used: the file is damaged, is not of '
            "this config, or would run code. Fetch it again, as safetensors."
        ) from error
    if info["missing_keys"]:
        raise StartupError(
            f'TOOL_MODEL="{name}" has no weights for {min(info["missing_keys"])}: it was '
            "not trained as a sequence classifier."
        )
    # Where its files are missing, the library makes one up that knows nothing but control tokens.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise StartupError(
            f'TOOL_MODEL="{name}" has no tokenizer that knows words; add tokenizer.json to it.'
        )
    return tokenizer, model.to(device).eval()


def _forward(model: Any, options: Options, max_length: int, device: torch.device) -> Any:
    """The model as a function of ids and mask, in the fastest way that gives its logits."""
    from yap.screen.longformer import DenseLongformer

    int8 = options.int8 and device.type == "cpu"
    run: Any
    if model.config.model_type == "longformer" and max_length <= DENSE_MAX_TOKENS:
        dense = DenseLongformer(model).eval()
        run = _quantized(dense) if int8 else dense
    else:
        run = _stock(_quantized(model) if int8 else model)
    if device.type == "cuda" and options.graphs:
        from yap.screen.graphs import Graphs

        return Graphs(run, max_length, options.batch_texts, options.batch_tokens)
    return run


def _stock(model: Any) -> Any:
    """The model's own forward pass."""

    def run(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask.long()).logits
        return logits

    return run


def _quantized(module: Any) -> Any:
    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():  # it is deprecated without a successor inside torch
        warnings.simplefilter("ignore", DeprecationWarning)
        return quantize(module, {torch.nn.Linear}, dtype=torch.qint8)


def _positions(config: Any) -> int:
    """The longest input of the model, in tokens."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 0:  # relative positions have no end
        return sys.maxsize
    # The RoBERTa family, Longformer with it, counts positions from behind the padding token's.
    offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return int(positions) - offset


def _device(options: Options) -> torch.device:
    import torch

    if options.device == "cpu" or not torch.cuda.is_available():
        if options.device == "cuda":
            raise StartupError("TOOL_DEVICE=cuda, but no CUDA device is visible; use auto or cpu.")
        return torch.device("cpu")
    torch.cuda.set_per_process_memory_fraction(options.gpu_share)
    return torch.device("cuda")
