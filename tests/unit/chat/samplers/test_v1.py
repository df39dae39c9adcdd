"""The V1 processors in vLLM's own persistent batch: what is true of a request alone is true of it
wherever the batch moves it.
"""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessors
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

from tests.unit.chat.samplers.reference import dry_penalties, xtc_excluded
from yap.chat.samplers.options import DryOptions, XtcOptions
from yap.chat.samplers.v1 import DryProcessor, XtcProcessor

VOCABULARY = 16
CPU = torch.device("cpu")
CONFIG: Any = SimpleNamespace(model_config=SimpleNamespace(seed=0))
DRY = DryOptions(0.8, 1.75, 1, 0, (3,))
XTC = XtcOptions(1.0, 0.1, (2,))


def a_batch() -> tuple[InputBatch, DryProcessor, XtcProcessor]:
    dry, xtc = DryProcessor(CONFIG, CPU, False), XtcProcessor(CONFIG, CPU, False)
    batch = InputBatch(
        max_num_reqs=8,
        max_model_len=256,
        max_num_batched_tokens=256,
        device=CPU,
        vocab_size=VOCABULARY,
        block_sizes=[16],
        max_num_blocks_per_req=[16],
        logitsprocs=LogitsProcessors([dry, xtc]),
        logitsprocs_need_output_token_ids=True,
    )
    return batch, dry, xtc


def a_request(name: str, prompt: list[int], **params: Any) -> CachedRequestState:
    return CachedRequestState(
        req_id=name,
        prompt_token_ids=prompt,
        mm_features=[],
        sampling_params=SamplingParams(**params),
        generator=None,
        block_ids=([1],),
        num_computed_tokens=0,
        output_token_ids=[],
    )


def scores(rows: int, dice: random.Random) -> torch.Tensor:
    return torch.tensor([[dice.gauss(0, 2) for _ in range(VOCABULARY)] for _ in range(rows)])


def changed(before: torch.Tensor, after: torch.Tensor) -> dict[int, float]:
    """Token id to what its score lost."""
    lost = (before - after).tolist()
    return {token: loss for token, loss in enumerate(lost) if loss}


def test_requests_that_come_and_go_keep_what_is_theirs() -> None:
    dice = random.Random(1)
    batch, dry, xtc = a_batch()
    assert (dry.is_argmax_invariant(), xtc.is_argmax_invariant()) == (False, True)
    living: dict[str, CachedRequestState] = {}
    kinds: tuple[dict[str, Any], ...] = (
        {},
        DRY.extra_args(),
        XTC.extra_args(),
        DRY.extra_args() | XTC.extra_args(),
    )
    acted = 0
    for step in range(400):
        for name in dice.sample(sorted(living), min(len(living), dice.choice([0, 0, 0, 1, 2, 8]))):
            del living[name]
            batch.remove_request(name)
        for number in range(dice.choice([0, 0, 1, 3])):
            if len(living) == batch.max_num_reqs:
                break
            name = f"{step}-{number}"
            prompt = dice.choices(range(VOCABULARY), k=dice.randrange(1, 40))
            living[name] = a_request(name, prompt, extra_args=dice.choice(kinds) or None)
            batch.add_request(living[name])
        batch.condense()
        if len(living) > 1 and dice.random() < 0.3:
            batch.swap_states(*dice.sample(range(len(living)), 2))
        batch.refresh_metadata()
        assert set(batch.req_ids) == set(living)
        before = scores(len(living), dice)
        penalized = dry.apply(before.clone())
        drawn_from = xtc.apply(before.clone())
        for row, name in enumerate(batch.req_ids):
            request = living[name]
            args = request.sampling_params.extra_args or {}
            tokens = [*request.prompt_token_ids, *request.output_token_ids]
            expected = dry_penalties(tokens, DRY) if "dry_multiplier" in args else {}
            found = changed(before[row], penalized[row])
            assert found == pytest.approx(expected, rel=1e-3)
            taken = xtc_excluded(before[row].tolist(), XTC) if "xtc_probability" in args else set()
            assert set(changed(before[row], drawn_from[row])) == taken
            acted += bool(expected) + bool(taken)
            request.output_token_ids.append(dice.randrange(VOCABULARY))
    assert acted > 200


