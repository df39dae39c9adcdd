"""The packages of `quantization`, as its docstring lists them, import in one direction."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import quantization

ROOT = Path(quantization.__file__).parent
# From the top to the bottom.
ORDER = re.findall(r"^    ([a-z]+)  +\S", quantization.__doc__ or "", re.MULTILINE)
FRONT = ("__init__", "__main__", "cli")
LEAVES = ("errors", "home", "digests", "writing", "units")


def part_of(module: str) -> str:
    """The package or top module that a dotted name of `quantization` belongs to."""
    return module.split(".")[1]


def imported(path: Path) -> Iterator[str]:
    """The parts that a file imports, also where it does so late or for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "quantization":
            names = [f"quantization.{name.name}" for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names = [node.module or ""]
        else:
            continue
        yield from (part_of(name) for name in names if name.startswith("quantization."))


def test_the_map_names_every_package_and_module() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == packages
    assert {path.stem for path in ROOT.glob("*.py")} == {*FRONT, *LEAVES}


def test_packages_import_only_from_below() -> None:
    upwards = [
        f"{path.relative_to(ROOT)} imports {part}"
        for place, package in enumerate(ORDER)
        for path in (ROOT / package).rglob("*.py")
        for part in imported(path)
        if part not in (*ORDER[place:], *LEAVES)
    ]
    assert upwards == []


def test_leaves_import_no_package() -> None:
    for name in LEAVES:
        assert set(imported(ROOT / f"{name}.py")) <= set(LEAVES)
