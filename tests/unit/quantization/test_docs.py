"""docs/quantization.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from quantization.planning.methods import METHODS
from quantization.planning.recipes import Choices
from quantization.serving.formats import FORMATS, Format

DOC = Path(__file__).resolve().parents[3] / "docs" / "quantization.md"


def gpus(format_: Format) -> str:
    return ", ".join(f"{least[0]}.{least[1]} {kernel or 'none'}" for least, kernel in format_.gpu)


def cpu(format_: Format) -> str:
    if format_.cpu:
        return f"{format_.cpu}; {format_.slow_on_cpu}" if format_.slow_on_cpu else format_.cpu
    return f"with AMX only: {format_.cpu_amx}" if format_.cpu_amx else f"no: {format_.no_cpu}"


def table() -> str:
    rows = ["| name | format | bits | GPUs | CPU |", "|---|---|---|---|---|"]
    rows += [
        f"| `{one.name}` | {one.title} | {one.bits or 'several'} | {gpus(one)} | {cpu(one)} |"
        for one in FORMATS.values()
    ]
    return "\n".join(rows)


def test_the_table_of_formats() -> None:
    assert table() in DOC.read_text()


def test_methods_and_keys() -> None:
    text = DOC.read_text()
    for name, method in METHODS.items():
        assert f"`{name}`" in text
        assert f"`{method.scheme}`" in text
    example = text.partition("```yaml\n")[2].partition("```")[0]
    keys = {line.partition(":")[0] for line in example.splitlines()}
    assert keys == Choices.model_fields.keys() - {"bits"}
