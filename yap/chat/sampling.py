"""From what a client asks for to vLLM's sampling parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yap.chat.samplers.options import DryOptions, XtcOptions
from yap.chat.samplers.token_ids import SamplerTokens
from yap.protocol import SAMPLER_FIELDS, SAMPLING_FIELDS, SamplingOptions
from yap.settings import Settings

if TYPE_CHECKING:
    from vllm import SamplingParams


_VLLM_FIELDS = tuple(name for name in SAMPLING_FIELDS if name not in SAMPLER_FIELDS)


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
    options: SamplingOptions,
    settings: Settings,
    max_tokens: int,
    tokens: SamplerTokens | None = None,
) -> SamplingParams:
    """vLLM's parameters for one reply: the client's values over the operator's defaults.

    Stopping is by the end-of-turn token ids of the model's own generation config, which vLLM
    adds by itself. There are no stop strings: each makes vLLM hold text back until it is sure.

    Args:
        max_tokens: the most tokens to generate, at least 1.
        tokens: of an engine that has the DRY and XTC samplers.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=max_tokens,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # else vLLM copies it deeply, in case that requests share it
        extra_args=_sampler_args(options, settings, tokens) if tokens else None,
        **{name: _chosen(name, options, settings) for name in _VLLM_FIELDS},
    )


def _chosen(name: str, options: SamplingOptions, settings: Settings) -> Any:
    """The client's value, or the operator's where it has none."""
    asked = getattr(options, name)
    return getattr(settings, f"chat_{name}") if asked is None else asked


def _sampler_args(
    options: SamplingOptions, settings: Settings, tokens: SamplerTokens
) -> dict[str, Any] | None:
    """What DRY and XTC are told; None where neither is on, which costs them nothing."""
    chosen = {name: _chosen(name, options, settings) for name in SAMPLER_FIELDS}
    args: dict[str, Any] = {}
    if chosen["dry_multiplier"]:
        dry = DryOptions(
            multiplier=chosen["dry_multiplier"],
            base=chosen["dry_base"],
            allowed_length=chosen["dry_allowed_length"],
            range=chosen["dry_range"],
            breaker_ids=tokens.breakers(_chosen("dry_sequence_breakers", options, settings)),
        )
        args |= dry.extra_args()
    if chosen["xtc_probability"]:
        xtc = XtcOptions(chosen["xtc_probability"], chosen["xtc_threshold"], tokens.protected)
        args |= xtc.extra_args()
    return args or None
