"""`python -m quantization`, as a command: what it prints, its exit codes, and how fast it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chat.checkpoints import CONFIGS, DEMO
from tests.unit.quantization import hub
from tests.unit.quantization.hub import COMMIT, Hub
from tests.unit.quantization.models import LLAMA, QWEN3_MOE, compressed, decoder, model, parameters

ROOT = Path(__file__).resolve().parents[3]
H100 = ("--memory-gib", "80", "--capability", "9.0")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    kept["HF_HOME"] = environ.pop("HF_HOME", "/nonexistent/hf")
    kept["HF_HUB_OFFLINE"] = environ.pop("HF_HUB_OFFLINE", "1")
    return subprocess.run(
        [sys.executable, "-m", "quantization", *arguments],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def printed(*arguments: str, **environ: str) -> dict[str, Any]:
    result = run(*arguments, "--json", **environ)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def failed(code: int, *arguments: str, **environ: str) -> str:
    result = run(*arguments, **environ)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr.strip()


def test_inspect_for_people() -> None:
    result = run("inspect", str(DEMO), *H100)
    assert result.returncode == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == str(DEMO)
    assert "architecture LlamaForCausalLM" in lines
    assert "parameters 4.89M (4,885,760)" in lines
    assert "quantization none" in lines
    assert "On a GPU of 80 GiB, compute capability 9.0" in lines
    assert "vLLM serves it yes, with cuBLAS" in lines
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_inspect_for_programs(tmp_path: Path) -> None:
    config = CONFIGS["nemo-12b"]
    made = model(tmp_path, config)
    found = printed("inspect", made, *H100)
    assert found["parameters"] == parameters(decoder(config))
    assert found["quantization"] is None
    served = found["serving"]
    assert served["serves"] is True
    assert served["kv_bytes_per_token"] == 2 * 8 * 128 * 40  # FP8
    assert served["weights_bytes"] == found["weights"]["bytes"]
    each = served["kv_bytes_per_token"] * served["context"]
    assert served["full_context_sessions"] == pytest.approx(
        served["kv_cache_bytes"] / each, rel=1e-3
    )


def test_inspect_tells_what_does_not_fit(tmp_path: Path) -> None:
    made = model(tmp_path, CONFIGS["llama-3.1-70b"])
    served = printed("inspect", made, *H100)["serving"]
    assert served["serves"] is False
    assert any("The weights of CHAT_MODEL=" in reason for reason in served["reasons"])
    assert printed("inspect", made, *H100, "--gpus", "4")["serving"]["gpus"] == 4


def test_inspect_a_quantized_one(tmp_path: Path) -> None:
    made = model(tmp_path, LLAMA, quantization_config=compressed())
    found = printed("inspect", made, "--cpu")
    assert found["quantization"]["format"] == "w4a16"
    assert found["serving"]["kernel"] == "CPUWNA16"
    moe = model(tmp_path / "moe", QWEN3_MOE, {}, quantization_config=compressed())
    (tmp_path / "moe" / "pytorch_model.bin").write_bytes(b"x" * 100)
    served = printed("inspect", moe, "--cpu")["serving"]
    if "amx_tile" not in Path("/proc/cpuinfo").read_text():
        assert served["serves"] is False
        assert "experts on a CPU without AMX" in served["reasons"][0]


def test_plan_for_people() -> None:
    result = run("plan", str(DEMO), "--to", "4bit", *H100)
    assert result.returncode == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "method awq" in lines
    assert "backend llmcompressor" in lines
    assert "group_size 64" in lines
    assert "scheme W4A16_ASYM, 42 layers" in lines
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_plan_by_a_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("method: gptq\ngroup_size: 32\nsamples: 64\nignore: [lm_head]\n")
    found = printed("plan", str(DEMO), "--recipe", str(path), "--dataset", "c4", *H100)
    assert found["recipe"] == {
        "method": "gptq",
        "backend": "llmcompressor",
        "bits": 4,
        "group_size": 32,
        "symmetric": True,
        "ignore": ["lm_head"],
        "dataset": "c4",
        "samples": 64,
        "sequence_length": 512,
    }
    reasons = {one["name"]: one["why"] for one in found["decisions"]}
    assert reasons["group_size"] == f"Set by {path}."
    assert reasons["dataset"] == "Set by --dataset."
    assert len(found["fingerprint"]) == 16
    said = failed(2, "plan", str(DEMO), "--recipe", str(path), "--samples", "7")
    assert said == f"--samples says 7, and {path} says 64: leave one out."


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("inspect", "/nowhere/at-all"), 3, "There is no folder"),
        (("inspect", "org/model"), 5, "HF_HUB_OFFLINE forbids to fetch it"),
        (("inspect", "org/model-AWQ"), 5, "suggests AWQ, which is only a hint"),
        (("inspect", str(DEMO), "--memory-gib", "80"), 2, "belong together"),
        (("inspect", str(DEMO), "--cpu", *H100), 2, "not both"),
        (("inspect", str(DEMO), "--gpus", "2"), 2, "--gpus needs"),
        (("plan", str(DEMO)), 2, "Say --to 4bit"),
        (("plan", str(DEMO), "--to", "8bit", "--method", "awq"), 2, "awq makes 4bit"),
        (("plan", str(DEMO), "--to", "4bit", "--recipe", "/none"), 2, "cannot be read"),
        (("plan", str(DEMO), "--to", "4bit", "--samples", "0"), 2, "samples: "),
        (("plan", str(DEMO), "--method", "nvfp4a16", "--cpu"), 7, "no CPU kernel"),
        (("plan", str(ROOT / "models" / "yap-screen-demo"), "--to", "8bit"), 7, "not a chat model"),
    ],
)
def test_each_fault_is_a_sentence_and_an_exit_code(
    arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert says in failed(code, *arguments)


def test_damage_is_told(tmp_path: Path) -> None:
    made = model(tmp_path, LLAMA)
    weights = tmp_path / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1)
    for command in (("inspect", made), ("plan", made, "--to", "8bit")):
        assert f"was cut off ({size - 1:,} of {size:,} bytes" in failed(6, *command)
    weights.write_bytes(b"\xff" * 4096)
    assert "is corrupt" in failed(6, "inspect", made)


def test_an_error_for_programs() -> None:
    result = run("inspect", "/nowhere/at-all", "--json")
    assert result.returncode == 3
    error = json.loads(result.stdout)["error"]
    assert error["code"] == 3
    assert error["message"] == result.stderr.strip()


def test_a_setting_that_cannot_be() -> None:
    assert "CHAT_MAX_OUT" in failed(2, "inspect", str(DEMO), CHAT_MAX_OUT="minus one")


def test_it_answers_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from quantization.cli import main; "
        f"main(['plan', {str(DEMO)!r}, '--to', '4bit', '--cpu']); "
        "print([m for m in ('torch', 'transformers', 'vllm', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
    took = []
    for _ in range(3):
        started = time.monotonic()
        run("inspect", str(DEMO))
        took.append(time.monotonic() - started)
    assert min(took) < 2


# --- the Hub ------------------------------------------------------------------------------------


@pytest.fixture
def online(tmp_path: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    model(tmp_path / "served", LLAMA)
    with hub.serving(tmp_path / "served") as served:
        environ = {
            "HF_ENDPOINT": served.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
        }
        yield served, environ


def test_a_model_on_the_hub_without_its_weights(online: tuple[Hub, dict[str, str]]) -> None:
    served, environ = online
    found = printed("inspect", "org/model", *H100, **environ)
    assert (found["place"], found["revision"]) == ("Hub", COMMIT)
    assert found["parameters"] == parameters(decoder(LLAMA))
    assert found["chat_template"] is True
    weights = served.folder / "model.safetensors"
    fetched = [path for path in Path(environ["HF_HOME"]).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in fetched) < weights.stat().st_size // 10
    plan = printed("plan", "org/model", "--to", "8bit", *H100, **environ)
    assert plan["estimate"]["download_bytes"] == found["weights"]["bytes"]


@pytest.mark.parametrize(
    ("name", "more", "environ", "code", "says"),
    [
        ("org/private", (), {}, 3, "or it is private: check the name, or set HF_TOKEN"),
        (
            "org/private",
            (),
            {"HF_TOKEN": "hf_validvalidvalid"},
            3,
            "whether the token in HF_TOKEN may read it",
        ),
        ("org/gated", (), {}, 4, "is gated: ask for access"),
        ("org/gated-GPTQ", (), {}, 4, "Its name suggests GPTQ, which is only a hint"),
        ("org/model", (), {"HF_TOKEN": "hf_wrongwrongwrong"}, 4, "refused the token"),
        ("org/model", ("--revision", "no-such-branch"), {}, 3, "has no such revision"),
        ("org/broken", (), {}, 5, "the Hub does not answer"),
        ("org/model", (), {"HF_ENDPOINT": "http://127.0.0.1:9"}, 5, "the Hub does not answer"),
    ],
)
def test_faults_of_the_hub(
    online: tuple[Hub, dict[str, str]],
    name: str,
    more: tuple[str, ...],
    environ: dict[str, str],
    code: int,
    says: str,
) -> None:
    said = failed(code, "inspect", name, *more, **{**online[1], **environ})
    assert says in said
    assert "hf_" not in said


def test_weights_on_the_hub_that_are_damaged(online: tuple[Hub, dict[str, str]]) -> None:
    served, environ = online
    weights = served.folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert 'model.safetensors of "org/model" was cut off' in failed(
        6, "inspect", "org/model", **environ
    )
    weights.write_bytes(b"\xff" * 4096)
    assert "is corrupt" in failed(6, "inspect", "org/model", **environ)


def test_the_cache_when_offline(online: tuple[Hub, dict[str, str]], tmp_path: Path) -> None:
    served, environ = online
    snapshot = Path(environ["HF_HOME"], "hub", "models--org--model", "snapshots", COMMIT)
    model(snapshot, LLAMA)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        found = printed("inspect", "org/model", *H100, **{**environ, **offline})
        assert (found["place"], found["revision"]) == ("Hub cache", COMMIT)
        assert found["parameters"] == parameters(decoder(LLAMA))
    assert served.requested == []
