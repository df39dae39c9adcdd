"""The load generator against the real server, in each deploy mode, as an operator calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.harness import API_KEY, ROOT, ServerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]


def bench(
    server: ServerProcess, *arguments: str, key: str = API_KEY
) -> tuple[int, dict[str, Any], str]:
    """Exit code, figures of the one load, and what people read."""
    command = [sys.executable, "tests/bench.py", "--server", server.address, "--api-key", key]
    done = subprocess.run(
        [*command, "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["loads"][0], done.stderr


@pytest.mark.parametrize("backend", ["ws", "sse"])
def test_both_models(server: ServerProcess, backend: str) -> None:
    code, figures, text = bench(server, "--backend", backend, "-n", "6", "-c", "2")
    assert code == 0, text
    metrics = figures["metrics"]
    assert figures["completed"] == 6
    assert metrics["toolcall"]["count"] == metrics["TTFT"]["count"] == 6
    assert 0 < metrics["TTFT"]["p50"] <= metrics["E2EL"]["p50"]
    assert figures["cached_share"] > 0.3  # they share a persona
    assert figures["output_tokens"] > 0 and "this client:" in text


def test_barge_ins(chat_server: ServerProcess) -> None:
    code, figures, text = bench(
        chat_server,
        *("-n", "12", "-c", "2", "--turns", "3", "--cancel-rate", "0.5", "--cancel-delay", "20"),
        *("--ban-token", "2"),  # the demo model's end token: replies are long enough to be cut
    )
    assert code == 0, text
    assert figures["cancelled"] > 0 and figures["completed"] + figures["cancelled"] == 12
    assert figures["metrics"]["cancel to silence"]["count"] == figures["cancelled"]
    assert set(figures["ttft_by_turn"]) == {"1", "2", "3"}


def test_prompts_and_replies_of_a_length(chat_server: ServerProcess) -> None:
    code, figures, text = bench(
        chat_server,
        *("-n", "8", "--rate", "8", "--prompt-tokens", "300", "--output-tokens", "150"),
        *("--ban-token", "2", "--personas", "0"),
    )
    assert code == 0, text
    assert figures["prompt_length"]["p50"] == pytest.approx(300, abs=6)
    assert figures["output_length"]["p50"] == 150
    assert figures["lag_ms"]["count"] == 8


def test_the_classifier_alone(tool_server: ServerProcess) -> None:
    code, figures, text = bench(tool_server, "-n", "6", "-c", "2", "--no-chat-prompt")
    assert code == 0, text
    assert figures["metrics"]["toolcall"]["count"] == 6
    assert "TTFT" not in figures["metrics"]


def test_a_wrong_key_fails(server: ServerProcess) -> None:
    code, figures, text = bench(server, "-n", "2", "-c", "1", key="wrong")
    assert code == 1
    assert figures["failures"] == {"authentication_failed": 2}
    assert "X-API-Key" in text
