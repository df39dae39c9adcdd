"""The gauge in vLLM: three small models, each loaded by the real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quantization.calibration import held_out
from quantization.gauge import Gauge, Served, compare, of_served, reference, table
from tests.unit.chat.checkpoints import DEMO
from tests.unit.quantization.small_llama import disturbed

ROOT = DEMO.parents[1]

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


def silent(step: str, done: int, total: int) -> None:
    pass


def save(model: Any, folder: Path) -> None:
    """A checkpoint with the demo model's small files and other weights."""
    from safetensors.torch import save_file

    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((DEMO / name).read_bytes())
    kept = {n: t.contiguous() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def gauge(original: Path, quantized: Path, rows: Path) -> tuple[Served, str]:
    out = rows.with_name("served.json")
    command = [sys.executable, "-m", "quantization.gauge.served"]
    command += ["--original", str(original), "--quantized", str(quantized)]
    command += ["--rows", str(rows), "--out", str(out)]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return Served.model_validate_json(out.read_text()), done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Gauge]:
    """The rows, a damaged copy of the demo model, and the exact gauge of it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("gauge")
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    rows = held_out(tokenizer, 512, 1500)
    (folder / "rows.json").write_text(json.dumps(rows))
    model = AutoModelForCausalLM.from_pretrained(DEMO)
    worse = disturbed(model, 0.02)
    save(worse, folder / "worse")
    reference(model, rows, folder, silent)
    return folder / "rows.json", folder / "worse", compare(worse, folder, silent)


def test_vllm_sees_the_damage_that_the_exact_gauge_sees(models: tuple[Path, Path, Gauge]) -> None:
    rows, worse, exact = models
    found, progress = gauge(DEMO, worse, rows)
    said = found.comparison
    assert said is not None and not said.kl_exact
    assert (said.rows, said.tokens) == (exact.rows, exact.tokens)
    assert said.perplexity_original == pytest.approx(exact.perplexity_original, rel=0.02)
    assert said.perplexity_ratio == pytest.approx(exact.perplexity_ratio, rel=0.02)
    assert said.agreement == pytest.approx(exact.agreement, abs=0.02)
    # A lower bound, but for BF16's other rounding in other kernels.
    assert 0.4 * exact.kl < said.kl < 1.1 * exact.kl
    for run in (found.original, found.quantized):
        assert run.served and run.file_bytes == (DEMO / "model.safetensors").stat().st_size
        assert run.prefill_per_second and run.prefill_per_second > 100
        assert set(run.decode_per_second) == {1, 8} and run.decode_per_second[1] > 10
    assert [json.loads(line)["done"] for line in progress.splitlines()] == [0, 1, 2]
    whole = of_served(found)
    assert whole is not None and "decode, 8 at a time" in table(whole)


def test_a_format_without_a_kernel_is_a_finding(
    models: tuple[Path, Path, Gauge], tmp_path: Path
) -> None:
    rows = models[0]
    config = json.loads((DEMO / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "mxfp4-pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 4,
                    "type": "float",
                    "strategy": "group",
                    "group_size": 32,
                    "symmetric": True,
                },
                "input_activations": None,
            }
        },
        "ignore": ["lm_head"],
    }
    folder = tmp_path / "mxfp4"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((DEMO / "model.safetensors").read_bytes())
    found, _ = gauge(folder, tmp_path / "missing", rows)
    for run in (found.original, found.quantized):
        assert not run.served and run.reason and "\n" not in run.reason
    assert found.original.reason and "kernel" in found.original.reason
    assert found.comparison is None and of_served(found) is None
