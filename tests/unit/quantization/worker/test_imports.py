"""A worker runs where neither the server nor what it needs is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from quantization import worker
from quantization.home import ROOT

FOLDER = Path(worker.__file__).parent
PARTS = sorted(path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.py"))
MODULES = [".".join(("quantization", "worker", *part.parts)) for part in PARTS]


def test_a_worker_imports_nothing_of_the_server() -> None:
    assert "quantization.worker.backends.autoawq" in MODULES
    code = (
        f"import sys, {', '.join(MODULES)}, quantization.calibration, quantization.gauge; "
        "print([m for m in sys.modules if m.partition('.')[0] in "
        "('vllm', 'bentoml', 'torch', 'transformers') or m.startswith(('yap.chat', 'service'))])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"
