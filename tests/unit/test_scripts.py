"""What the scripts promise: stopping exactly what was started, refusing in one sentence."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import launch_facts
import pip_settings
import processes
import pytest
import wait_ready

ROOT = Path(__file__).resolve().parents[2]

# Behaves as BentoML does: a leader, and a worker in a session of its own that has a child.
TREE = """
import subprocess, sys, time
child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; "
child += "time.sleep(60)'], env={}); print('up', flush=True); time.sleep(60)"
worker = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
"""
WAITS = TREE + "time.sleep(60)"
ENDS_ITS_WORKER = TREE + (
    "import signal\n"
    "def end(*_):\n"
    "    subprocess.run(['kill', '-9', '--', f'-{worker.pid}'])\n"
    "    sys.exit()\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "time.sleep(60)"
)
IGNORES_SIGTERM = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\n"
    "time.sleep(60)"
)


class Server:
    """A server started through ``processes.start``, with its files."""

    def __init__(self, folder: Path) -> None:
        self.record_path = folder / "server.pid"
        self.log = folder / "server.log"

    def start(self, program: str, *, until: str = "up") -> processes.Record:
        record = processes.start(self.record_path, self.log, [sys.executable, "-c", program])
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if self.log.exists() and until in self.log.read_text():
                break
            time.sleep(0.02)
        return record

    def stop(self, drain_s: float = 5.0) -> int:
        return processes.stop(self.record_path, drain_s)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(processes, "AFTER_KILL_S", 1.0)
    server = Server(tmp_path)
    yield server
    server.stop(drain_s=0.1)


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def members(record: processes.Record) -> int:
    """How many processes the server has, beside those that write its log."""
    return sum(not processes.writes_log(process) for process in processes.belonging(record))


def bash(script: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash in the repository with the scripts' libraries loaded."""
    sources = "; ".join(
        f"source {ROOT}/scripts/lib/{name}.sh" for name in ("common", "arguments", "launch")
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{sources}; {script}"],
        env=kept | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        cwd=ROOT,
    )


def run_script(name: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = f'exec bash scripts/{name} "$@"'
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", "-c", command, name, *arguments],
        env=kept | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        cwd=ROOT,
    )


# Starting and stopping.


def test_stop_ends_the_whole_tree_and_nothing_else(
    server: Server, stranger: "subprocess.Popen[bytes]"
) -> None:
    record = server.start(ENDS_ITS_WORKER)
    assert processes.status(server.record_path) == 0
    assert members(record) == 3
    assert server.stop() == 0
    assert processes.belonging(record) == set()
    assert not server.record_path.exists()
    assert stranger.poll() is None


def test_what_ignores_sigterm_is_killed_after_the_drain(server: Server) -> None:
    record = server.start(IGNORES_SIGTERM)
    begun = time.monotonic()
    assert server.stop(drain_s=0.5) == 0
    assert 0.4 < time.monotonic() - begun < 3
    assert processes.leader(record) is None


def test_workers_of_a_killed_server_are_still_found(server: Server) -> None:
    record = server.start(WAITS)
    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)
    assert processes.status(server.record_path) == 4
    assert members(record) == 2
    assert server.stop() == 0
    assert processes.belonging(record) == set()


@pytest.mark.parametrize("other", ["start", "boot"])
def test_a_reused_process_id_is_not_touched(
    server: Server, stranger: "subprocess.Popen[bytes]", other: str
) -> None:
    present = processes.read_process(stranger.pid)
    assert present is not None
    start = present.start - 1 if other == "start" else present.start
    boot = "another-boot" if other == "boot" else processes.boot_id()
    processes.Record(stranger.pid, start, boot, "0123456789abcdef").write(server.record_path)
    assert processes.status(server.record_path) == 3
    assert server.stop() == 0
    assert stranger.poll() is None


@pytest.mark.parametrize("text", ["", "garbage", "1 2 3", "x 1 boot run"])
def test_a_damaged_record_counts_as_not_running(server: Server, text: str) -> None:
    server.record_path.write_text(text)
    assert server.stop() == 0
    assert not server.record_path.exists()


def test_stop_script_says_when_nothing_runs(tmp_path: Path) -> None:
    done = run_script("stop.sh", YAP_RUN_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "Yap is not running.\n")


# Waiting until it is ready.


