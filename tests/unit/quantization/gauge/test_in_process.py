"""The exact gauge, against the same numbers in 64 bits by another way, and against damage."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quantization.errors import ExitCode, QuantizationError
from quantization.gauge import (
    Bounds,
    Gauge,
    breaches,
    compare,
    discard,
    in_process,
    reference,
    token_budget,
)
from tests.unit.quantization.small_llama import disturbed, small_llama

Measure = Callable[[Any], Gauge]


def rows_of(vocabulary: int = 211) -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, vocabulary, size).tolist() for size in (2, 9, 31, 17, 64, 40)]


def silent(step: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def original() -> Any:
    return small_llama()


@pytest.fixture
def measure(original: Any, tmp_path: Path) -> Measure:
    reference(original, rows_of(), tmp_path, silent)
    return lambda model: compare(model, tmp_path, silent)


def in_64_bits(original: Any, quantized: Any) -> dict[str, float]:
    """The definitions, written out, token by token in 64 bits."""
    lost, kl, same, sizes = [], [], [], []
    for row in rows_of():
        with torch.no_grad():
            logits = [
                m.double()(torch.tensor([row])).logits[0].numpy() for m in (original, quantized)
            ]
        p, q = (np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits)
        here = range(len(row) - 1)
        kl.append([sum(p[t] * np.log(p[t] / q[t])) for t in here])
        lost.append([math.log(p[t, row[t + 1]] / q[t, row[t + 1]]) for t in here])
        same.append([p[t].argmax() == q[t].argmax() for t in here])
        sizes.append(len(row) - 1)
    tokens = sum(sizes)
    mean = sum(map(sum, kl)) / tokens
    spread = sum((sum(one) - mean * size) ** 2 for one, size in zip(kl, sizes, strict=True))
    return {
        "kl": mean,
        "kl_se": math.sqrt(len(kl) / (len(kl) - 1) * spread) / tokens,
        "kl_p99": float(np.percentile([one for row in kl for one in row], 99)),
        "perplexity_ratio": math.exp(sum(map(sum, lost)) / tokens),
        "agreement": sum(map(sum, same)) / tokens,
    }


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_numbers_are_those_of_the_definitions(
    original: Any, measure: Measure, share: float
) -> None:
    changed = disturbed(original, share)
    found = measure(changed)
    for name, value in in_64_bits(original, changed).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-3, abs=2e-6), name
    assert (found.rows, found.tokens, found.kl_exact) == (6, 157, True)
    assert found.perplexity_quantized / found.perplexity_original == pytest.approx(
        found.perplexity_ratio
    )


def test_a_model_lost_nothing_against_itself(original: Any, measure: Measure) -> None:
    found = measure(original)
    assert (found.kl, found.kl_p99, found.perplexity_ratio, found.agreement) == (0, 0, 1, 1)
    assert (found.kl_se, found.perplexity_ratio_se, found.agreement_se) == (0, 0, 0)
    assert breaches(found, Bounds(max_kl=0, max_perplexity_ratio=1, min_agreement=1)) == []


def test_more_damage_is_more_divergence(original: Any, measure: Measure) -> None:
    found = [measure(disturbed(original, share)) for share in (0.003, 0.01, 0.03, 0.1, 0.3)]
    kl = [one.kl for one in found]
    assert kl == sorted(kl) and kl[-1] > 100 * kl[0] > 0
    assert found[0].agreement > found[-1].agreement


def test_a_damaged_model_breaks_the_default_bounds(original: Any, measure: Measure) -> None:
    assert breaches(measure(disturbed(original, 0.01)), Bounds()) == []
    broken = disturbed(original, 0.0)
    with torch.no_grad():  # as scales that were read in the wrong order
        weight = broken.model.layers[1].mlp.down_proj.weight
        weight.copy_(weight.flip(0))
    said = breaches(measure(broken), Bounds())
    assert said and "--max-kl" in said[0]


def test_chunks_change_nothing(
    original: Any, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = disturbed(original, 0.1)
    whole = measure(changed)
    monkeypatch.setattr(in_process, "_CHUNK", 7 * 211)
    parts = measure(changed)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-6)
    assert parts.model_dump(exclude={"kl", "kl_se", "kl_p99"}) == pytest.approx(
        whole.model_dump(exclude={"kl", "kl_se", "kl_p99"})
    )


def test_in_16_bits_as_models_are_quantized(tmp_path: Path) -> None:
    original = small_llama().to(torch.bfloat16)
    reference(original, rows_of(), tmp_path, silent)
    assert compare(original, tmp_path, silent).kl == 0
    assert 0 < compare(disturbed(original, 0.05), tmp_path, silent).kl < 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_no_numbers(original: Any, measure: Measure, value: float) -> None:
    broken = disturbed(original, 0.0)
    with torch.no_grad():
        broken.lm_head.weight[5] = value
    with pytest.raises(QuantizationError, match="The quantized model's outputs are no numbers"):
        measure(broken)


def test_a_token_that_neither_model_can_say_adds_nothing(original: Any, tmp_path: Path) -> None:
    class Masked(torch.nn.Module):
        """As models that mask the padding of their vocabulary."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.device = inner, inner.device

        def forward(self, **inputs: Any) -> Any:
            out = self.inner(**inputs)
            out.logits[..., 0] = -math.inf
            return out

    rows = [[token or 1 for token in row] for row in rows_of()]
    reference(Masked(original), rows, tmp_path, silent)
    found = compare(Masked(disturbed(original, 0.1)), tmp_path, silent)
    assert math.isfinite(found.kl) and found.kl > 0


