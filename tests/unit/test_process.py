"""Signals, parents and exit codes: each is tried on a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
import uvicorn

from tests.unit.conftest import MakeSettings
from yap import process

ROOT = Path(process.__file__).parents[1]

DRAINS = """
import asyncio, signal, sys
from yap import process

async def drain():
    print("draining", flush=True)
    await asyncio.sleep(0.3)
    if "fails" in sys.argv:
        raise RuntimeError
    print("drained", flush=True)

async def main():
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    if "default" not in sys.argv:
        def stop(signum, frame):
            print("stopped", flush=True)
            loop.call_soon_threadsafe(stopped.set)
        signal.signal(signal.SIGTERM, stop)
    process.drain_on_sigterm(drain)
    print("ready", flush=True)
    await stopped.wait()

asyncio.run(main())
"""
ORPHAN = """
import os, signal, time
from yap import process
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), os._exit(0)))
    process.end_with_arbiter()
    print(os.getpid(), flush=True)
time.sleep(60)
"""
ARBITER = """
import os, signal, sys, time
from yap import process
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
process.expect_startup_failures()
path = os.environ["YAP_STARTUP_FAILURE_FILE"]
print(path, flush=True)
if os.fork() == 0:
    if "fails" in sys.argv:
        process.report_startup_failure("PORT is in use.")
    sys.exit(0)
os.wait()
if "gone" in sys.argv:
    os.unlink(path)
if "fails" in sys.argv:
    time.sleep(10)
"""


@contextmanager
def running(program: str, *args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", program, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


# SIGTERM


def test_a_signal_to_end_is_obeyed_after_the_drain() -> None:
    with running(DRAINS) as child:
        assert line(child) == "ready"
        child.send_signal(signal.SIGTERM)
        assert line(child) == "draining"
        child.send_signal(signal.SIGTERM)  # impatience changes nothing
        out, _ = child.communicate(timeout=5)
        assert out.split() == ["drained", "stopped"]
        assert child.returncode == 0


def test_a_drain_that_fails_does_not_keep_the_process() -> None:
    with running(DRAINS, "fails") as child:
        assert line(child) == "ready"
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=5)
        assert out.split() == ["draining", "stopped"]


def test_where_nobody_handled_the_signal_the_process_ends_after_the_drain() -> None:
    with running(DRAINS, "default") as child:
        assert line(child) == "ready"
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=5)
        assert out.split() == ["draining", "drained"]


# The supervisor


def test_a_worker_whose_supervisor_was_killed_ends() -> None:
    with running(ORPHAN) as supervisor:
        worker = int(line(supervisor))
        time.sleep(0.3)
        assert Path(f"/proc/{worker}").exists()
        supervisor.kill()
        began = time.monotonic()
        assert line(supervisor) == "told to end"
        assert time.monotonic() - began < 3


def test_a_worker_that_cannot_start_ends_the_server_with_its_reason_and_code_1() -> None:
    with running(ARBITER, "fails") as arbiter:
        path = Path(line(arbiter))
        _, err = arbiter.communicate(timeout=8)
        assert arbiter.returncode == 1
        assert "Yap could not start: PORT is in use.\n" in err
        assert "Traceback" not in err
        assert not path.exists()


@pytest.mark.parametrize("args", [(), ("gone",)])
def test_a_server_that_ends_in_peace_says_nothing(args: tuple[str, ...]) -> None:
    with running(ARBITER, *args) as arbiter:
        path = Path(line(arbiter))
        _, err = arbiter.communicate(timeout=8)
        assert (arbiter.returncode, err) == (0, "")
        assert not path.exists()


def test_without_a_place_for_temporary_files_the_start_is_refused_in_words(
    tmp_path: Path,
) -> None:
    missing = str(tmp_path / "missing")
    program = f"import tempfile; tempfile.tempdir = {missing!r}\n" + ARBITER
    with running(program) as arbiter:
        _, err = arbiter.communicate(timeout=8)
        assert arbiter.returncode == 1
        assert err.startswith("Yap could not start: ")
        assert missing in err
        assert "Traceback" not in err


def test_a_failure_without_a_supervisor_is_only_logged() -> None:
    program = "from yap import process; process.report_startup_failure('No model.')"
    with running(program) as worker:
        _, err = worker.communicate(timeout=8)
        assert worker.returncode == 0
        assert "No model." in err


def test_a_refused_start_has_a_reason_and_code_1() -> None:
    program = "from yap import process; process.refuse_to_start('PORT is in use.')"
    with running(program) as arbiter:
        _, err = arbiter.communicate(timeout=8)
        assert (arbiter.returncode, err) == (1, "Yap could not start: PORT is in use.\n")


# Where to listen, and how


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({}, ("127.0.0.2", 8100)),
        ({"host": None, "port": None}, ("127.0.0.2", 8100)),
        ({"host": "127.0.0.3", "port": None}, ("127.0.0.3", 8100)),
        ({"host": None, "port": 9000}, ("127.0.0.2", 9000)),
    ],
)
def test_options_of_the_command_line_win_over_the_settings(
    make_settings: MakeSettings, options: dict[str, object], address: tuple[str, int]
) -> None:
    settings = make_settings(host="127.0.0.2", port=8100)
    with click.Context(click.Command("serve")) as context:
        context.params = options
        assert process.bind_address(settings) == address


def test_without_a_command_line_the_settings_say_where_to_listen(
    make_settings: MakeSettings,
) -> None:
    assert process.bind_address(make_settings(port=8100)) == ("127.0.0.1", 8100)


def test_websockets_are_limited_as_the_settings_say(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn, "Config", uvicorn.Config)  # put back afterwards
    process.bound_connections(make_settings(ws_max_frame_bytes=2048))
    config = uvicorn.Config("service:app")
    assert config.ws_max_size == 2048
    assert config.ws_per_message_deflate is False


@pytest.mark.parametrize(("asked", "seconds"), [(None, process._SHUTDOWN_S), (30, 30)])
def test_a_client_that_does_not_read_cannot_keep_the_worker_from_ending(
    asked: int | None,
    seconds: int,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uvicorn, "Config", uvicorn.Config)  # put back afterwards
    process.bound_connections(make_settings())
    config = uvicorn.Config("service:app", timeout_graceful_shutdown=asked)  # None, as BentoML does
    assert config.timeout_graceful_shutdown == seconds
