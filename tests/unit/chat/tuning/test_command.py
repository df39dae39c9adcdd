"""`python -m yap.chat.tuning`: the plan as a table and as JSON, and why there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chat.checkpoints import DEMO, checkpoint
from yap.chat.tuning import __main__ as command

ROOT = Path(__file__).resolve().parents[3]
H200 = ("--memory-gib", "139.8", "--capability", "9.0")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CHAT_", "DEPLOY_", "MAX_", "KV_", "TEXT_")):
            monkeypatch.delenv(name)


def run(*arguments: str) -> int:
    return command.main(arguments)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def values(plan: dict[str, Any], part: str = "engine") -> dict[str, Any]:
    return {one["name"]: one["value"] for one in plan[part]}


@pytest.mark.slow
def test_as_a_command_for_hardware_that_is_not_there(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "nemo-12b")
    command = [sys.executable, "-m", "yap.chat.tuning", model, *H200]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        model,
        "  MistralForCausalLM, about 1.22e+10 parameters",
        "  on a GPU of 140 GiB, compute capability 9.0",
    ]
    assert any(line.split()[:2] == ["max_num_batched_tokens", "2048"] for line in lines)
    assert any(line.split()[:2] == ["kv_cache_dtype", "fp8"] for line in lines)
    assert "weights 22.8 GiB" in result.stdout
    assert max(map(len, lines)) <= 100 + len(model)
    assert not (tmp_path / "model.safetensors").exists()


def test_for_programs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = printed(capsys, checkpoint(tmp_path, "nemo-12b"), *H200)
    assert values(plan)["max_model_len"] == 5406
    assert all(one["why"] for part in ("engine", "environment") for one in plan[part])
    memory = plan["memory"]
    assert memory["kv_bytes_per_token"] == 2 * 8 * 128 * 40
    assert memory["full_context_sessions"] == pytest.approx(
        memory["kv_cache_bytes"] / (memory["kv_bytes_per_token"] * 5406), abs=0.01
    )


def test_the_machine_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for hardware in ((), ("--cpu",)):
        plan = printed(capsys, str(DEMO), *hardware)
        assert plan["hardware"].startswith("a CPU")
        assert values(plan)["distributed_executor_backend"] == "uni"
        assert "OMP_NUM_THREADS" in values(plan, "environment")


def test_other_settings_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_CONNECTIONS", "100")
    monkeypatch.setenv("KV_DTYPE", "model")
    monkeypatch.setenv("CHAT_MODEL", checkpoint(tmp_path, "nemo-12b"))
    monkeypatch.setenv("DEPLOY_MODELS", "chat")
    plan = printed(capsys, *H200)
    assert plan["model"] == str(tmp_path)
    assert values(plan)["max_num_seqs"] == 125
    assert values(plan)["kv_cache_dtype"] == "auto"
    assert values(plan)["gpu_memory_utilization"] == 0.9


def test_several_gpus(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "llama-3.1-70b")
    plan = printed(capsys, model, "--memory-gib", "80", "--capability", "9.0", "--gpus", "8")
    assert values(plan)["tensor_parallel_size"] == 4
    assert plan["hardware"] == "8 GPUs of 80 GiB, compute capability 9.0"


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (("/nowhere/at-all", "--cpu"), {}, "/nowhere/at-all"),
        (("..//", "--cpu"), {}, "it has no config.json"),
        ((str(DEMO), "--cpu"), {"CHAT_ENGINE_ARGS": '{"no_such": 1}'}, "does not know: no_such."),
        ((str(DEMO), "--cpu"), {"CHAT_TOP_P": "7"}, "CHAT_TOP_P"),
        (("huge", "--memory-gib", "1", "--capability", "9.0"), {}, "The weights of CHAT_MODEL="),
    ],
)
def test_what_cannot_be_is_one_sentence_and_a_failure(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    environ: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "huge", "llama-3.1-70b")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert run(*arguments) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--memory-gib", "80"),
        ("--capability", "9.0"),
        ("--memory-gib", "-1", "--capability", "9.0"),
        ("--memory-gib", "80", "--capability", "ninety"),
        ("--memory-gib", "80", "--capability", "9.0", "--gpus", "0"),
        ("--memory-gib", "80", "--capability", "9.0", "--cpu"),
    ],
)
def test_hardware_that_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(str(DEMO), *arguments)
    assert caught.value.code == 2