def test_a_request_that_is_resumed_has_its_whole_history() -> None:
    batch, dry, _ = a_batch()
    request = a_request("a", [1, 2], extra_args=DRY.extra_args())
    batch.add_request(request)
    batch.refresh_metadata()
    request.output_token_ids.extend([4, 1])
    batch.remove_request("a")
    batch.condense()
    batch.refresh_metadata()
    batch.add_request(request)
    batch.refresh_metadata()
    before = torch.zeros(1, VOCABULARY)
    assert changed(before[0], dry.apply(before.clone())[0]) == pytest.approx({2: 0.8})


def test_xtc_leaves_greedy_requests_alone() -> None:
    batch, _, xtc = a_batch()
    batch.add_request(a_request("a", [1], temperature=0, extra_args=XTC.extra_args()))
    batch.refresh_metadata()
    before = torch.zeros(1, VOCABULARY)
    assert torch.equal(xtc.apply(before.clone()), before)


@pytest.mark.parametrize("seed", [None, 7])
def test_xtc_acts_as_often_as_it_is_asked_to(seed: int | None) -> None:
    batch, _, xtc = a_batch()
    asked = XtcOptions(0.3, 0.05)
    batch.add_request(a_request("a", [1], seed=seed, extra_args=asked.extra_args()))
    batch.refresh_metadata()
    acted = [bool(torch.isinf(xtc.apply(torch.zeros(1, VOCABULARY))).any()) for _ in range(2000)]
    assert sum(acted) / 2000 == pytest.approx(0.3, abs=0.05)
    again = a_batch()[2]
    assert again._seeds.random() == a_batch()[2]._seeds.random()  # the same on every GPU


def test_off_the_host_the_same_tokens_are_taken() -> None:
    _, _, xtc = a_batch()
    dice = random.Random(5)
    before = scores(6, dice)
    after = before.clone()
    asked = {0: XTC, 3: XtcOptions(1.0, 0.05), 5: XtcOptions(1.0, 0.2, (1, 2, 3))}
    xtc._exclude_on_device(after, asked)
    for row in range(6):
        taken = xtc_excluded(before[row].tolist(), asked[row]) if row in asked else set()
        assert {i for i, s in enumerate(after[row].tolist()) if s == -math.inf} == taken


@pytest.mark.parametrize(
    ("processor", "args", "message"),
    [
        (DryProcessor, DRY.extra_args() | {"dry_base": "2"}, "dry_base must be a number"),
        (DryProcessor, DRY.extra_args() | {"dry_base": 5.0}, "dry_base must be from 1 to 4"),
        (DryProcessor, DRY.extra_args() | {"dry_multiplier": math.nan}, "dry_multiplier"),
        (DryProcessor, DRY.extra_args() | {"dry_allowed_length": 0}, "dry_allowed_length"),
        (DryProcessor, DRY.extra_args() | {"dry_allowed_length": 51}, "from 1 to 50"),
        (DryProcessor, DRY.extra_args() | {"dry_range": -1}, "dry_range"),
        (DryProcessor, DRY.extra_args() | {"dry_range": 2**31}, "dry_range"),
        (DryProcessor, DRY.extra_args() | {"dry_range": True}, "dry_range"),
        (DryProcessor, DRY.extra_args() | {"dry_breaker_ids": [-1]}, "dry_breaker_ids"),
        (DryProcessor, DRY.extra_args() | {"dry_breaker_ids": ["\n"]}, "dry_breaker_ids"),
        (DryProcessor, DRY.extra_args() | {"dry_breaker_ids": [1] * 65}, "at most 64"),
        (DryProcessor, {"dry_multiplier": 1}, "dry_base"),
        (XtcProcessor, XTC.extra_args() | {"xtc_probability": 1.5}, "xtc_probability"),
        (XtcProcessor, XTC.extra_args() | {"xtc_threshold": 0.0}, "xtc_threshold"),
        (XtcProcessor, {"xtc_probability": 1}, "xtc_threshold"),
    ],
)
def test_what_cannot_be_done_is_refused_when_a_request_comes(
    processor: Any, args: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor.validate_params(SamplingParams(extra_args=args))


@pytest.mark.parametrize("processor", [DryProcessor, XtcProcessor])
@pytest.mark.parametrize("args", [None, {}, {"other": 1}, DRY.extra_args() | XTC.extra_args()])
def test_what_can_be_done_is_not_refused(processor: Any, args: dict[str, Any] | None) -> None:
    processor.validate_params(SamplingParams(extra_args=args))
