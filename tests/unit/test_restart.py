"""`scripts/restart.sh` and what a start remembers for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import last_start
import processes
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Does to its environment what BentoML's supervisor does, to show a name in the list of processes.
SLEEPS = [
    sys.executable,
    "-c",
    "import setproctitle, time; setproctitle.setproctitle('x' * 4000); time.sleep(60)",
]


class Files:
    """Where a start leaves its facts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = folder / "last_start.json"
        self.record = folder / "server.pid"

    def run_with(self, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
        """A server with these variables in its environment."""
        with monkeypatch.context() as patched:
            for name, value in environ.items():
                patched.setenv(name, value)
            processes.start(self.record, self.folder / "server.log", SLEEPS)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    found = Files(tmp_path)
    yield found
    processes.stop(found.record, 0.5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """A server that no test may stop."""
    found = Files(tmp_path_factory.mktemp("running"))
    processes.start(found.record, found.folder / "server.log", SLEEPS)
    yield found
    processes.stop(found.record, 0.5)


def restart(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "restart.sh"), *words],
        env={**kept, "YAP_VENV": sys.prefix, **environ},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


# What is remembered.


def test_what_was_asked_for_comes_back_and_what_is_set_now_wins(files: Files) -> None:
    asked = {
        "CHAT_MODEL": "org/companion",
        "DEPLOY_MODELS": "chat",
        "CHAT_MAX_LEN": "4096",
        "AWQ_NSAMPLES": "64",
        "CUDA_VISIBLE_DEVICES": "1",
        "EDITOR": "ed",
        "PORT": " ",
    }
    last_start.remember(files.facts, "4bit", asked)
    assert last_start.recall(files.facts, files.record, {"CHAT_MAX_LEN": "2048"}) == {
        "QUANTIZE": "4bit",
        "CHAT_MODEL": "org/companion",
        "DEPLOY_MODELS": "chat",
        "AWQ_NSAMPLES": "64",
        "CUDA_VISIBLE_DEVICES": "1",
    }


def test_secrets_are_not_written_down_but_taken_from_the_running_server(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"TEXT_API_KEY": "a-secret-key", "HF_TOKEN": "hf_secretsecret"}
    last_start.remember(files.facts, "", secret)
    written = files.facts.read_text()
    assert "a-secret-key" not in written
    assert "hf_secretsecret" not in written
    assert files.facts.stat().st_mode & 0o777 == 0o600
    with pytest.raises(last_start.Refused, match="set TEXT_API_KEY again"):
        last_start.recall(files.facts, files.record, {})
    files.run_with(monkeypatch, **secret)
    found = last_start.recall(files.facts, files.record, {})
    assert found == {"QUANTIZE": "", **secret}
    assert last_start.recall(files.facts, files.record, {"TEXT_API_KEY": "new"}) == {
        "QUANTIZE": "",
        "HF_TOKEN": "hf_secretsecret",
    }


def test_the_key_that_is_kept_beside_it_need_not_be_given_again(files: Files) -> None:
    (files.folder / "api_key").write_text("the-stored-key\n")
    last_start.remember(files.facts, "", {"TEXT_API_KEY": "the-stored-key"})
    assert last_start.recall(files.facts, files.record, {}) == {"QUANTIZE": ""}
    last_start.remember(files.facts, "", {"TEXT_API_KEY": "another-key"})
    with pytest.raises(last_start.Refused, match="set TEXT_API_KEY again"):
        last_start.recall(files.facts, files.record, {})


def test_without_a_last_start_nothing_comes_back(files: Files) -> None:
    assert last_start.recall(files.facts, files.record, {}) == {}
    files.facts.write_text("{")
    with pytest.raises(last_start.Refused, match="cannot be read"):
        last_start.recall(files.facts, files.record, {})


def test_values_with_blanks_quotes_and_line_ends_survive_the_shell(files: Files) -> None:
    value = "a \"quoted\" 'value'\nof two lines $HOME"
    last_start.remember(files.facts, "8bit", {"CHAT_MODEL": value})
    sources = f"source {ROOT}/scripts/lib/common.sh; source {ROOT}/scripts/lib/launch.sh"
    shown = 'recall_last_start; printf "%s|%s" "$RECALLED_QUANTIZE" "$CHAT_MODEL"'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{sources}; {shown}"],
        env={"PATH": os.environ["PATH"], "YAP_VENV": sys.prefix, "YAP_RUN_DIR": str(files.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"8bit|{value}", done.stderr


# What restart.sh understands and refuses; a server that runs is not stopped for that.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--fast", "unknown option: --fast (known: both, chat, tool, --deploy-mode,"),
        ("everything", "unknown option: everything (known: both, chat"),
        ("--deploy-mode", "--deploy-mode needs a value"),
        ("--deploy-mode all", "--deploy-mode all must be both, chat or tool"),
        ("chat --deploy-mode=tool", "chat and tool contradict each other"),
        ("--chat-model --push-quant", "--chat-model needs a value"),
        ("--chat-model gpt", "--chat-model gpt must be OWNER/NAME on the Hub or a folder"),
        ("--chat-quant 3bit", "--chat-quant 3bit must be 4bit, 8bit, awq, fp8, gptq"),
        ("--quant 4bit --chat-quant 8bit", "4bit and 8bit contradict each other"),
        ("--keep-models --reset-models", "--keep-models and --reset-models contradict"),
        ("--push-quant", "--push-quant uploads what 4bit or 8bit makes"),
        ("--push-quant --chat-quant 4bit", "set HF_AWQ_CHAT_REPO to OWNER/NAME"),
        ("tool --chat-quant 4bit", "4bit is about the chat model"),
    ],
)
def test_what_is_refused_costs_no_running_server(running: Files, words: str, sentence: str) -> None:
    done = restart(*words.split(), YAP_RUN_DIR=str(running.folder), TEXT_API_KEY="a-key-of-eight")
    assert done.returncode != 0
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert processes.status(running.record) == 0


def test_a_setting_that_cannot_be_costs_no_running_server(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.run_with(monkeypatch)
    last_start.remember(files.facts, "", {"CHAT_MAX_LEN": "lots"})
    done = restart(YAP_RUN_DIR=str(files.folder), TEXT_API_KEY="a-key-of-eight")
    assert done.returncode == 1
    assert 'CHAT_MAX_LEN="lots"' in done.stderr
    assert processes.status(files.record) == 0


def test_without_an_environment_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = restart(YAP_VENV=str(tmp_path / "none"), YAP_RUN_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "install it with --install-deps" in done.stderr


SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.sh"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_given_and_does_nothing(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    project = tmp_path / "a project"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "scripts", project / "scripts", ignore=ignored)
    done = subprocess.run(
        ["bash", str(project / "scripts" / name), "--help"],
        env={"PATH": os.environ["PATH"], "YAP_RUN_DIR": str(run)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert f"scripts/{name}" in done.stdout
    assert not run.exists()


# warmup.sh, without a server; with one: tests/e2e/test_warmup_script.py.


def warm_up(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "warmup.sh"), *words],
        env={
            "PATH": os.environ["PATH"],
            "YAP_VENV": sys.prefix,
            "TEXT_API_KEY": "k" * 8,
            **environ,
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("--fast", 2, "unknown option: --fast (known: --server, --limit, --help)"),
        ("--limit soon", 2, "the limit must be 1 to 999999 seconds, not soon"),
        ("--server nowhere", 2, "--server nowhere must be HOST:PORT"),
        ("", 3, "no server that these scripts started runs"),
        ("--server 127.0.0.1:9 --limit 1", 4, "nothing at 127.0.0.1 port 9 was ready in 1 s"),
    ],
)
def test_warming_up_ends_with_a_code_that_says_why_not(
    tmp_path: Path, words: str, code: int, sentence: str
) -> None:
    done = warm_up(*words.split(), YAP_RUN_DIR=str(tmp_path / "a run"))
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_facts_of_a_start_are_plain_json(files: Files) -> None:
    last_start.remember(files.facts, "8bit", {"PORT": "8123", "TEXT_API_KEY": "k"})
    assert json.loads(files.facts.read_text()) == {
        "quantize": "8bit",
        "settings": {"PORT": "8123"},
        "secrets": ["TEXT_API_KEY"],
    }
