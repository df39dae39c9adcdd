"""Headers of safetensors files: what they say, and how they can be damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from quantization.errors import ExitCode, QuantizationError
from quantization.model.tensors import Share, read_header, shares
from tests.unit.quantization.models import safetensors


def test_a_file_that_the_library_wrote(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(
        {
            "a.weight": numpy.zeros((3, 5), numpy.float16),
            "a.bias": numpy.zeros(3, numpy.float32),
            "packed.qweight": numpy.zeros((4, 4), numpy.int32),
        },
        path,
    )
    found = {tensor.name: tensor for tensor in read_header(path, "m")}
    assert found["a.weight"].shape == (3, 5)
    assert (found["a.weight"].count, found["a.weight"].size) == (15, 30)
    assert found["packed.qweight"].module == "packed"
    assert shares(found.values()) == (
        Share("I32", 1, 16, 64),
        Share("F16", 1, 15, 30),
        Share("F32", 1, 3, 12),
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "was cut off (it has 0 bytes)"),
        (b"\x01\x02", "was cut off (it has 2 bytes)"),
        ((0).to_bytes(8, "little"), "is corrupt"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "is corrupt"),
        ((50).to_bytes(8, "little") + b"{}", "not even its header is complete"),
        ((5).to_bytes(8, "little") + b"hello", "its header is not readable"),
        ((2).to_bytes(8, "little") + b"[]", "its header is not readable"),
        ((9).to_bytes(8, "little") + b'{"a": {}}', "its header is not readable"),
    ],
)
def test_what_is_damaged_is_one_sentence(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model-00002-of-00003.safetensors"
    path.write_bytes(content)
    with pytest.raises(QuantizationError) as caught:
        read_header(path, "org/name")
    assert caught.value.code is ExitCode.DAMAGED
    assert caught.value.message.startswith('model-00002-of-00003.safetensors of "org/name" ')
    assert says in caught.value.message
    assert caught.value.message.endswith(": fetch the model again.")


@pytest.mark.parametrize("missing", [1, 100, 400])
def test_a_file_without_its_end(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors(path, {"a.weight": ("BF16", (20, 10))})
    assert read_header(path, "m")[0].size == 400
    size = path.stat().st_size
    os.truncate(path, size - missing)
    with pytest.raises(QuantizationError, match=f"{size - missing:,} of {size:,} bytes") as caught:
        read_header(path, "m")
    assert caught.value.code is ExitCode.DAMAGED


def test_offsets_that_cannot_be(tmp_path: Path) -> None:
    raw = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    with pytest.raises(QuantizationError, match="is corrupt"):
        read_header(path, "m")
