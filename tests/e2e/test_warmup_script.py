"""`scripts/warmup.sh` against the real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import API_KEY, ROOT, ServerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


def warm_up(server: ServerProcess, folder: Path, key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "warmup.sh"), "--server", server.address, "--limit", "120"],
        env={
            "PATH": os.environ["PATH"],
            "YAP_VENV": sys.prefix,
            "YAP_RUN_DIR": str(folder),
            "TEXT_API_KEY": key,
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_turn_is_answered_and_the_figures_are_kept(
    server: ServerProcess, tmp_path: Path
) -> None:
    done = warm_up(server, tmp_path, API_KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warm: every turn was answered" in done.stdout
    assert "8 completed, 0 cancelled, 0 failed" in (tmp_path / "warmup.log").read_text()
    (load,) = json.loads((tmp_path / "warmup.json").read_text())["loads"]
    assert load


def test_turns_that_fail_are_told_by_the_exit_code(server: ServerProcess, tmp_path: Path) -> None:
    done = warm_up(server, tmp_path, "not-the-key")
    assert done.returncode == 1
    assert "failed: first turns; 8 turns, 2 at a time; see above" in done.stderr
