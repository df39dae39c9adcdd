"""XTC ("exclude top choices"): the mathematics, once on the host and once on tensors.

Defined by its author, p-e-w, in text-generation-webui's pull request 6335: of the tokens whose
probability reaches the threshold, only the least probable stays. Where just one reaches it,
nothing happens, so that what has to come next still comes. If a line break or the end of the reply
would be excluded, nothing happens either: replies would not end.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from yap.chat.samplers.options import XtcOptions

if TYPE_CHECKING:
    from torch import Tensor

_NONE: Final[NDArray[np.intp]] = np.empty(0, np.intp)


def dice(seed: int | None) -> random.Random:
    """Chance of one's own: the same seed gives the same."""
    return random.Random(seed)  # noqa: S311 - nothing is kept secret with it


def excluded_ids(logits: NDArray[np.float32], options: XtcOptions) -> NDArray[np.intp]:
    """The tokens to take out of one request's draw. Its own draw, whether it acts, is done.

    Args:
        logits: [vocab_size], divided by the temperature.
    """
    # A probability is exp(logit) over a sum that is no less than the largest exp(logit). So few
    # tokens can reach the threshold at all, and often just one: then the sum need not be known.
    top = logits.max()
    candidates = np.flatnonzero(logits >= top + math.log(options.threshold))
    if candidates.size < 2:
        return _NONE
    weights = np.exp(logits[candidates] - top)
    reaches = weights >= options.threshold * np.exp(logits - top).sum()
    candidates, weights = candidates[reaches], weights[reaches]
    if candidates.size < 2:
        return _NONE
    taken: NDArray[np.intp] = np.delete(candidates, weights.argmin())
    return _NONE if np.isin(taken, options.protected_ids).any() else taken


def exclude(logits: Tensor, rows: Tensor, numbers: Tensor, protected_ids: Tensor) -> None:
    """Take tokens out of some rows of a batch, in place. Never waits for the device.

    Args:
        logits: [any, vocab_size].
        rows: [acting], the rows that XTC acts on.
        numbers: [acting, 3] float32: the threshold, the temperature that the logits are still to
            be divided by, and the min_p that is still to be applied. It is applied here, since
            the likeliest token, which it goes by, may be taken out.
        protected_ids: [acting, any], filled up with -1.
    """
    threshold, temperature, min_p = numbers.unsqueeze(1).unbind(-1)
    some = logits.index_select(0, rows)
    probabilities = torch.softmax(some / temperature, dim=-1)
    taken = probabilities < min_p * probabilities.amax(-1, keepdim=True)
    probabilities.masked_fill_(taken, 0.0)
    reaches = probabilities >= threshold * probabilities.sum(-1, keepdim=True)
    least = probabilities.masked_fill_(~reaches, math.inf).argmin(-1, keepdim=True)
    reaches.scatter_(1, least, False)
    # The least probable stays, so it can stand for "no token".
    protected_ids = torch.where(protected_ids < 0, least, protected_ids)
    reaches &= ~reaches.gather(1, protected_ids).any(-1, keepdim=True)
    logits.index_copy_(0, rows, some.masked_fill_(taken.logical_or_(reaches), -math.inf))
