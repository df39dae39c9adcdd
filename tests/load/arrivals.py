"""When sessions begin under an open loop: whether the server keeps up or not."""

from __future__ import annotations

import random
from collections.abc import Iterator


def arrivals(rate: float, burstiness: float, rng: random.Random) -> Iterator[float]:
    """Seconds from the start at which sessions begin, without end.

    Args:
        rate: sessions a second, on average.
        burstiness: the shape of the gamma distribution that the gaps are drawn from. 1 is a
            Poisson process; below 1 arrivals come in bursts, above 1 more evenly. The gaps' mean
            is 1 / rate and their variance 1 / (burstiness * rate ** 2) throughout.

    Raises:
        ValueError: one of them is not above 0.
    """
    if rate <= 0 or burstiness <= 0:
        raise ValueError("The rate and the burstiness must be above 0.")
    scale = 1 / (rate * burstiness)
    at = 0.0
    while True:
        yield at
        at += rng.gammavariate(burstiness, scale)
