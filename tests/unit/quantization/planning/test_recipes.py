"""Recipes: what they refuse, how they are read, and the fingerprint that exports are cached by."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantization.errors import ExitCode, QuantizationError
from quantization.planning.recipes import Choices, Recipe, build, load

ROOT = Path(__file__).resolve().parents[4]
AWQ: dict[str, Any] = {
    "method": "awq",
    "backend": "llmcompressor",
    "bits": 4,
    "group_size": 128,
    "symmetric": False,
    "ignore": ("lm_head", r"re:.*\.gate$"),
    "dataset": "open_platypus",
    "samples": 256,
    "sequence_length": 512,
}
FP8: dict[str, Any] = {
    "method": "fp8",
    "backend": "llmcompressor",
    "bits": 8,
    "group_size": None,
    "symmetric": True,
    "ignore": ("lm_head",),
}


def recipe(**changes: Any) -> Recipe:
    return build({**AWQ, **changes}, "This recipe")


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    return {
        **AWQ,
        "method": draw(st.sampled_from(["awq", "gptq"])),
        "group_size": draw(st.sampled_from([32, 64, 128, None])),
        "symmetric": draw(st.booleans()),
        "ignore": tuple(draw(st.lists(st.from_regex(r"[a-zé]{1,9}", fullmatch=True), max_size=4))),
        "dataset": draw(st.from_regex(r"[a-zé日]{1,9}", fullmatch=True)),
        "samples": draw(st.integers(1, 1000)),
        "sequence_length": draw(st.integers(16, 8192)),
    }


@given(recipes())
def test_the_fingerprint_depends_on_content_alone(values: dict[str, Any]) -> None:
    expected = build(values, "x").fingerprint
    shuffled = list(values.items())
    random.shuffle(shuffled)
    again = dict(shuffled)
    again["ignore"] = tuple(reversed(values["ignore"])) + values["ignore"][:1]
    assert build(again, "x").fingerprint == expected
    for field, other in {"samples": values["samples"] + 1, "dataset": "another one"}.items():
        assert build({**values, field: other}, "x").fingerprint != expected


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = (
        "import json, sys; from quantization.planning.recipes import build; "
        "values = json.load(sys.stdin); values['ignore'] = tuple(values['ignore']); "
        "print(build(values, 'x').fingerprint)"
    )
    seen = set()
    for seed in ("0", "1", "12345"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            input=json.dumps(AWQ),
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(result.stdout.strip())
    # Written down, so that an export of an older version is found again.
    assert seen == {recipe().fingerprint} == {"78ad37db674eb2ad"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({**AWQ, "bits": 8}, "awq makes 4 bits, not 8"),
        ({**AWQ, "samples": None}, "awq needs dataset, samples and sequence_length"),
        ({**AWQ, "samples": 0}, "samples: "),
        ({**AWQ, "samples": "256"}, "samples: "),
        ({**AWQ, "sequence_length": 3}, "sequence_length: "),
        ({**AWQ, "group_size": 0}, "group_size: "),
        ({**AWQ, "ignore": ("re:(",)}, "is no regular expression"),
        ({**AWQ, "ignore": (" ",)}, "names no layer"),
        ({**AWQ, "dataset": " "}, "dataset: "),
        ({**AWQ, "method": "magic"}, "method: "),
        ({**AWQ, "nonsense": 1}, "nonsense is unknown (there are method, "),
        ({**AWQ, "method": "gptq", "backend": "autoawq"}, "autoawq makes awq, not gptq"),
        ({**AWQ, "backend": "autoawq", "symmetric": True}, "symmetric must be false"),
        ({**FP8, "dataset": "c4"}, "fp8 needs no calibration: leave out dataset"),
        ({**FP8, "symmetric": False}, "fp8 is symmetric"),
        ({**FP8, "group_size": 128}, "fp8 has no groups"),
        ({**FP8, "method": "nvfp4a16", "bits": 4, "group_size": 32}, "groups of 16"),
    ],
)
def test_what_cannot_be(values: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        build(values, "This recipe")
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.message.startswith("This recipe cannot be: ")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_schemes_and_formats() -> None:
    assert (recipe().scheme, recipe().format) == ("W4A16_ASYM", "w4a16")
    assert recipe(symmetric=True).scheme == "W4A16"
    assert recipe(backend="autoawq").format == "awq"
    fp8 = build(FP8, "x")
    assert (fp8.scheme, fp8.format) == ("FP8_DYNAMIC", "fp8")


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.json"])
def test_a_file_may_say_a_part(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("json"):
        path.write_text(json.dumps({"method": "gptq", "ignore": ["lm_head", "a"], "samples": 64}))
    else:
        path.write_text("method: gptq\nignore: [lm_head, a]\nsamples: 64\n")
    assert load(path) == Choices(method="gptq", ignore=("a", "lm_head"), samples=64)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("method: [", "is neither YAML nor JSON"),
        ("- awq", "holds no keys"),
        ("", "holds no keys"),
        ("method: AWQ", "method: "),
        ("bit: 4", "bit is unknown"),
        ("samples: many", "samples: "),
        ("ignore: lm_head", "ignore: "),
    ],
)
def test_a_file_that_cannot_be(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(QuantizationError) as caught:
        load(path)
    assert caught.value.code is ExitCode.USAGE
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="cannot be read"):
        load(tmp_path / "none.yaml")
