"""Bounds, tables, and what vLLM's likeliest tokens tell of a divergence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from quantization.gauge import (
    Bounds,
    Comparison,
    Gauge,
    Run,
    Served,
    breaches,
    of_served,
    served,
    table,
)
from quantization.gauge.comparison import Scores, compare_scores
from quantization.gauge.served import compare_tops, divergence

COMPARISON = Comparison(
    rows=40,
    tokens=4167,
    perplexity_original=12.5,
    perplexity_quantized=12.75,
    perplexity_ratio=1.02,
    perplexity_ratio_se=0.004,
    kl=0.0213,
    kl_se=0.0011,
    kl_p99=0.31,
    kl_exact=True,
    agreement=0.953,
    agreement_se=0.004,
)
RUN = Run(
    served=True,
    file_bytes=2**30,
    prefill_tokens=512,
    prefill_per_second=1236.0,
    decode_per_second={1: 48.8, 8: 331.0},
)
SERVED = Served(
    device="CPU",
    vllm="0.32.0",
    original=RUN,
    quantized=RUN.model_copy(
        update={"file_bytes": 2**29, "decode_per_second": {1: 75.5, 8: 509.0}}
    ),
    comparison=COMPARISON.model_copy(update={"kl_exact": False, "kl": 0.9}),
)


def gauge(**changes: Any) -> Gauge:
    return Gauge(**{**COMPARISON.model_dump(), **changes})


# --- means and errors -------------------------------------------------------------------------


def test_standard_errors_are_over_rows_and_not_over_tokens() -> None:
    def scores(value: float, tokens: int) -> Scores:
        there = np.full(tokens, value)
        return Scores(original=-there, quantized=-there, kl=there, agree=there)

    # Two rows of a thousand equal tokens tell as much as two rows of one.
    many = compare_scores([scores(0.0, 1000), scores(1.0, 1000)], kl_exact=True)
    one = compare_scores([scores(0.0, 1), scores(1.0, 1)], kl_exact=True)
    assert many.kl == one.kl == 0.5 and many.kl_se == pytest.approx(one.kl_se) == 0.5
    assert compare_scores([scores(1.0, 9)], kl_exact=True).kl_se is None
    with pytest.raises(ValueError, match="no token"):
        compare_scores([], kl_exact=True)


def test_the_error_is_what_repeated_draws_scatter_by() -> None:
    generator = np.random.default_rng(0)

    def draw() -> Comparison:
        rows = []
        for size in generator.integers(20, 60, 40):
            kl = np.abs(generator.normal(0.1, 0.05) + generator.normal(0, 0.1, size))
            rows.append(Scores(original=-kl, quantized=-2 * kl, kl=kl, agree=(kl < 0.1) * 1.0))
        return compare_scores(rows, kl_exact=True)

    draws = [draw() for _ in range(300)]
    for name in ("kl", "agreement", "perplexity_ratio"):
        scatter = np.std([getattr(one, name) for one in draws])
        claimed = np.mean([getattr(one, f"{name}_se") for one in draws])
        assert claimed == pytest.approx(scatter, rel=0.15), name


# --- bounds -----------------------------------------------------------------------------------


def test_each_bound_names_its_option() -> None:
    assert breaches(gauge(), Bounds()) == []
    strict = Bounds(max_kl=0.01, max_perplexity_ratio=1.01, min_agreement=0.99)
    said = breaches(gauge(), strict)
    options = ("--max-kl", "--max-perplexity-ratio", "--min-agreement")
    assert len(said) == 3 and all(o in s for o, s in zip(options, said, strict=True))
    assert (
        breaches(gauge(), Bounds(max_kl=None, max_perplexity_ratio=None, min_agreement=None)) == []
    )


def test_no_number_breaks_a_bound() -> None:
    nan = gauge().model_copy(
        update={"kl": math.nan, "perplexity_ratio": math.nan, "agreement": math.nan}
    )
    assert len(breaches(nan, Bounds())) == 3


def test_what_vllm_serves_is_bounded_too() -> None:
    said = breaches(gauge(served=SERVED), Bounds())
    assert said == [
        "The KL divergence in vLLM is at least 0.9000 nats a token, and 0.5 is allowed (--max-kl)."
    ]
    alone = of_served(SERVED)
    assert alone is not None and alone.how == "vLLM" and breaches(alone, Bounds()) == said
    assert of_served(SERVED.model_copy(update={"comparison": None})) is None


@pytest.mark.parametrize(
    "bounds",
    [{"max_kl": -1}, {"max_perplexity_ratio": 0.9}, {"min_agreement": 1.1}, {"max_kl": math.nan}],
)
def test_bounds_that_cannot_be(bounds: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Bounds(**bounds)


# --- table and JSON ---------------------------------------------------------------------------


def test_the_table_shows_all_and_is_aligned() -> None:
    text = table(gauge(served=SERVED))
    for shown in ("12.500", "12.750", "+2.00% ± 0.40%", "0.02130 ± 0.00110", "95.30% ± 0.40%"):
        assert shown in text
    for shown in (">= 0.90000", "1,024.0", "x 0.50", "decode, 8 at a time", "331.0", "x 1.55"):
        assert shown in text
    assert "on the GPU" not in text
    for part in text.strip().split("\n\n"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) == 1
        assert len({line.count("|") for line in lines}) == 1


def test_a_model_that_was_not_served_says_why() -> None:
    refused = Run(served=False, reason="no kernel for it.", file_bytes=2**20)
    both = SERVED.model_copy(update={"quantized": refused, "comparison": None})
    text = table(gauge(served=both))
    assert "vLLM does not serve the quantized model here: no kernel for it." in text
    assert breaches(gauge(served=both), Bounds()) == []


def test_json_and_back() -> None:
    whole = gauge(served=SERVED)
    assert Gauge.model_validate_json(whole.model_dump_json()) == whole
    assert Gauge.model_validate(json.loads(json.dumps(whole.model_dump(mode="json")))) == whole


# --- likeliest tokens -------------------------------------------------------------------------


def distributions(count: int, vocabulary: int = 50) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(count)
    logits = generator.normal(0, 3, (2, vocabulary))
    logits[1] = logits[0] + generator.normal(0, 0.5, vocabulary)
    return [one - math.log(np.exp(one).sum()) for one in logits]


def likeliest(logs: np.ndarray[Any, Any], count: int, there: int) -> dict[int, float]:
    best = np.argsort(-logs)[:count].tolist()
    return {token: float(logs[token]) for token in [*best, there]}


@pytest.mark.parametrize("seed", range(20))
def test_likeliest_tokens_give_a_lower_bound_that_grows_to_the_divergence(seed: int) -> None:
    p, q = distributions(seed)
    exact = float((np.exp(p) * (p - q)).sum())
    found = [divergence(likeliest(p, k, 7), likeliest(q, k, 7)) for k in (1, 5, 20, 50)]
    assert all(one <= exact + 1e-9 for one in found)
    assert found[-1] == pytest.approx(exact, abs=1e-5)
    assert found[2] > 0.5 * exact
    assert divergence(likeliest(p, 20, 7), likeliest(p, 20, 7)) == 0


def test_tops_of_rows() -> None:
    p, q = distributions(1)
    tokens = [3, 9, 4]

    def tops(logs: np.ndarray[Any, Any]) -> dict[str, Any]:
        best = np.argsort(-logs)[:20]
        return {
            "token": np.array(tokens),
            "logs": logs[tokens],
            "ids": np.array([best] * 3),
            "top": np.array([logs[best]] * 3),
        }

    found = compare_tops(tops(p), tops(q), [2, 0, 1])
    assert (found.rows, found.tokens, found.kl_exact) == (2, 3, False)
    assert found.perplexity_original == pytest.approx(math.exp(-p[tokens].mean()))
    assert found.perplexity_ratio == pytest.approx(math.exp((p - q)[tokens].mean()))
    assert found.agreement == float(p.argmax() == q.argmax())


@pytest.mark.parametrize("content", ["", "{}", "[]", "[[1]]", "[[]]", "[7]"])
def test_rows_that_are_none(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(content)
    where = ("--original", str(tmp_path), "--quantized", str(tmp_path), "--rows", str(rows))
    assert served.main([*where, "--out", str(tmp_path / "out.json")]) == 2
    assert "holds no rows for the gauge" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
