"""`scripts/stop.sh` removes what the project made, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import subprocess
from pathlib import Path

import cleaning
import pytest

ROOT = Path(__file__).resolve().parents[2]
UNFINISHED = ".cache/quantization/work"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder, with a space in its name, after some use."""
    root = tmp_path / "a project"
    shutil.copytree(
        ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in (
        ".venv/lib/torch.so",
        ".venv/.yap-variant",
        ".cache/quantization/exports/companion/model.safetensors",
        f"{UNFINISHED}/one/run.json",
        ".cache/quantization/environments/awq/environment.json",
        ".run/api_key",
        ".run/bentoml/bentos/yap/bento.yaml",
        ".run/bentoml/prometheus_multiproc_dir/1.db",
        ".mypy_cache/one.json",
        "yap/__pycache__/app.pyc",
        "yap/app.py",
        "prompts/anna.md",
        "server.log",
        "server.log.2",
        "server.log.notes",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10_000)
    return root


def stop(project: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(project / "scripts" / "stop.sh"), *words],
        env={"PATH": os.environ["PATH"], "HOME": str(project.parent / "home"), **environ},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def clean(project: Path, *kinds: str, **environ: str) -> str:
    """What it prints; without a process for each."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        home = {"HOME": str(project.parent / "home")}
        assert cleaning.clean(project, kinds, home | environ, dry_run=False) == 0
    return printed.getvalue()


def there(project: Path) -> set[str]:
    """Names of files, without the scripts."""
    files = (path for path in project.rglob("*") if path.is_file() or path.is_symlink())
    return {str(path.relative_to(project)) for path in files if "scripts" not in path.parts}


KEPT = {"yap/app.py", "prompts/anna.md", "server.log.notes"}


def test_by_default_nothing_is_removed(project: Path) -> None:
    before = there(project)
    done = stop(project)
    assert (done.returncode, done.stdout) == (0, "Yap is not running.\n")
    assert there(project) == before


def test_all_removes_everything_that_was_made_and_prints_it_first(project: Path) -> None:
    done = stop(project, "--all")
    assert done.returncode == 0, done.stderr
    assert there(project) == KEPT
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["the", "Python", "environment"] in [line[3:] for line in lines if line[0] == ".venv"]
    assert lines[-1][:2] == ["in", "all"]
    assert float(lines[-1][2]) > 100  # kilobytes


def test_each_word_removes_its_own(project: Path) -> None:
    before = there(project)
    clean(project, "caches")
    assert before - there(project) == {
        f"{UNFINISHED}/one/run.json",
        ".run/bentoml/prometheus_multiproc_dir/1.db",
        ".mypy_cache/one.json",
        "yap/__pycache__/app.pyc",
    }
    before = there(project)
    clean(project, "models")
    assert before - there(project) == {".cache/quantization/exports/companion/model.safetensors"}
    before = there(project)
    clean(project, "environment")
    assert before - there(project) == {
        ".venv/lib/torch.so",
        ".venv/.yap-variant",
        ".cache/quantization/environments/awq/environment.json",
    }


def test_nuke_all_is_understood(project: Path) -> None:
    before = there(project)
    assert stop(project, NUKE_ALL="0").returncode == 0
    assert there(project) == before
    bad = stop(project, NUKE_ALL="yes")
    assert (bad.returncode, bad.stderr) == (1, "error: NUKE_ALL=yes must be 0 or 1\n")
    assert stop(project, "--caches", NUKE_ALL="1").returncode == 0  # what is said wins
    assert ".run/api_key" in there(project)
    assert stop(project, NUKE_ALL="1").returncode == 0
    assert there(project) == KEPT


def test_a_dry_run_only_prints(project: Path) -> None:
    before = there(project)
    done = stop(project, "--all", "--dry-run")
    assert "Would remove:" in done.stdout
    assert ".venv" in done.stdout
    assert there(project) == before
    assert stop(project, "--dry-run").returncode == 1


def test_what_a_link_puts_elsewhere_stays(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(project / ".venv", elsewhere)
    (project / ".venv").symlink_to(elsewhere)
    shutil.move(project / ".cache", tmp_path / "cache")
    (project / ".cache").symlink_to(tmp_path / "cache")
    (project / ".run" / "home").symlink_to(tmp_path)  # inside what is removed: the link goes alone
    printed = clean(project, "all")
    assert printed.count("a link leads from there to somewhere else") == 5
    assert (elsewhere / "lib" / "torch.so").exists()
    assert (tmp_path / "cache" / "quantization" / "exports" / "companion").exists()
    assert not (project / ".run").exists()


def test_what_a_variable_puts_elsewhere_stays(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name in ("vllm", "hub", "exports"):
        (other / name).mkdir(parents=True)
        (other / name / "large").touch()
    (tmp_path / "server.log").touch()
    printed = clean(
        project,
        "all",
        CHAT_CACHE_DIR=str(other),
        HF_HOME=str(other),
        YAP_QUANTIZATION_DIR=str(other),
        YAP_LOG_FILE=str(tmp_path / "server.log"),
        YAP_VENV=str(project / ".." / "other"),
    )
    assert printed.count("it is outside this project's folder") == 5
    assert len(list(other.rglob("large"))) == 3
    assert (tmp_path / "server.log").exists()


@pytest.mark.parametrize("name", [".", "..", "yap/..", "../a project", "../a projectile"])
def test_the_project_itself_and_its_surroundings_are_never_removed(
    project: Path, name: str
) -> None:
    assert cleaning.reason_to_leave(project, project / name) != ""


def test_a_folder_of_the_projects_that_a_cache_setting_names_is_not_emptied(project: Path) -> None:
    clean(project, "all", CHAT_CACHE_DIR=str(project))
    assert there(project) == KEPT


def test_an_environment_that_was_not_made_here_stays(project: Path) -> None:
    (project / ".venv" / ".yap-variant").unlink()
    assert "was not made by scripts/install.sh" in clean(project, "environment")
    assert (project / ".venv" / "lib" / "torch.so").exists()


def test_a_repository_and_a_mounted_file_system_stay(project: Path) -> None:
    (project / ".cache" / "quantization" / "work" / ".git").mkdir()
    assert "repository" in cleaning.reason_to_leave(project, project / ".cache/quantization/work")
    assert "mounted" in cleaning.reason_to_leave(Path("/"), Path("/proc"))


def test_nothing_is_removed_under_a_start(project: Path) -> None:
    with (project / ".run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = stop(project, "--all")
    assert done.returncode == 1
    assert "is being started right now" in done.stderr
    assert (project / ".run" / "api_key").exists()


def test_an_unknown_word_is_refused_with_those_that_are_known(project: Path) -> None:
    done = stop(project, "--everything")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: unknown argument: --everything (known: --caches, --models"
    )
    assert done.stderr.count("\n") == 1