class Readiness(BaseHTTPRequestHandler):
    """Answers 503 twice, then 200, as a server does that is loading its models."""

    answers: Iterator[int]

    def do_GET(self) -> None:
        self.send_response(next(self.answers))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ready_port() -> Iterator[int]:
    Readiness.answers = iter([503, 503, *[200] * 50])
    with ThreadingHTTPServer(("127.0.0.1", 0), Readiness) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield listener.server_port
        listener.shutdown()
        thread.join()


def wait(server: Server, record: processes.Record, port: int, limit_s: float = 5.0) -> int:
    return wait_ready.wait(record, "127.0.0.1", port, server.log, limit_s)


def test_waiting_ends_when_readyz_answers_200(
    server: Server, ready_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(server, server.start(WAITS), ready_port) == 0
    assert "ready after" in capsys.readouterr().out


def test_a_server_that_ends_is_noticed_with_its_own_sentence(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "Yap could not start: PORT is wrong."
    record = server.start(f"print('{sentence}'); raise SystemExit(1)", until=sentence)
    assert wait(server, record, port=1) == 3
    assert "error: Yap could not start: PORT is wrong." in capsys.readouterr().err


def test_a_worker_that_ends_is_noticed_though_its_server_lives(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_ready, "LAST_WORDS_S", 0.1)
    record = server.start(TREE + "time.sleep(0.8); worker.kill(); worker.wait(); time.sleep(60)")
    assert wait(server, record, port=1) == 3
    assert "worker ended" in capsys.readouterr().err


def test_the_deadline_is_kept(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert wait(server, server.start(WAITS), port=1, limit_s=0.5) == 4
    assert "START_TIMEOUT_S=0.5" in capsys.readouterr().err


def test_ctrl_c_while_starting_leaves_nothing_running(server: Server, tmp_path: Path) -> None:
    record = server.start(ENDS_ITS_WORKER)
    libraries = "; ".join(f"source {ROOT}/scripts/lib/{name}.sh" for name in ("common", "launch"))
    files = f"RUN_DIR={tmp_path} RECORD={server.record_path} LOG_FILE={server.log}"
    starting = subprocess.Popen(
        ["bash", "-c", f"{libraries}; {files} PROBE_HOST=127.0.0.1 PORT=1; await_server"],
        env=os.environ | {"YAP_VENV": sys.prefix},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert starting.stdout is not None
    assert "starting the server" in starting.stdout.readline()
    os.killpg(starting.pid, signal.SIGINT)
    out, _ = starting.communicate(timeout=10)
    assert "Stopped in" in out
    assert starting.returncode == 130
    assert processes.belonging(record) == set()


# What main.sh understands and refuses.

SHOW = 'echo "$QUANTIZE|${DEPLOY_MODELS:-}|${CHAT_MODEL:-}|${TOOL_MODEL:-}|$FOLLOW"'


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("", "||||yes"),
        ("--no-follow", "||||no"),
        ("8bit chat org/chat", "8bit|chat|org/chat||yes"),
        ("fp8 both org/chat org/screen", "8bit|both|org/chat|org/screen|yes"),
        ("awq org/chat org/screen both", "4bit|both|org/chat|org/screen|yes"),
        ("tool org/screen", "|tool||org/screen|yes"),
        ("models --no-push-quant", f"||{ROOT}/models||yes"),
    ],
)
def test_words_of_main(words: str, shown: str) -> None:
    done = bash(f"read_arguments {words}; {SHOW}")
    assert done.stdout.strip() == shown, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--fast", "unknown argument: --fast"),
        ("gpt", "unknown argument: gpt"),
        ("a/b c/d e/f", "more than two models"),
        ("chat a/b c/d", "serves one model"),
        ("a/b --follow", "unknown argument: --follow"),
    ],
)
def test_words_that_main_refuses(words: str, sentence: str, tmp_path: Path) -> None:
    done = run_script("main.sh", *words.split(), YAP_RUN_DIR=str(tmp_path / "run"))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_two_starts_at_once_are_kept_apart(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_script("main.sh", "--no-follow", YAP_RUN_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "another scripts/main.sh" in done.stderr


def test_main_refuses_while_the_server_runs(server: Server, tmp_path: Path) -> None:
    record = server.start(WAITS)
    done = run_script("main.sh", "--no-follow", YAP_RUN_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Yap runs already (process {record.pid})")


def test_the_api_key_is_made_once_kept_private_and_reused(tmp_path: Path) -> None:
    line = 'prepare_api_key; echo "key=$TEXT_API_KEY"'
    environ = {"YAP_RUN_DIR": str(tmp_path), "YAP_VENV": sys.prefix}
    first, second = bash(line, **environ), bash(line, **environ)
    key = (tmp_path / "api_key").read_text().strip()
    assert len(key) >= 32
    assert (tmp_path / "api_key").stat().st_mode & 0o777 == 0o600
    assert first.stdout.endswith(f"{key}\nkey={key}\n")
    assert second.stdout == f"key={key}\n"
    given = bash(line, TEXT_API_KEY="given-key", **environ)
    assert given.stdout == "key=given-key\n"


def test_logs_of_earlier_runs_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    for number in range(5):
        bash("rotate_log", YAP_LOG_FILE=str(log))
        log.write_text(f"run {number}")
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["server.log", "server.log.1", "server.log.2", "server.log.3"]
    assert (tmp_path / "server.log.3").read_text() == "run 1"


def test_a_port_in_use_is_refused_by_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(launch_facts.Refused, match=f"port {port} on 127.0.0.1 is in use"):
            launch_facts.check_port("127.0.0.1", port)
    launch_facts.check_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        (None, 16),
        ({"quant_method": "awq", "bits": 4}, 4),
        ({"quant_method": "gptq", "bits": 8}, 8),
        ({"quant_method": "fp8"}, 8),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 4}}}}, 4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4),
    ],
)
def test_bits_of_a_checkpoint(quantization: dict[str, object] | None, bits: int) -> None:
    config = {"quantization_config": quantization} if quantization else {}
    assert launch_facts.weight_bits(config) == bits


