"""The screenshot-intent classifier: a sequence classification model behind one thread.

The model is loaded and run in a thread of its own, so that the event loop never waits for it.
The queue in front of that thread is bounded, and a caller who goes away before his turn costs
nothing: his entry is cancelled and never computed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yap.errors import ServerError, StartupError
from yap.settings import Settings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_WARM_UP_TEXTS = ("hey", "can you look at what is on my screen right now?")
# More than any token of the vocabularies in use; bounds work on input that is not language.
_MAX_CHARS_PER_TOKEN = 16
# Label names that mean "capture the screen", as checkpoints for this task spell them.
_POSITIVE_LABELS = frozenset(
    {"screenshot", "take_screenshot", "yes", "true", "positive", "label_1"}
)


_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "longformer"})


class QueueFullError(ServerError):
    """Too many texts wait for the classifier already."""


@dataclass(slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    device: torch.device
    positive: int
    max_length: int
    history_tokens: int


class ScreenClassifier:
    """Tells how likely it is that a text asks to look at the screen."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, "yap-classifier")

    @property
    def ready(self) -> bool:
        """Whether `probability` may be called."""
        return self._loaded is not None

    async def start(self) -> None:
        """Load the model and run it once. Takes seconds; the event loop stays free.

        Raises:
            StartupError: the model cannot be served; the message says what to change.
        """
        loop = asyncio.get_running_loop()
        self._loaded = await loop.run_in_executor(self._pool, self._load)

    async def close(self) -> None:
        """Let go of the model."""
        self._loaded = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float:
        """The calibrated probability, 0 to 1, that `utterance` asks to look at the screen now.

        Args:
            utterance: what the user just said. Over TOOL_MAX_LENGTH tokens its start is cut off.
            earlier: what he said before, oldest first. The newest lines that fit into
                TOOL_HISTORY_TOKENS together are read as context.

        Raises:
            QueueFullError: TOOL_QUEUE_MAX texts are waiting.
        """
        loaded = self._loaded
        if loaded is None:
            raise ServerError("The screen classifier is not ready.")
        if self._waiting >= self._settings.tool_queue_max:
            raise QueueFullError("The screen classifier's queue is full.")
        self._waiting += 1
        try:
            # A cancelled caller cancels the entry, if the thread has not begun with it.
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, _classify, loaded, utterance, tuple(earlier)
            )
        finally:
            self._waiting -= 1

    def _load(self) -> _Loaded:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        settings = self._settings
        name = settings.tool_model
        trust = settings.trusts_remote_code(name)
        device = _device(settings)
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
        if info["missing_keys"]:
            raise StartupError(
                f'TOOL_MODEL="{name}" has no weights for {min(info["missing_keys"])}: it was '
                "not trained as a sequence classifier."
            )
        if device.type == "cpu":
            torch.set_num_threads(settings.tool_cpu_threads)
        loaded = _Loaded(
            model=model.to(device).eval(),
            tokenizer=tokenizer,
            device=device,
            positive=positive_label(model.config.id2label),
            max_length=min(
                settings.tool_max_length, tokenizer.model_max_length, _positions(model.config)
            ),
            history_tokens=settings.tool_history_tokens,
        )
        for text in _WARM_UP_TEXTS:
            _classify(loaded, text, ())
        log.info("Screen classifier %s is loaded on %s", name, device)
        return loaded


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


def _positions(config: Any) -> int:
    """The longest input of the model, in tokens."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 0:  # relative positions have no end
        return sys.maxsize
    # The RoBERTa family, Longformer with it, counts positions from behind the padding token's.
    offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return int(positions) - offset


def _device(settings: Settings) -> torch.device:
    import torch

    if settings.tool_device == "cpu" or not torch.cuda.is_available():
        if settings.tool_device == "cuda":
            raise StartupError("TOOL_DEVICE=cuda, but no CUDA device is visible; use auto or cpu.")
        return torch.device("cpu")
    torch.cuda.set_per_process_memory_fraction(settings.tool_gpu_share)
    return torch.device("cuda")


def join_lines(
    utterance: str, earlier: Sequence[str], budget: int, count: Callable[[str], int]
) -> str:
    """The classifier's input: the newest `earlier` lines that fit `budget`, then `utterance`.

    Args:
        budget: the most tokens that the earlier lines may have together.
        count: tokens of a text.
    """
    lines = [utterance]
    for line in reversed(earlier):
        # A token is at most so long, so a line this long need not be counted.
        if len(line) > budget * _MAX_CHARS_PER_TOKEN:
            break
        budget -= count(line)
        if budget < 0:
            break
        lines.append(line)
    return "\n".join(reversed(lines))


def _classify(loaded: _Loaded, utterance: str, earlier: Sequence[str]) -> float:
    """One forward pass; blocks. Runs in the classifier's thread only."""
    import torch

    tokenizer = loaded.tokenizer
    text = join_lines(
        utterance,
        earlier,
        loaded.history_tokens,
        lambda line: len(tokenizer.encode(line, add_special_tokens=False)),
    )
    inputs = tokenizer(text, truncation=True, max_length=loaded.max_length, return_tensors="pt").to(
        loaded.device
    )
    with torch.inference_mode():
        logits = loaded.model(**inputs).logits[0].float()
    return float(torch.softmax(logits, dim=-1)[loaded.positive])
