"""What a training run wrote about itself: `training.json`, beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def stages(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs that made a model, the first one first; each went on from the one before."""
    earlier = training["before"]
    return [*([] if earlier is None else stages(earlier)), training]