# Installing.


def test_pip_settings_are_read_as_pip_ranks_them() -> None:
    listing = "\n".join(
        [
            ":env:.find-links='/from/environment'",
            "global.find-links='/from/file\\n/and/another'",
            "global.index-url='https://index.invalid/simple'",
            "global.extra-index-url='https://extra.invalid/simple'",
            "install.proxy='http://proxy.invalid'",
        ]
    )
    assert pip_settings.read_settings(listing) == {
        "index-url": "https://index.invalid/simple",
        "find-links": "/from/environment",
        "proxy": "http://proxy.invalid",
    }
    assert pip_settings.read_settings("global.find-links='/a /b'") == {"find-links": "/a,/b"}


def test_too_little_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    done = run_script(
        "install.sh",
        "cpu",
        YAP_VENV=str(venv),
        YAP_RUN_DIR=str(tmp_path / "run"),
        YAP_MIN_FREE_MB="999999999",
    )
    assert done.returncode == 1
    assert "needs 999999999 MB of free disk" in done.stderr
    assert not venv.exists()


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    done = run_script(
        "install.sh", "clients", YAP_VENV=str(tmp_path), YAP_RUN_DIR=str(tmp_path / "run")
    )
    assert done.returncode == 1
    assert "is not a virtual environment" in done.stderr
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    ("script", "words", "known"),
    [
        ("install.sh", "gpu", "cpu, cuda, clients, --dev, --help"),
        ("lock.sh", "--all", "--upgrade, --check, --help"),
        ("check.sh", "ruff", "--help"),
    ],
)
def test_an_unknown_argument_is_refused_in_one_sentence(
    script: str, words: str, known: str
) -> None:
    done = run_script(script, words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: unknown argument: {words} (known: {known})\n"


def test_locks_are_checked_or_upgraded_but_not_both() -> None:
    done = run_script("lock.sh", "--check", "--upgrade")
    assert done.returncode == 1
    assert done.stderr == "error: --upgrade and --check go alone, not with --upgrade\n"


@pytest.mark.parametrize("name", ["generate_asyncapi.py", "generate_config_docs.py"])
def test_the_help_of_a_generator_keeps_its_lines(name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"scripts/{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert f"\npython scripts/{name} [--check]\n" in done.stdout


# What a phase of a start is called while it is waited for.


def test_the_chat_engine_is_spoken_of_where_there_is_one(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    reader = wait_ready.LogReader(log)
    log.write_text("Running startup hook\nScreen classifier models/x is loaded\n")
    reader.look()
    assert reader.phase == "loading the models"
    with log.open("a") as more:
        more.write("The chat engine runs on 2 cores: 1 GiB\n")
    reader.look()
    assert reader.phase == "starting the chat engine"