# --- the file between both --------------------------------------------------------------------


def test_a_reference_is_made_once_for_the_same_rows(original: Any, tmp_path: Path) -> None:
    reference(original, rows_of(), tmp_path, silent)
    reference(None, rows_of(), tmp_path, silent)  # no model is asked
    changed = disturbed(original, 0.1)
    before = compare(changed, tmp_path, silent)
    reference(changed, rows_of()[:3], tmp_path, silent)  # other rows: made anew
    assert compare(changed, tmp_path, silent).kl == 0 < before.kl


def test_a_reference_that_was_cut_off_does_not_count(original: Any, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(step: str, done: int, total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        reference(original, rows_of(), tmp_path, kill)
    with pytest.raises(QuantizationError, match="missing or damaged") as caught:
        compare(original, tmp_path, silent)
    assert caught.value.code is ExitCode.DAMAGED
    reference(original, rows_of(), tmp_path, silent)
    assert compare(original, tmp_path, silent).kl == 0


def test_discard_leaves_nothing(original: Any, tmp_path: Path) -> None:
    folder = tmp_path / "gauge"
    reference(original, rows_of(), folder, silent)
    assert (folder / "reference.bin").stat().st_size == 157 * 211 * 4
    discard(folder)
    discard(folder)
    assert list(folder.iterdir()) == []


def test_a_disk_without_room(
    original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(QuantizationError, match="make room") as caught:
        reference(original, rows_of(), tmp_path, silent)
    assert caught.value.code is ExitCode.NO_ROOM and list(tmp_path.iterdir()) == []


def test_another_vocabulary_is_another_model(measure: Measure) -> None:
    with pytest.raises(QuantizationError, match="not the same model"):
        measure(small_llama(vocabulary=223))


def test_no_rows(original: Any, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="no held-out texts"):
        reference(original, [[1]], tmp_path, silent)


def test_progress(original: Any, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    reference(original, rows_of(), tmp_path, lambda *said: seen.append(said))
    compare(original, tmp_path, lambda *said: seen.append(said))
    assert [one for one in seen if one[1] == one[2]] == [("reference", 6, 6), ("gauge", 6, 6)]


def test_the_budget_keeps_the_file_within_4_gib() -> None:
    assert token_budget(4096) == 16_384
    for vocabulary in (128_256, 151_936, 262_144):
        assert 4000 < token_budget(vocabulary) <= 2**32 / (4 * vocabulary)
