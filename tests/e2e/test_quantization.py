"""Real quantizers on real models: what comes out is measured, is whole, and is served by vLLM.

The environments are the project's own, made when they are not there.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from quantization.export.metadata import check_files, read_metadata
from quantization.home import home
from tests.e2e.small_models import DEMO, KINDS, ROOT, make

# Architectures by what this CPU serves of them quantized. Mistral 3 needs torchvision to be served.
SERVED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "ministral3")
IN_AUTOAWQ = ("llama", "mistral", "qwen2", "qwen3", "gemma2")
METHODS = ("int8", "smoothquant", "awq", "gptq", "rtn", "fp8", "nvfp4a16")
CALIBRATED = ("smoothquant", "awq", "gptq")
# FP8 is loaded too, and takes minutes to write a sentence there.
SERVED_METHODS = ("int8", "smoothquant", "awq", "gptq", "rtn")
# Random weights answer nearly uniformly: what is lost there says nothing.
ANYTHING = ("--max-kl", "100", "--max-perplexity-ratio", "100", "--min-agreement", "0")
GPU = ("--memory-gib", "24", "--capability", "9.0")
FEW = ("--samples", "8", "--sequence-length", "64")
WAIT_S = 300.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place for exports, with the project's environments in it."""
    environments = home().environments
    environments.mkdir(parents=True, exist_ok=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "environments").symlink_to(environments)
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "YAP_QUANTIZATION_DIR": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "quantization", "run", *arguments, "--json"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl+C is ignored, and that is inherited.
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - there are no threads that matter
    )


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(folder: Path, *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """What a run printed, and what it said on the way."""
    process = start(folder, *arguments)
    out, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, said
    found: dict[str, Any] = json.loads(out)
    return found, said


def serve(exports: list[Path]) -> list[dict[str, Any]]:
    """What vLLM says of exports that it loads and writes with."""
    command = [sys.executable, "-m", "tests.e2e.load_exports", *map(str, exports)]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(export: Path, source: Path) -> None:
    """An export is whole, and what goes along is the source's, byte for byte."""
    metadata = read_metadata(export)
    check_files(export, metadata, deep=True)
    present = {path.name for path in export.iterdir()}
    assert present == {*metadata.files, "quantization_metadata.json", "README.md"}
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (export / name).read_bytes() == (source / name).read_bytes()
    written = json.loads((export / "config.json").read_text())
    assert written.pop("quantization_config")
    assert written == json.loads((source / "config.json").read_text())
    older = json.loads((export / "awq_metadata.json").read_text())
    newer = json.loads((export / "quantization_metadata.json").read_text())
    assert older == {name: newer[name] for name in older}
    assert str(source.parent) not in (export / "quantization_metadata.json").read_text()


@pytest.mark.timeout(300)
def test_the_demo_model_in_8_bits(folder: Path) -> None:
    arguments = (str(DEMO), "--to", "8bit", "--cpu", "--no-serve")
    made, said = run(folder, *arguments)
    assert made["cached"] is False
    assert "quantize" in said
    assert made["gauge"]["kl"] < 0.05
    assert made["gauge"]["agreement"] > 0.9
    export = Path(made["export"])
    check(export, DEMO)
    assert not [path for path in (folder / "home" / "work").iterdir() if path.is_dir()]
    # Time of processors: how busy the machine is else does not count.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again, _ = run(folder, *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (again["cached"], again["export"]) == (True, made["export"])
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


# --- each architecture by each method -----------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_llmcompressor(folder: Path, kind: str) -> None:
    source = make(kind, folder / kind)
    exports = {}
    for method in METHODS:
        few = FEW if method in CALIBRATED else ()
        asked = (str(source), "--method", method, "--offline", "--no-serve", *few, *ANYTHING, *GPU)
        made, _ = run(folder, *asked)
        assert made["gauge"]["how"] == "in process"
        assert 0 < made["gauge"]["kl"] < 2, method
        exports[method] = Path(made["export"])
        check(exports[method], source)
    assert len(set(exports.values())) == len(METHODS)
    if kind in SERVED:
        found = serve([exports[method] for method in SERVED_METHODS])
        for method, said in zip(SERVED_METHODS, found, strict=True):
            assert len(said["tokens"]) == 8, (method, said)
            assert said["method"] == "compressed-tensors"


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", IN_AUTOAWQ)
def test_autoawq(folder: Path, kind: str) -> None:
    source = make(kind, folder / kind)
    asked = (str(source), "--to", "4bit", "--backend", "autoawq", "--offline", "--no-serve")
    made, _ = run(folder, *asked, *FEW, *ANYTHING, *GPU)
    rounded, _ = run(
        folder, str(source), "--method", "rtn", "--offline", "--no-serve", *ANYTHING, *GPU
    )
    # Scales that are searched for must not do worse than none: on a CPU they once did.
    assert 0 < made["gauge"]["kl"] < 1.2 * rounded["gauge"]["kl"]
    check(Path(made["export"]), source)
    (said,) = serve([Path(made["export"])])
    assert len(said["tokens"]) == 8, said
    assert "awq" in said["method"]


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("after", ["source", "calibrate", "reference"])
def test_a_killed_run_goes_on(folder: Path, after: str) -> None:
    arguments = (str(DEMO), "--method", "gptq", "--offline", "--no-serve", *FEW, *ANYTHING)
    process = start(folder, *arguments)
    step = wait_for_step(folder, after, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(family, timeout=10)[1], "the worker outlived the run"
    before = step.stat().st_mtime_ns
    assert not list((folder / "home" / "exports").glob("[!.]*"))
    made, said = run(folder, *arguments)
    assert f"{after}: done before" in said
    assert not step.exists(), before
    check(Path(made["export"]), DEMO)


def wait_for_step(folder: Path, step: str, process: subprocess.Popen[str]) -> Path:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = list((folder / "home" / "work").glob(f"*/steps/{step}.json"))
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"{step} was never done: {process.communicate()[1]}")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_worker_too(folder: Path, number: signal.Signals, code: int) -> None:
    process = start(folder, str(DEMO), "--method", "gptq", "--offline", "--no-serve", *FEW)
    wait_for_step(folder, "calibrate", process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert family
    assert not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_too_much_loss_publishes_nothing_and_a_looser_bound_does(folder: Path) -> None:
    arguments = (str(DEMO), "--method", "rtn", "--no-serve", "--cpu")
    failed, said = run(folder, *arguments, "--max-kl", "0.0001", code=9)
    assert "nothing is published" in failed["error"]["message"]
    assert said.endswith(failed["error"]["message"] + "\n")
    assert not list((folder / "home" / "exports").glob("[!.]*"))
    made, said = run(folder, *arguments)
    assert "quantize: done before" in said
    assert made["gauge"]["kl"] > 0.0001
    failed, _ = run(folder, *arguments, "--max-kl", "0.0001", code=9)
    assert "KL divergence" in failed["error"]["message"]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_weights_that_are_no_numbers_are_told(folder: Path) -> None:
    source = folder / "damaged"
    shutil.copytree(DEMO, source)
    weights = source / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-4096:] = b"\xff" * 4096
    weights.write_bytes(raw)
    failed, _ = run(folder, str(source), "--to", "8bit", "--cpu", code=6)
    assert 'model.safetensors of "' in failed["error"]["message"]
    assert "not finite" in failed["error"]["message"]
