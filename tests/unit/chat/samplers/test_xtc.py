"""XTC's mathematics, on the host and on tensors, give what its definition gives."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from tests.unit.chat.samplers.reference import xtc_excluded
from yap.chat.samplers import xtc
from yap.chat.samplers.options import XtcOptions

VOCABULARY = 40
DRAWS = 300


def scores(dice: random.Random) -> list[float]:
    spread = dice.choice([0.5, 2.0, 5.0])
    drawn = np.asarray([dice.gauss(0, spread) for _ in range(VOCABULARY)], np.float32)
    return [float(score) for score in drawn]


def options(dice: random.Random) -> XtcOptions:
    likely = dice.sample(range(VOCABULARY), dice.choice([0, 0, 1, 5]))
    return XtcOptions(1.0, dice.choice([0.02, 0.05, 0.1, 0.3, 0.6]), tuple(likely))


CASES = [(scores(dice), options(dice)) for dice in map(random.Random, range(DRAWS))]


def test_the_scores_are_ones_that_xtc_acts_on() -> None:
    found = [xtc_excluded(*case) for case in CASES]
    assert DRAWS / 4 < sum(map(bool, found)) < DRAWS * 3 / 4
    unprotected = [xtc_excluded(s, XtcOptions(1.0, o.threshold)) for s, o in CASES]
    assert found != unprotected


def test_the_host_gives_what_the_definition_gives() -> None:
    for logits, asked in CASES:
        found = xtc.excluded_ids(np.asarray(logits, np.float32), asked)
        assert set(found.tolist()) == xtc_excluded(logits, asked)


def test_tensors_give_what_the_definition_gives() -> None:
    logits = torch.tensor([logits for logits, _ in CASES])
    before = logits.clone()
    rows = torch.arange(0, DRAWS, 2)  # every other row; the rest must stay as it is
    numbers = torch.tensor([(o.threshold, 1.0, 0.0) for _, o in CASES[::2]])
    protected = torch.full((len(rows), 6), -1)
    for row, (_, asked) in enumerate(CASES[::2]):
        protected[row, : len(asked.protected_ids)] = torch.tensor(asked.protected_ids)
    xtc.exclude(logits, rows, numbers, protected)
    assert torch.equal(logits[1::2], before[1::2])
    for now, was, case in zip(logits[::2], before[::2], CASES[::2], strict=True):
        taken = xtc_excluded(*case)
        assert {i for i, logit in enumerate(now.tolist()) if logit == -math.inf} == taken
        kept = [i for i in range(VOCABULARY) if i not in taken]
        assert torch.equal(now[kept], was[kept])


def test_of_equally_likely_tokens_one_stays() -> None:
    logits = np.zeros(4, np.float32)
    assert len(xtc.excluded_ids(logits, XtcOptions(1, 0.25))) == 3
    table = torch.zeros(1, 4)
    xtc.exclude(table, torch.tensor([0]), torch.tensor([(0.25, 1.0, 0.0)]), torch.tensor([[-1]]))
    assert torch.isinf(table).sum() == 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("min_p", [0.0, 0.2])
def test_on_tensors_temperature_and_min_p_come_first(temperature: float, min_p: float) -> None:
    logits = torch.tensor([[4.0, 3.5, 3.0, 1.0, -2.0]])
    scaled = (logits[0] / temperature).tolist()
    allowed = [s if s >= max(scaled) + math.log(min_p or 1e-9) else -math.inf for s in scaled]
    asked = XtcOptions(1.0, 0.2)
    expected = xtc_excluded(allowed, asked) | {
        i for i, score in enumerate(allowed) if score == -math.inf
    }
    xtc.exclude(
        logits,
        torch.tensor([0]),
        torch.tensor([(asked.threshold, temperature, min_p)]),
        torch.tensor([[-1]]),
    )
    assert {i for i, logit in enumerate(logits[0].tolist()) if logit == -math.inf} == expected
