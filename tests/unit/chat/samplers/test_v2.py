"""The V2 processors, on CPU tensors: slots that are filled, emptied and filled again, and rows in
any order.
"""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

from tests.unit.chat.samplers.reference import dry_penalties, xtc_excluded
from yap.chat.samplers.options import DryOptions, XtcOptions
from yap.chat.samplers.v2 import DryProcessor, XtcProcessor

VOCABULARY = 16
SLOTS = 8
LONGEST = 200
CPU = torch.device("cpu")
CONFIG: Any = SimpleNamespace(model_config=SimpleNamespace(seed=0))
XTC = XtcOptions(1.0, 0.1, (2,))


class Slots:
    """Token ids in slots, as the runner keeps them."""

    def __init__(self) -> None:
        self.token_ids = torch.zeros(SLOTS, LONGEST, dtype=torch.int32)
        self.histories: dict[int, list[int]] = {}

    def states(self) -> LogitsProcRequestState:
        held: Any = SimpleNamespace(gpu=self.token_ids)
        nothing: Any = None
        return LogitsProcRequestState(CPU, SLOTS, VOCABULARY, held, nothing, nothing, nothing)

    def say(self, slot: int, token: int) -> None:
        self.token_ids[slot, len(self.histories[slot])] = token
        self.histories[slot].append(token)

    def context(self, order: list[int]) -> LogitsContext:
        lengths = [len(self.histories[slot]) for slot in order]
        slots = torch.tensor(order, dtype=torch.int32)
        newest = torch.tensor([self.histories[slot][-1] for slot in order], dtype=torch.int32)
        return LogitsContext(
            expanded_idx_mapping=slots,
            idx_mapping=slots,
            idx_mapping_np=np.array(order, dtype=np.intp),
            expanded_local_pos=torch.zeros(len(order), dtype=torch.int32),
            input_ids=newest,
            pos=torch.tensor(lengths) - 1,
            seq_lens_upper_bound_np=np.array(lengths, dtype=np.int32),
        )


def scores(rows: int, dice: random.Random) -> torch.Tensor:
    return torch.tensor([[dice.gauss(0, 2) for _ in range(VOCABULARY)] for _ in range(rows)])


def dry_options(dice: random.Random) -> DryOptions:
    breakers = tuple(dice.sample(range(VOCABULARY), dice.randrange(3)))
    return DryOptions(0.8, 1.75, dice.choice([1, 2]), dice.choice([0, 0, 5, 90]), breakers)


