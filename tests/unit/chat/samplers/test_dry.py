"""DRY's mathematics, on the host and on tensors, give what its definition gives."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tests.unit.chat.samplers.reference import dry_penalties
from yap.chat.samplers import dry
from yap.chat.samplers.options import MAX_MATCH, DryOptions

VOCABULARY = 12
TEXTS = 300


def text(dice: random.Random) -> list[int]:
    """Tokens with repetitions in them: of a small vocabulary, some of it said several times."""
    said: list[int] = []
    size = dice.randrange(1, 200)
    while len(said) < size:
        fresh = dice.choices(range(VOCABULARY), k=dice.randrange(1, 8))
        again = said[(at := dice.randrange(len(said) + 1)) : at + dice.randrange(70)]
        said += dice.choice([fresh, fresh, again])
    return said


def options(dice: random.Random) -> DryOptions:
    return DryOptions(
        multiplier=dice.choice([0.25, 0.8, 2.0]),
        base=dice.choice([1.0, 1.25, 1.75]),
        allowed_length=dice.choice([1, 2, 3, 10]),
        range=dice.choice([0, 0, 0, 2, 17, 60, 1000]),
        breaker_ids=tuple(dice.sample(range(VOCABULARY), dice.randrange(4))),
    )


CASES = [(text(dice), options(dice)) for dice in map(random.Random, range(TEXTS))]


def penalties(token_ids: list[int], asked: DryOptions) -> dict[int, float]:
    return dry.Repetitions(asked, token_ids, []).penalties()


def test_the_texts_are_ones_that_dry_acts_on() -> None:
    found = [dry_penalties(*case) for case in CASES]
    assert sum(map(bool, found)) > TEXTS / 4
    assert sum(len(one) > 1 for one in found) > TEXTS / 20
    assert any(case[1].breaker_ids for case, one in zip(CASES, found, strict=True) if one)


def test_the_host_gives_what_the_definition_gives() -> None:
    for token_ids, asked in CASES:
        assert penalties(token_ids, asked) == pytest.approx(dry_penalties(token_ids, asked))


@pytest.mark.parametrize("at_once", [1, 7, TEXTS])
def test_tensors_give_what_the_definition_gives(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = max(len(token_ids) for token_ids, _ in CASES) + 5
    monkeypatch.setattr(dry, "_WINDOW_BYTES", at_once * size * MAX_MATCH)
    windows = torch.full((TEXTS, size), dry.NO_TOKEN, dtype=torch.int32)
    breakers = torch.full((TEXTS, 4), VOCABULARY)
    numbers = torch.zeros(TEXTS, 3)
    for row, (token_ids, asked) in enumerate(CASES):
        window = token_ids[-asked.range :] if asked.range else token_ids
        windows[row, -len(window) :] = torch.tensor(window)
        breakers[row, : len(asked.breaker_ids)] = torch.tensor(asked.breaker_ids)
        numbers[row] = torch.tensor([asked.multiplier, asked.base, asked.allowed_length])
    table = dry.penalty_table(windows, numbers, breakers, VOCABULARY)
    assert table.shape == (TEXTS, VOCABULARY)
    for row, case in zip(table.tolist(), CASES, strict=True):
        found = {token: penalty for token, penalty in enumerate(row) if penalty}
        assert found == pytest.approx(dry_penalties(*case), rel=1e-5)


def test_an_example_by_hand() -> None:
    a, b, c, d, line = range(5)
    asked = DryOptions(0.8, 1.75, 2, 0, (line,))
    said = [a, b, c, line, d, a, b, c, d, line, a, b, c]
    # "a b c" was followed by a line break, which is none of DRY's business, and by d.
    assert penalties(said, asked) == pytest.approx({d: 0.8 * 1.75})
    assert penalties([*said, line], asked) == {}


def test_penalties_are_finite_however_long_the_repetition_is() -> None:
    found = penalties([1, 2] * 500, DryOptions(100, 4, 1, 0))
    assert found == pytest.approx({1: 100 * 4.0 ** (MAX_MATCH - 1)})
    assert np.isfinite(np.float32(found[1]))


@pytest.mark.parametrize("token_ids", [[], [3], [3, 3]])
def test_hardly_any_text_repeats_nothing(token_ids: list[int]) -> None:
    assert penalties(token_ids, DryOptions(1, 2, 2, 0)) == {}


def test_token_by_token_it_is_what_it_is_at_once() -> None:
    for token_ids, asked in CASES[:60]:
        reply: list[int] = []
        following = dry.Repetitions(asked, token_ids[:5], reply)
        for token in token_ids[5:]:
            reply.append(token)
            assert following.penalties() == penalties([*token_ids[:5], *reply], asked)


def test_a_reply_may_be_as_long_as_it_likes() -> None:
    asked = DryOptions(0.8, 1.0, 3, 0)
    reply: list[int] = []
    following = dry.Repetitions(asked, range(700), reply)
    for token in range(3000):
        follows = token % 700 if 3 <= token <= 700 else None
        assert following.penalties() == ({} if follows is None else {follows: 0.8})
        reply.append(token if token < 700 else token + 700)


def test_what_the_engine_took_back_was_not_said() -> None:
    asked = DryOptions(0.8, 1.75, 1, 0)
    reply = [7, 8, 9, 7]
    following = dry.Repetitions(asked, [1], reply)
    assert following.penalties() == {8: 0.8}
    del reply[2:]
    assert following.penalties() == {}
    reply += [1]
    assert following.penalties() == {7: 0.8}


def test_a_token_on_its_way_is_waited_for() -> None:
    asked = DryOptions(0.8, 1.75, 1, 0)
    reply = [7, dry.NO_TOKEN]
    following = dry.Repetitions(asked, [1, 7, 2], reply)
    assert following.penalties() == {2: 0.8}
    reply[1] = 1
    assert following.penalties() == {7: 0.8}
