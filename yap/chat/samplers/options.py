"""What a request asks of DRY and XTC, and how it travels to the engine core.

The names are TabbyAPI's. They travel in `SamplingParams.extra_args`; texts (the sequence breakers)
have become token ids by then, since the engine core has no tokenizer at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# More would be of no use, and the V2 processors keep a table this wide for each request.
MAX_TOKEN_IDS: Final = 64

# The longest repetition that is told from longer ones, in tokens, as DRY's author has it.
MAX_MATCH: Final = 50
_MAX_RANGE: Final = 2**31 - 1

ExtraArgs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryOptions:
    """A token that would make a repetition of n tokens longer, where n is `allowed_length` or
    more, loses `multiplier * base ** (n - allowed_length)` of its logit.

    Repetitions are looked for in the last `range` tokens of prompt and reply, in all of them where
    it is 0. None goes across a token of `breaker_ids`.
    """

    multiplier: float
    base: float
    allowed_length: int
    range: int
    breaker_ids: tuple[int, ...] = ()

    def extra_args(self) -> dict[str, Any]:
        """As `dry_options` reads them."""
        return {
            "dry_multiplier": self.multiplier,
            "dry_base": self.base,
            "dry_allowed_length": self.allowed_length,
            "dry_range": self.range,
            "dry_breaker_ids": list(self.breaker_ids),
        }


@dataclass(frozen=True, slots=True)
class XtcOptions:
    """With `probability`, at each token: of those whose probability is `threshold` or more, all
    but the least probable are excluded, unless one of `protected_ids` would be among them.
    """

    probability: float
    threshold: float
    protected_ids: tuple[int, ...] = ()

    def extra_args(self) -> dict[str, Any]:
        """As `xtc_options` reads them."""
        return {
            "xtc_probability": self.probability,
            "xtc_threshold": self.threshold,
            "xtc_protected_ids": list(self.protected_ids),
        }


def dry_options(args: ExtraArgs | None) -> DryOptions | None:
    """What `args` ask of DRY; None if nothing.

    Raises:
        ValueError: a value is missing, or is none that DRY can work with.
    """
    if not args or not args.get("dry_multiplier"):
        return None
    return DryOptions(
        multiplier=_number(args, "dry_multiplier", 0, 100),
        base=_number(args, "dry_base", 1, 4),
        allowed_length=_whole(args, "dry_allowed_length", 1, MAX_MATCH),
        range=_whole(args, "dry_range", 0, _MAX_RANGE),
        breaker_ids=_token_ids(args, "dry_breaker_ids"),
    )


def xtc_options(args: ExtraArgs | None) -> XtcOptions | None:
    """What `args` ask of XTC; None if nothing.

    Raises:
        ValueError: a value is missing, or is none that XTC can work with.
    """
    if not args or not args.get("xtc_probability"):
        return None
    return XtcOptions(
        probability=_number(args, "xtc_probability", 0, 1),
        threshold=_number(args, "xtc_threshold", 0.001, 1),
        protected_ids=_token_ids(args, "xtc_protected_ids"),
    )


def _number(args: ExtraArgs, name: str, low: float, high: float) -> float:
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number.")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}.")
    return float(value)


def _whole(args: ExtraArgs, name: str, low: int, high: int) -> int:
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}.")
    return value


def _token_ids(args: ExtraArgs, name: str) -> tuple[int, ...]:
    value = args.get(name)
    if not isinstance(value, list | tuple) or len(value) > MAX_TOKEN_IDS:
        raise ValueError(f"{name} must be a list of at most {MAX_TOKEN_IDS} token ids.")
    if any(isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < 2**31 for i in value):
        raise ValueError(f"{name} must hold token ids.")
    return tuple(value)
