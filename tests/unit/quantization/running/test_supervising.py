"""Workers: their events, their bars, how they fail, hang and end; the steps that they leave."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from quantization.errors import ExitCode, QuantizationError
from quantization.planning.methods import METHODS
from quantization.planning.recipes import Recipe
from quantization.running import state, supervising
from quantization.running.display import Display
from quantization.running.supervising import Command, Event, supervise
from quantization.worker import job as jobs
from quantization.worker.job import Job

SAYS = "import json, sys; say = lambda **e: print(json.dumps(e), flush=True)\n"


def command(tmp_path: Path, code: str, **changes: Any) -> Command:
    values: dict[str, Any] = {
        "arguments": [sys.executable, "-c", SAYS + code],
        "log": tmp_path / "log.txt",
        "environ": supervising.environment(),
        "name": "a worker",
    }
    return Command(**{**values, **changes})


def events_of(tmp_path: Path, code: str) -> list[Event]:
    found: list[Event] = []
    supervise(command(tmp_path, code), found.append)
    return found


def failure(tmp_path: Path, code: str, **changes: Any) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        supervise(command(tmp_path, code, **changes), lambda _: None)
    assert "\n" not in caught.value.message
    return caught.value


def runs(pid: int) -> bool:
    """Whether a process works; one that nobody has collected yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_events_come_in_order_and_the_rest_is_logged(tmp_path: Path) -> None:
    code = (
        "say(event='start', step='a'); print('chatter'); say(step='a', done=1, total=2)\n"
        "print('noise', file=sys.stderr); say(event='done', step='a', result={'n': 1})"
    )
    assert events_of(tmp_path, code) == [
        {"event": "start", "step": "a"},
        {"event": "progress", "step": "a", "done": 1, "total": 2},
        {"event": "done", "step": "a", "result": {"n": 1}},
    ]
    log = (tmp_path / "log.txt").read_text()
    assert "chatter" in log
    assert "noise" in log


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("(1/7): Calibrating:  50%|####", 0.25 / 7),
        ("(3/7): Calibrating:   0%|", 2 / 7),
        ("(3/7): Propagating: 100%|####", 3 / 7),
        ("AWQ:  25%|##", 0.25),
        ("Quantizing: 100%|####", 1.0),
        ("Smoothing:  50%|##", None),
        ("100%|####", None),
    ],
)
def test_bars_of_libraries(line: str, share: float | None) -> None:
    found = supervising._share(line)
    assert found == (pytest.approx(share) if share is not None else None)


def test_bars_become_progress(tmp_path: Path) -> None:
    code = "sys.stderr.write('\\rQuantizing:  50%|#\\rQuantizing: 100%|##\\n')"
    assert events_of(tmp_path, code) == [
        {"event": "progress", "step": "quantize", "done": 500, "total": 1000},
        {"event": "progress", "step": "quantize", "done": 1000, "total": 1000},
    ]


@pytest.mark.parametrize(
    ("code", "says", "exit_code"),
    [
        ("raise SystemExit(3)", "a worker ended with status 3", ExitCode.FAILED),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "most likely because the machine ran out of memory",
            ExitCode.FAILED,
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "was ended by SIGSEGV",
            ExitCode.FAILED,
        ),
        (
            "say(event='error', message='Take another.', code=6); sys.exit(1)",
            "Take another.",
            ExitCode.DAMAGED,
        ),
        (
            "say(event='error', message='OSError: No space left', code=10, bare=True); sys.exit(1)",
            "The disk is full while a worker works",
            ExitCode.NO_ROOM,
        ),
        (
            "say(event='error', message='CUDA out of memory', code=10, bare=True); sys.exit(1)",
            "ran out of memory (CUDA out of memory)",
            ExitCode.NO_ROOM,
        ),
        (
            "say(event='error', message='KeyError: x', code=8, bare=True); sys.exit(1)",
            "a worker failed (KeyError: x); its log is",
            ExitCode.FAILED,
        ),
    ],
)
def test_each_failure_is_a_sentence(
    tmp_path: Path, code: str, says: str, exit_code: ExitCode
) -> None:
    error = failure(tmp_path, code)
    assert says in error.message
    assert error.code is exit_code
    if "Take" not in says:
        assert str(tmp_path / "log.txt") in error.message


def test_a_hung_worker_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_TICK_S", 0.05)
    monkeypatch.setattr(supervising, "_LOOK_S", 0.05)
    pids = tmp_path / "pids"
    code = (
        "import subprocess, time, os\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)"
    )
    error = failure(tmp_path, code, stall_s=1.5)
    assert "gave no sign of life" in error.message
    assert not [pid for pid in map(int, pids.read_text().split()) if runs(pid)]


