"""Runs a saved classifier with the stock Hugging Face classes on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.training.screen.tokenizer import MAX_TOKENS
from yap.screen.quality import Probabilities

BATCH_ROWS = 32


class Predictor:
    """A loaded model folder. Raises OSError where the folder is not a saved model."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        self._yes = self._model.config.label2id["screenshot"]

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(p.numel() for p in self._model.parameters())

    @torch.inference_mode()
    def p_yes(self, texts: list[str]) -> Probabilities:
        """The probability of `screenshot` for each text, in the order given."""
        out = np.zeros(len(texts))
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH_ROWS):
            members = order[start : start + BATCH_ROWS]
            batch = self._tokenizer(
                [texts[i] for i in members],
                truncation=True,
                max_length=MAX_TOKENS,
                padding=True,
                return_tensors="pt",
            )
            logits = self._model(**batch).logits.float()
            out[members] = logits.softmax(-1)[:, self._yes].double().numpy()
        return out
