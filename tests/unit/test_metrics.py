"""The metrics are there from the start, under names that dashboards can rely on."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from yap.metrics import Metrics


def test_the_names_of_the_metrics(metrics: Metrics, registry: CollectorRegistry) -> None:
    assert {family.name for family in registry.collect()} == {
        "yap_connections",
        "yap_refusals",
        "yap_turns",
        "yap_turn_seconds",
        "yap_toolcall_seconds",
        "yap_time_to_first_token_seconds",
        "yap_router_decisions",
        "yap_early_replies",
        "yap_phrase_rewinds",
        "yap_phrases_left_out",
        "yap_completion_tokens",
        "yap_prompt_tokens",
    }
    assert metrics.connections._multiprocess_mode == "livesum"


def test_every_metric_says_what_it_is(metrics: Metrics, registry: CollectorRegistry) -> None:
    assert all(family.documentation.endswith(".") for family in registry.collect())


def test_values_are_exported(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.turns.labels("stop").inc()
    metrics.ttft_seconds.observe(0.12)
    text = generate_latest(registry).decode()
    assert 'yap_turns_total{finish_reason="stop"} 1.0' in text
    assert 'yap_time_to_first_token_seconds_bucket{le="0.1"} 0.0' in text
    assert 'yap_time_to_first_token_seconds_bucket{le="0.15"} 1.0' in text


def test_one_process_has_one_set(metrics: Metrics, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)
