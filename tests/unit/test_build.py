"""What goes into a Bento and what stays out, and what scripts/build.sh refuses."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import bento
import pytest
import yaml
from bento import Wanted
from bentoml._internal.bento.build_config import BentoBuildConfig, BentoPathSpec

ROOT = Path(__file__).resolve().parents[2]
BOTH = Wanted("both", "cpu", {"chat": "chat-model:0123", "tool": "classifier:4567"})
PROSE = {"README.md", "LICENSE", "NOTICE"}


def staged(folder: Path, wanted: Wanted = BOTH) -> Path:
    folder.mkdir()
    bento.stage(wanted, folder)
    return folder


def names(folder: Path) -> set[str]:
    """What BentoML takes into the Bento of what is staged."""
    made = yaml.safe_load((folder / "bentofile.yaml").read_text())
    spec = BentoPathSpec(made["include"], [], str(folder))
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in found if spec.includes(name)}


def test_the_code_the_prompts_and_the_licence_go_in_and_nothing_else(tmp_path: Path) -> None:
    found = names(staged(tmp_path / "both"))
    assert {"service.py", "packed.json", "pyproject.toml", "yap/server.py"} <= found
    assert {"prompts/personas/anna.md", "prompts/rules/screenshot.toml"} <= found
    assert found >= PROSE
    roots = {name.partition("/")[0] for name in found}
    own = {"bentofile.yaml", "packed.json", "pyproject.toml", "service.py", *PROSE}
    assert {root for root in roots if not root.endswith(".dist-info")} == own | {"yap", "prompts"}
    assert {Path(name).suffix for name in found if name.startswith("yap/")} == {".py"}
    for path in (ROOT / "yap").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in found


def test_bentoml_takes_the_file_for_either_accelerator() -> None:
    for accelerator in ("cpu", "cuda"):
        made = bento.bentofile(Wanted("chat", accelerator, {"chat": "chat-model:0123"}))
        config = BentoBuildConfig(**made)
        assert [str(model.tag) for model in config.models] == ["chat-model:0123"]
        assert config.labels["accelerator"] == accelerator
        assert config.labels["mode"] == "chat"
        assert config.python.requirements_txt == f"requirements/{accelerator}.txt"
        assert config.python.lock_packages is False
        assert {"TEXT_API_KEY", "HF_TOKEN"}.isdisjoint(env["name"] for env in made["envs"])


def test_the_service_is_told_what_is_packed(tmp_path: Path) -> None:
    told = json.loads((staged(tmp_path / "both") / "packed.json").read_text())
    assert told == {
        "mode": "both",
        "chat_model": "chat-model:0123",
        "tool_model": "classifier:4567",
    }


def test_vllm_finds_the_plugin_in_a_bento(tmp_path: Path) -> None:
    (found,) = distributions(path=[str(staged(tmp_path / "both"))])
    (point,) = found.entry_points
    assert (point.group, point.name) == ("vllm.general_plugins", "yap_orphan_guard")
    assert point.load().__module__ == "yap.chat.guard"
    assert (found.name, found.version) == ("yap", bento.project()["version"])


def test_a_version_is_what_goes_in(tmp_path: Path) -> None:
    first, again = staged(tmp_path / "first"), staged(tmp_path / "again")
    version = bento.version_of(BOTH, first)
    assert version == bento.version_of(BOTH, again)
    assert version.startswith("both-cpu-")
    (again / "prompts" / "personas" / "anna.md").write_text("someone else")
    assert bento.version_of(BOTH, again) != version
    other = Wanted("both", "cpu", {"chat": "chat-model:9999", "tool": "classifier:4567"})
    assert bento.version_of(other, staged(tmp_path / "other", other)) != version


def build(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "build.sh"), *arguments],
        cwd=cwd,
        env=environ | {"YAP_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("fast", "unknown argument: fast"),
        ("--quick", "unknown argument: --quick"),
        ("both chat", "both and chat are two modes"),
        ("4bit 8bit", "4bit and 8bit are two widths"),
        ("--cpu --cuda", "give --cpu or --cuda, not both"),
        ("--chat", "--chat needs a value"),
        ("--export --cpu", "--export needs a value"),
        ("--export bento.zip", "name a file that ends in .tar"),
        ("tool --chat org/chat", "carries no chat model"),
        ("chat --tool org/tool", "carries no classifier"),
        ("tool 8bit", "8bit is about the chat model"),
    ],
)
def test_words_that_build_refuses(words: str, sentence: str) -> None:
    done = build(*words.split())
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ") and sentence in error
    assert done.stdout == ""


def test_build_never_overwrites_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_text("mine")
    done = build("--export", "mine.tar", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/mine.tar exists already" in done.stderr


def test_build_says_what_it_does() -> None:
    done = build("--help")
    assert done.returncode == 0
    for word in ("both", "4bit", "--chat", "--tool", "--cuda", "--export", "BENTOML_HOME"):
        assert word in done.stdout