def test_requests_that_come_and_go_keep_what_is_theirs() -> None:
    dice = random.Random(2)
    slots = Slots()
    dry, xtc = DryProcessor(CONFIG, slots.states()), XtcProcessor(CONFIG, slots.states())
    asked: dict[int, DryOptions | None] = {}
    takes: dict[int, bool] = {}
    acted = 0
    for _ in range(300):
        for slot in dice.sample(sorted(slots.histories), len(slots.histories) // 4):
            if dice.random() < 0.5 or len(slots.histories[slot]) > LONGEST - 5:
                del slots.histories[slot]
        for slot in range(SLOTS):
            if slot in slots.histories or dice.random() < 0.5:
                continue
            slots.histories[slot] = []
            slots.token_ids[slot] = dice.randrange(VOCABULARY)  # of whoever was here before
            for token in dice.choices(range(VOCABULARY), k=dice.randrange(1, 100)):
                slots.say(slot, token)
            asked[slot] = dice.choice([None, dry_options(dice)])
            takes[slot] = dice.random() < 0.5
            dry_args = asked[slot].extra_args() if asked[slot] else {}  # type: ignore[union-attr]
            xtc_args = XTC.extra_args() if takes[slot] else {}
            params = SamplingParams(extra_args=(dry_args | xtc_args) or None)
            assert dry.add_request(slot, params) == (asked[slot] is not None)
            assert xtc.add_request(slot, params) == takes[slot]
        order = dice.sample(sorted(slots.histories), len(slots.histories))
        if not order:
            continue
        dry.apply_staged_writes()
        xtc.apply_staged_writes()
        context = slots.context(order)
        before = scores(len(order), dice)
        penalized = dry.apply(before.clone(), context)
        drawn_from = xtc.apply(before.clone(), context)
        for row, slot in enumerate(order):
            options = asked[slot]
            expected = dry_penalties(slots.histories[slot], options) if options else {}
            lost = (before[row] - penalized[row]).tolist()
            found = {token: loss for token, loss in enumerate(lost) if loss}
            assert found == pytest.approx(expected, rel=1e-3)
            taken = xtc_excluded(before[row].tolist(), XTC) if takes[slot] else set()
            assert {i for i, s in enumerate(drawn_from[row].tolist()) if s == -math.inf} == taken
            acted += bool(expected) + bool(taken)
            slots.say(slot, dice.randrange(VOCABULARY))
    assert acted > 200


def test_where_nobody_uses_them_nothing_is_looked_at() -> None:
    slots = Slots()
    dry, xtc = DryProcessor(CONFIG, slots.states()), XtcProcessor(CONFIG, slots.states())
    plain = SamplingParams()
    assert not dry.add_request(0, plain)
    assert not xtc.add_request(0, plain)
    logits: Any = object()
    context: Any = SimpleNamespace(idx_mapping_np=np.array([0]))
    assert dry.apply(logits, context) is logits
    assert xtc.apply(logits, context) is logits


def test_a_slot_forgets_whoever_was_in_it() -> None:
    slots = Slots()
    dry, xtc = DryProcessor(CONFIG, slots.states()), XtcProcessor(CONFIG, slots.states())
    options = DryOptions(1, 2, 1, 0)
    asking = SamplingParams(extra_args=options.extra_args() | XTC.extra_args())
    assert dry.add_request(3, asking) and xtc.add_request(3, asking)
    assert not dry.add_request(3, SamplingParams()) and not xtc.add_request(3, SamplingParams())
    dry.apply_staged_writes()
    slots.histories[3] = []
    for token in (1, 2, 1):
        slots.say(3, token)
    before = torch.zeros(1, VOCABULARY)
    assert torch.equal(dry.apply(before.clone(), slots.context([3])), before)
    assert torch.equal(xtc.apply(before.clone(), slots.context([3])), before)


def test_xtc_leaves_greedy_requests_alone() -> None:
    xtc = XtcProcessor(CONFIG, Slots().states())
    assert not xtc.add_request(0, SamplingParams(temperature=0, extra_args=XTC.extra_args()))


def test_xtc_looks_at_probabilities_at_the_requests_temperature() -> None:
    slots = Slots()
    xtc = XtcProcessor(CONFIG, slots.states())
    slots.histories = {0: [1], 1: [1]}
    for slot, temperature in ((0, 0.2), (1, 2.0)):
        xtc.add_request(slot, SamplingParams(temperature=temperature, extra_args=XTC.extra_args()))
    logits = torch.full((2, VOCABULARY), -20.0)
    logits[:, 5], logits[:, 6] = 3.0, 2.0
    after = xtc.apply(logits, slots.context([0, 1]))
    assert torch.isinf(after).nonzero().tolist() == [[1, 5]]  # at 0.2 one token is sure


def test_xtc_acts_as_often_as_it_is_asked_to() -> None:
    slots = Slots()
    xtc = XtcProcessor(CONFIG, slots.states())
    slots.histories = {4: [1]}
    xtc.add_request(4, SamplingParams(extra_args=XtcOptions(0.3, 0.05).extra_args()))
    context = slots.context([4])
    acted = [
        bool(xtc.apply(torch.zeros(1, VOCABULARY), context).isinf().any()) for _ in range(2000)
    ]
    assert sum(acted) / 2000 == pytest.approx(0.3, abs=0.05)


def test_token_ids_that_the_model_has_not_reach_no_table() -> None:
    slots = Slots()
    dry, xtc = DryProcessor(CONFIG, slots.states()), XtcProcessor(CONFIG, slots.states())
    options = DryOptions(1, 2, 1, 0, (VOCABULARY + 5,))
    protected = XtcOptions(1.0, 0.05, (VOCABULARY, VOCABULARY + 9))
    asking = SamplingParams(extra_args=options.extra_args() | protected.extra_args())
    dry.add_request(0, asking)
    xtc.add_request(0, asking)
    dry.apply_staged_writes()
    slots.histories[0] = []
    for token in (1, 2, 1):
        slots.say(0, token)
    lost = -dry.apply(torch.zeros(1, VOCABULARY), slots.context([0]))
    assert lost.nonzero().tolist() == [[0, 2]]
    assert xtc.apply(torch.zeros(1, VOCABULARY), slots.context([0])).isinf().sum() == VOCABULARY - 1
