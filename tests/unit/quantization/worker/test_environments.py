"""Calibration and gauge where they run: in the quantizers' own environments, on real Parquet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quantization.home import ROOT, home
from quantization.planning.methods import Backend
from quantization.running import environments
from tests.unit.chat.checkpoints import DEMO

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
BACKENDS: tuple[Backend, ...] = ("llmcompressor", "autoawq")

# What both old and new transformers read of the demo model.
_TOKENIZER = f"""
import json, sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast

demo = Path({str(DEMO)!r})
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(demo / "tokenizer.json"),
    eos_token="<|im_end|>",
    chat_template=(demo / "chat_template.jinja").read_text(),
)
work = Path(sys.argv[1])
"""
_SEQUENCES = """
from quantization.calibration import Request, held_out, prepare

request = Request("bundled", 24, 256, personas=Path("prompts"))
made = prepare(request, tokenizer, work, lambda *said: None)
found = {"rows": made.record["rows_sha256"], "held_out": held_out(tokenizer, 512)}
"""
_PARQUET = """
import pyarrow as pa
import pyarrow.parquet as pq
from quantization.calibration import files
from quantization.calibration.rows import document

talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
table = pa.table({
    "text": pa.array(["one", None, "", "zw\\u00f6lf"] * 50).dictionary_encode(),
    "messages": pa.array([None, talk, [], None] * 50),
    "pixels": pa.array([b"\\xff"] * 200),
})
path = work / "odd.parquet"
pq.write_table(table, path, compression="zstd", row_group_size=7)
found = {"documents": [str(document(row.value)) for row in files.rows(path)]}
raw = path.read_bytes()
path.write_bytes(raw[:2000] + bytes(200) + raw[2200:])
try:
    for row in files.rows(path):
        document(row.value)
    found["fault"] = ""
except Exception as error:
    found["fault"] = f"{type(error).__name__}: {error}"
"""
_GAUGE = """
import torch
from quantization.gauge import compare, reference
from tests.unit.quantization.small_llama import disturbed, small_llama

torch.set_num_threads(1)
model = small_llama()
reference(model, [[1, 2, 3, 4, 5], [6, 7, 8]], work / "gauge", lambda *said: None)
found = compare(disturbed(model, 0.1), work / "gauge", lambda *said: None)
found = found.model_dump(exclude={"how", "served"})
"""


def said(python: Path | str, script: str, work: Path) -> Any:
    """What a script finds in an environment."""
    work.mkdir(parents=True)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    source = f"{_TOKENIZER}{script}\nprint(json.dumps(found))"
    done = subprocess.run(
        [str(python), "-c", source, str(work)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def pythons() -> dict[Backend, Path]:
    return {
        backend: environments.ensure(backend, home(), cuda=False, say=lambda _: None).python
        for backend in BACKENDS
    }


def test_every_environment_makes_the_same_sequences(
    pythons: dict[Backend, Path], tmp_path: Path
) -> None:
    here = said(sys.executable, _SEQUENCES, tmp_path / "server")
    for backend, python in pythons.items():
        assert said(python, _SEQUENCES, tmp_path / backend) == here, backend


def test_parquet_with_nulls_dictionaries_and_damage(
    pythons: dict[Backend, Path], tmp_path: Path
) -> None:
    for backend, python in pythons.items():
        found = said(python, _PARQUET, tmp_path / backend)
        assert found["documents"] == ["one", "user: Hi.\nassistant: Hello.", "None", "zwölf"] * 50
        assert found["fault"].startswith("QuantizationError: "), found["fault"]
        assert "odd.parquet" in found["fault"] and "cannot be read" in found["fault"]


def test_every_environment_gauges_alike(pythons: dict[Backend, Path], tmp_path: Path) -> None:
    here = said(sys.executable, _GAUGE, tmp_path / "server")
    assert here["kl"] > 0.01
    for backend, python in pythons.items():
        assert said(python, _GAUGE, tmp_path / backend) == pytest.approx(here, rel=1e-4), backend
