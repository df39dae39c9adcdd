"""A Bento is all that is needed: built, written to a file, imported elsewhere, served offline."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ROOT, ServerProcess
from tests.e2e.offline import bentoml
from tests.e2e.talk import kinds

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]

CHAT, TOOL = "yap-chat-demo", "yap-screen-demo"
CARRIED = {"both": {CHAT, TOOL}, "chat": {CHAT}, "tool": {TOOL}}
WEBSOCKET = {
    "both": ["ack", "toolcall", "token", "final", "done"],
    "chat": ["ack", "token", "final", "done"],
    "tool": ["ack", "toolcall", "final", "done"],
}
OFFLINE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree in a folder with blanks in its name, with the environment that is there."""
    copy = tmp_path_factory.mktemp("some where") / "a checkout"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "server.log*", "training")
    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / "scripts" / "install.sh").write_text("exit 0\n")
    return copy


def build(checkout: Path, store: Path, *arguments: str) -> str:
    """Run scripts/build.sh from another directory; what it printed."""
    done = subprocess.run(
        ["bash", str(checkout / "scripts" / "build.sh"), "--cpu", *arguments],
        cwd=store.parent,
        env=os.environ | {"BENTOML_HOME": str(store), "YAP_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def serve_offline(home: Path, file: Path, mode: str) -> dict[str, Any]:
    """What `tests/e2e/offline.py` saw."""
    done = subprocess.run(
        [*OFFLINE, sys.executable, "-m", "tests.e2e.offline", str(home), str(file), mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize("mode", ["both", "chat", "tool"])
def test_a_bento_serves_from_a_file_in_an_empty_home_without_a_network(
    mode: str, checkout: Path, tmp_path: Path
) -> None:
    if subprocess.run([*OFFLINE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace can be made here")
    file = tmp_path / "a bento.tar"
    if mode == "both":  # as BentoML writes it, and as the script does
        tag = build(checkout, tmp_path / "bentoml", mode).splitlines()[-1]
        bentoml(tmp_path, "export", tag, str(file))
    else:
        out = build(checkout, tmp_path / "bentoml", mode, "--export", file.name)
        tag = out.splitlines()[-1]
    with tarfile.open(file) as bento:
        files = bento.getnames()
    weights = [name for name in files if name.endswith(".safetensors")]
    assert {part for name in weights for part in Path(name).parts} & {CHAT, TOOL} == CARRIED[mode]
    assert len(weights) == len(CARRIED[mode])
    shutil.rmtree(tmp_path / "bentoml")

    home = tmp_path / "home"
    home.mkdir()
    seen = serve_offline(home, file, mode)
    assert not seen["network"]
    assert seen["tag"] == tag
    assert {model.partition(":")[0] for model in seen["models"]} == CARRIED[mode]
    assert kinds(seen["websocket"]) == WEBSOCKET[mode]
    if mode != "tool":
        assert seen["chat"]["status"] == 200
        assert seen["chat"]["frames"][-1]["type"] == "done"
        assert f"Chat model {home}/bentoml/models/{CHAT}/" in seen["log"]
    if mode != "chat":
        assert seen["classify"]["status"] == 200
        assert seen["classify"]["answer"]["status"] == "yes"
    assert seen["exit"] == 0
    refuses_another_mode(home, tag, "tool" if mode == "chat" else "chat", mode)


def refuses_another_mode(home: Path, tag: str, asked: str, carried: str) -> None:
    """What is not in the Bento is refused before anything starts; both carries everything."""
    if carried == "both":
        return
    store = str(home / "bentoml")
    server = ServerProcess(home, tag, DEPLOY_MODELS=asked, BENTOML_HOME=store)
    try:
        assert server.wait_exit() == 1
        assert f"DEPLOY_MODELS={asked} needs the" in server.tail()
    finally:
        server.destroy()


def test_the_same_sources_and_models_are_built_once(checkout: Path, tmp_path: Path) -> None:
    first = build(checkout, tmp_path / "bentoml", "tool").splitlines()[-1]
    again = build(checkout, tmp_path / "bentoml", "tool").splitlines()[-1]
    assert again == f"{first} (was built already)"
    (made,) = (tmp_path / "bentoml" / "bentos" / "yap-server").glob("tool-cpu-*")
    for lost in ("src/yap/server.py", "bento.yaml"):  # as a build that was killed leaves it
        (made / lost).unlink()
        assert build(checkout, tmp_path / "bentoml", "tool").splitlines()[-1] == first
        assert (made / lost).is_file()
    persona = checkout / "prompts" / "personas" / "anna.md"
    persona.write_text(persona.read_text() + "She likes rain.\n")
    assert build(checkout, tmp_path / "bentoml", "tool").splitlines()[-1] not in (first, again)


def test_a_disk_that_fills_up_leaves_no_half_file(checkout: Path, tmp_path: Path) -> None:
    build(checkout, tmp_path / "bentoml", "tool")
    script = shlex.quote(str(checkout / "scripts" / "build.sh"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 8000; bash {script} tool --cpu --export bento.tar"],
        cwd=tmp_path,
        env=os.environ | {"BENTOML_HOME": str(tmp_path / "bentoml"), "YAP_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "bento.tar cannot be written (File too large)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bentoml"]