def test_a_worker_that_only_computes_is_not_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_TICK_S", 0.05)
    monkeypatch.setattr(supervising, "_LOOK_S", 0.05)
    code = "import time\nwhile time.process_time() < 1.5: pass"
    supervise(command(tmp_path, code, stall_s=1.2), lambda _: None)


def test_an_interrupted_run_ends_its_worker(tmp_path: Path) -> None:
    pids: list[int] = []

    def on_event(event: Event) -> None:
        pids.append(event["pid"])
        raise KeyboardInterrupt

    code = "import os, time\nsay(event='start', pid=os.getpid()); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        supervise(command(tmp_path, code), on_event)
    assert not runs(pids[0])


def test_a_worker_sees_no_other_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("TEXT_API_KEY", "secret")
    monkeypatch.setenv("HF_HOME", "/cache")
    seen = supervising.environment(MORE="1")
    assert not seen.keys() & {"VIRTUAL_ENV", "PYTHONHOME", "TEXT_API_KEY"}
    assert (seen["HF_HOME"], seen["MORE"]) == ("/cache", "1")


# --- steps --------------------------------------------------------------------------------------


def test_steps_are_remembered_and_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "key"
    with state.working(folder, {"model": "m"}, afresh=False) as first:
        assert first.result("source") is None
        first.finish("source", {"folder": "x"}, 1.234)
        (folder / "steps" / "quantize.json").write_text('{"cut off')
    with state.working(folder, {"model": "m"}, afresh=False) as second:
        assert second.result("source") == {"folder": "x", "seconds": 1.23}
        assert second.result("quantize") is None
        second.forget("source")
        assert second.result("source") is None
    assert json.loads((folder / "run.json").read_text())["model"] == "m"
    (folder / "left").touch()
    with state.working(folder, {}, afresh=True):
        assert not (folder / "left").exists()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        state.working(tmp_path / "key", {}, afresh=False),
        pytest.raises(QuantizationError, match="makes the same export right now") as caught,
        state.working(tmp_path / "key", {}, afresh=True),
    ):
        pass
    assert caught.value.code is ExitCode.REFUSED
    assert (tmp_path / "key").exists()


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    method = METHODS["gptq"]
    recipe = Recipe(
        method="gptq",
        backend="llmcompressor",
        bits=4,
        group_size=64,
        symmetric=method.symmetric,
        ignore=("lm_head", r"re:.*\.gate$"),
        dataset="c4",
        samples=8,
        sequence_length=64,
    )
    job = Job(
        source=tmp_path,
        work=tmp_path,
        recipe=recipe,
        architecture="LlamaForCausalLM",
        towers=(),
        longest=None,
        own_code=False,
        cuda=False,
        offload=False,
        gauge=True,
        request={"dataset": "c4"},
        known={"dataset": "c4"},
        steps=("calibrate", "quantize"),
    )
    assert jobs.read(jobs.write(job)) == job


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    job = tmp_path / "job.fifo"
    os.mkfifo(job)  # the worker waits for what never comes
    code = (
        "import subprocess, sys, time\n"
        f"w = subprocess.Popen([sys.executable, '-m', 'quantization.worker', {str(job)!r}])\n"
        "print(w.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=supervising.environment(),
    )
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    wait_until(lambda: waits_in_open(worker.pid))
    parent.kill()
    parent.communicate()
    assert not psutil.wait_procs([worker], timeout=10)[1]


def waits_in_open(pid: int) -> bool:
    """Whether the worker is at its job's file: it has asked to end with its parent by then."""
    process = psutil.Process(pid)
    return process.status() == psutil.STATUS_SLEEPING and process.cpu_times().user > 0.05


def wait_until(true: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what is seen -------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    display = Display(stream)
    for n in range(101):
        display.progress("quantize", n, 100)
    display.done("quantize", 12.34, "good")
    display.say("A line.")
    display.close()
    text = stream.getvalue()
    assert "\r" not in text
    assert text.endswith("  quantize       12.3 s  good\nA line.\n")
    assert len(text.splitlines()) <= 6


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    display = Display(stream)
    display.progress("fetch", 0, 0)
    display.progress("fetch", 10, 10)
    display.say("Next.")
    text = stream.getvalue()
    assert "[" + "#" * 28 + "] 100%" in text
    assert text.endswith("\r\x1b[KNext.\n")
