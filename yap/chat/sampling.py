"""From what a client asks for to vLLM's sampling parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yap.protocol import SAMPLING_FIELDS, SamplingOptions
from yap.settings import Settings

if TYPE_CHECKING:
    from vllm import SamplingParams


def sampling_ranges(settings: Settings) -> dict[str, tuple[float, float]]:
    """The lowest and highest value that a client may send for each sampling field."""
    return {
        name: (
            getattr(settings, f"chat_{name}_min"),
            getattr(settings, f"chat_{name}_max"),
        )
        for name in SAMPLING_FIELDS
    }


def sampling_params(
    options: SamplingOptions, settings: Settings, max_tokens: int
) -> SamplingParams:
    """vLLM's parameters for one reply: the client's values over the operator's defaults.

    Stopping is by the end-of-turn token ids of the model's own generation config, which vLLM
    adds by itself. There are no stop strings: each makes vLLM hold text back until it is sure.

    Args:
        max_tokens: the most tokens to generate, at least 1.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    chosen = {}
    for name in SAMPLING_FIELDS:
        asked = getattr(options, name)
        chosen[name] = getattr(settings, f"chat_{name}") if asked is None else asked
    return SamplingParams(max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA, **chosen)
