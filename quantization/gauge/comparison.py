"""What two models say of the same tokens, as numbers with standard errors.

For each token but the first of each row, both models give a distribution over the vocabulary.

- Perplexity: exp of the mean negative log-probability of the token that is there.
- KL divergence: the mean of sum_v p(v) (ln p(v) - ln q(v)), in nats a token, p being the original
  and q the quantized model. It is the measure to go by: it sees every change of the distribution,
  where a perplexity can stay the same by luck.
- Agreement: the share of tokens for which both models hold the same token for the likeliest.

Tokens of one row depend on each other, so that standard errors are over rows: of a mean m of sums
s_d over n_d tokens in D rows, D / (D - 1) * sum_d (s_d - m n_d)^2 / (sum_d n_d)^2 is the variance
(ratio estimator; Cochran, Sampling Techniques, 3rd ed., 6.3). The one of the perplexities' ratio is
of the paired differences, hence far smaller than that of each perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """What is known of each scored token of one row; arrays of one length, in nats.

    `original` and `quantized` are the log-probabilities of the token that is there, `kl` the
    divergence between the distributions, `agree` 1 where both have the same likeliest token.
    """

    original: Floats
    quantized: Floats
    kl: Floats
    agree: Floats


class Comparison(BaseModel):
    """The quantized model against the original.

    `kl_exact` is False where the divergence is a lower bound. A standard error (`_se`) is None for
    a single row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    tokens: int
    perplexity_original: float
    perplexity_quantized: float
    perplexity_ratio: float
    perplexity_ratio_se: float | None
    kl: float
    kl_se: float | None
    kl_p99: float
    kl_exact: bool
    agreement: float
    agreement_se: float | None


def compare_scores(rows: Sequence[Scores], *, kl_exact: bool) -> Comparison:
    """The comparison over all tokens of all rows.

    Raises:
        ValueError: there are none.
    """
    counts = np.array([row.kl.size for row in rows], dtype=np.float64)
    if not counts.sum():
        raise ValueError("no token was scored")
    original, _ = _mean([row.original for row in rows], counts)
    quantized, _ = _mean([row.quantized for row in rows], counts)
    lost, lost_se = _mean([row.original - row.quantized for row in rows], counts)
    kl, kl_se = _mean([row.kl for row in rows], counts)
    agreement, agreement_se = _mean([row.agree for row in rows], counts)
    ratio = math.exp(lost)
    return Comparison(
        rows=len(rows),
        tokens=int(counts.sum()),
        perplexity_original=math.exp(-original),
        perplexity_quantized=math.exp(-quantized),
        perplexity_ratio=ratio,
        # By the delta method: the derivative of exp is exp.
        perplexity_ratio_se=None if lost_se is None else ratio * lost_se,
        kl=max(0.0, kl),  # it cannot be negative; rounding can
        kl_se=kl_se,
        kl_p99=max(0.0, float(np.percentile(np.concatenate([row.kl for row in rows]), 99))),
        kl_exact=kl_exact,
        agreement=agreement,
        agreement_se=agreement_se,
    )


def _mean(values: Sequence[Floats], counts: Floats) -> tuple[float, float | None]:
    """The mean over tokens, and its standard error over rows."""
    sums = np.array([value.sum(dtype=np.float64) for value in values])
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return mean, None
    spread = float(((sums - mean * counts) ** 2).sum())
    return mean, math.sqrt(len(sums) / (len(sums) - 1) * spread) / float(counts.sum())
