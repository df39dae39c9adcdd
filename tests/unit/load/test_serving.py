"""Barge-ins and failures are counted as what they are; the command line's exit codes and files."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from tests.load.backends import KINDS, Kind, Target, url_of
from tests.load.cli import main
from tests.load.http_reader import EventReader, HttpError, ResponseReader
from tests.load.measurement import Measured, Plan, measure
from tests.load.summary import Load
from tests.load.workload import Mix
from tests.unit.load.scripted import Script, Scripted, scripted


async def run(
    server: Scripted, kind: Kind, turns: int, mix: Mix | None = None, timeout: float = 10.0
) -> Measured:
    """A closed loop of two."""
    plan = Plan([Load(clients=2)], turns=turns, warm_up=0, timeout=timeout, progress=False)
    return await measure(plan, mix or Mix(), Target(kind, server.address(kind)).dial(5))


async def test_barge_ins_over_the_websocket() -> None:
    """Cut 100 ms after the first token of a reply of a second: about five of 50 pieces are heard,
    two more were made, and it is silent 30 ms later."""
    script = Script(itl_ms=20, tokens=50, silent_after_ms=30, unsent=2)
    with scripted(script) as server:
        mix = Mix(turns=2, cancel_rate=1.0, cancel_delay_s=(0.1, 0.1))
        [(summary, results)] = await run(server, "ws", 8, mix)
        notes = server.notes()
    assert (summary.completed, summary.cancelled, summary.failed) == (0, 8, 0)
    assert summary.metrics["cancel to silence"].p50 == pytest.approx(30, abs=4)
    assert summary.metrics["TTFT"].count == 8 and "E2EL" not in summary.metrics
    for result in results:
        assert result.wasted_tokens is not None and 2 <= result.wasted_tokens <= 4
        assert result.output_tokens < 20
    made = sum(len(note.pieces) + 2 for note in notes)
    assert summary.output_tokens == made
    assert summary.wasted_tokens == sum(result.wasted_tokens or 0 for result in results)


@pytest.mark.parametrize("kind", ["sse", "openai"])
async def test_barge_ins_over_http_hang_up_and_the_session_goes_on(kind: Kind) -> None:
    with scripted(Script(itl_ms=20, tokens=50)) as server:
        mix = Mix(turns=3, cancel_rate=1.0, cancel_delay_s=(0.05, 0.05))
        [(summary, results)] = await run(server, kind, 6, mix)
    assert (summary.cancelled, summary.failed) == (6, 0)
    assert sorted(result.turn for result in results) == [0, 0, 1, 1, 2, 2]
    assert summary.wasted_tokens is None  # nobody says


async def test_a_barge_in_after_the_end_is_too_late() -> None:
    with scripted(Script(itl_ms=5, tokens=3)) as server:
        mix = Mix(turns=4, cancel_rate=1.0, cancel_delay_s=(0.5, 0.5))
        [(summary, _)] = await run(server, "ws", 8, mix)
    assert (summary.completed, summary.cancelled, summary.failed) == (8, 0, 0)


@pytest.mark.parametrize("kind", ["ws", "sse"])
async def test_errors_are_failures_and_have_no_times(kind: Kind) -> None:
    with scripted(Script(fail_every=4)) as server:
        [(summary, _)] = await run(server, kind, 12)
    assert (summary.completed, summary.failed) == (9, 3)
    assert summary.failures == {"internal_error": 3}
    assert summary.details == {"internal_error": "As scripted."}
    assert summary.metrics["TTFT"].count == 9
    assert summary.failed_share == 0.25


@pytest.mark.parametrize("kind", ["sse", "openai"])
async def test_refusals_are_failures(kind: Kind) -> None:
    with scripted(Script(refuse=503)) as server:
        [(summary, _)] = await run(server, kind, 4)
    assert summary.failures == {"http_503": 4}
    assert summary.details == {"http_503": "As scripted."}


async def test_a_full_server_says_so_before_any_turn() -> None:
    with scripted(Script(refuse=503)) as server:
        [(summary, _)] = await run(server, "ws", 4)
    assert summary.failures == {"server_at_capacity": 4}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_that_does_not_end_fails_at_its_deadline(kind: Kind) -> None:
    begun = time.perf_counter()
    with scripted(Script(tokens=2, hang=True)) as server:
        [(summary, _)] = await run(server, kind, 4, timeout=0.5)
    assert summary.failures == {"timeout": 4}
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize("kind", KINDS)
async def test_replies_without_tokens_fail(kind: Kind) -> None:
    with scripted(Script(tokens=0)) as server:
        [(summary, _)] = await run(server, kind, 2)
    assert summary.failures == {"empty_reply": 2}


async def test_nobody_there() -> None:
    plan = Plan([Load(rate=100)], turns=3, warm_up=0, progress=False)
    [(summary, _)] = await measure(plan, Mix(), Target("ws", "127.0.0.1:1").dial(5))
    assert summary.failures == {"connect": 3}
    assert "127.0.0.1:1" in summary.details["connect"]


async def test_a_websocket_client_of_something_else() -> None:
    """An HTTP server that knows no WebSocket is named as what it is."""
    with scripted(Script()) as server:
        plan = Plan([Load(clients=1)], turns=1, warm_up=0, progress=False)
        target = Target("ws", server.address("sse"))
        [(summary, _)] = await measure(plan, Mix(), target.dial(5))
    assert summary.failures == {"http_404": 1}


ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'6\r\ndata: \r\n1a;x=y\r\n{"a":1}\n\n: comment\ndata: 2\r\n5\r\n\r\n\r\n\n\r\n0\r\n\r\n'
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 1000])
def test_answers_are_read_however_they_are_cut(step: int) -> None:
    response, events = ResponseReader(), EventReader()
    found = [
        data
        for start in range(0, len(ANSWER), step)
        for piece in response.feed(ANSWER[start : start + step])
        for data in events.feed(piece)
    ]
    assert found == [b'{"a":1}', b"2"]
    assert response.status == 200 and response.complete and response.reusable


def test_answers_of_other_shapes() -> None:
    sized = ResponseReader()
    assert b"".join(sized.feed(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")) == b"no"
    assert sized.complete and sized.status == 404
    empty = ResponseReader()
    assert list(empty.feed(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n")) == []
    assert empty.complete
    until_end = ResponseReader()
    assert list(until_end.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")) == [b"abc"]
    assert not until_end.complete
    for wrong in (b"SSH-2.0\r\n\r\n", b"x" * 70_000):
        with pytest.raises(HttpError):
            list(ResponseReader().feed(wrong))


@pytest.mark.parametrize(
    ("kind", "address", "url"),
    [
        ("ws", "localhost:8000", "ws://localhost:8000/ws"),
        ("ws", "wss://yap.example/ws?api_key=k", "wss://yap.example/ws?api_key=k"),
        ("sse", "https://yap.example", "https://yap.example/chat"),
        ("sse", "ws://localhost:8000/ws", "http://localhost:8000/chat"),
        ("openai", "localhost:8001", "http://localhost:8001/v1/chat/completions"),
        ("openai", "http://h/v1/", "http://h/v1/chat/completions"),
        ("openai", "https://h/api/v3", "https://h/api/v3/chat/completions"),
    ],
)
def test_urls(kind: Kind, address: str, url: str) -> None:
    assert url_of(kind, address) == url


def test_the_command_line_writes_files_and_succeeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, turns, picture = (tmp_path / name for name in ("f.json", "t.csv", "p.png"))
    command = f"-n 6 -c 1 2 --goodput ttft:500 e2el:1 --json {figures} --csv {turns}"
    with scripted(Script(toolcall_ms=10)) as server:
        address = server.address("ws")
        assert main(["--server", address, *command.split(), "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "latency against load" in printed and "this client:" in printed
    found = json.loads(figures.read_text())
    assert [load["load"]["clients"] for load in found["loads"]] == [1, 2]
    assert found["loads"][0]["goodput"]["share"] == 0
    assert found["loads"][0]["metrics"]["toolcall"]["count"] == 6
    with turns.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["outcome"] for row in rows} == {"completed"}
    assert float(rows[0]["ttft_ms"]) == pytest.approx(30, abs=20)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_line_prints_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(Script()) as server:
        command = ["--backend", "openai", "--url", f"http://{server.address('openai')}"]
        assert main([*command, "--model", "m", "-n", "2", "-c", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["loads"][0]["completed"] == 2
    assert "TTFT" in captured.err


def test_exit_codes_of_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXT_API_KEY", "very-secret")
    assert main(["--server", "127.0.0.1:1", "-n", "2", "-c", "1"]) == 1
    with scripted(Script(fail_every=4)) as server:
        command = ["--server", server.address("ws"), "-n", "8", "-c", "2", "--warm-up", "0"]
        assert main([*command, "--max-failures", "0.2"]) == 1
        assert main([*command, "--max-failures", "0.25"]) == 0


def test_the_key_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXT_API_KEY", "very-secret")
    figures = tmp_path / "f.json"
    with scripted(Script()) as server:
        url = f"ws://{server.address('ws')}/ws?api_key=very-secret"
        assert main(["--url", url, "-n", "1", "-c", "1", "--json", str(figures)]) == 0
    assert "very-secret" not in figures.read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        "--backend openai",
        "-c 0",
        "--rate 0",
        "-c 2 --rate 3",
        "--goodput speed:3",
        "--cancel-delay 300-100",
        "--max-failures 5",
        "--ignore-eos",
        "--overlay nowhere.json --plot p.png",
    ],
)
def test_bad_command_lines_end_with_2(wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong.split())
    assert ended.value.code == 2
