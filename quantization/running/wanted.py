"""What a run is to make, and the key that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantization.calibration import Request
from quantization.gauge import Bounds
from quantization.planning.plan import Plan
from quantization.planning.recipes import Recipe

# Goes into every key; raised when the same recipe comes to make something else.
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to make.

    `out` is None for the usual place. `serve`: measure it in vLLM too. `held_out`: a file of texts
    to measure with, None for those that come with the project.
    """

    plan: Plan
    request: Request | None
    bounds: Bounds
    out: Path | None = None
    force: bool = False
    serve: bool = True
    held_out: Path | None = None


def key_of(
    recipe: Recipe,
    source: dict[str, str],
    calibration: dict[str, str] | None,
    tools: dict[str, str],
) -> str:
    """What is made, in 16 hex digits: the same wherever and whenever the same is made.

    Args:
        source: `fetching.identity`.
        calibration: `calibration.identity`.
        tools: packages of the quantizer's environment; on which hardware they run does not count.
    """
    content = {
        "version": _VERSION,
        "source": source,
        "recipe": recipe.fingerprint,
        "calibration": calibration,
        "tools": {name: tools[name] for name in (recipe.backend, "transformers")},
    }
    canonical = json.dumps(content, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
