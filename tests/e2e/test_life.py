"""How the server starts, refuses to start, stops and dies."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import running
from tests.e2e.harness import ROOT, ServerProcess
from tests.e2e.talk import start, talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


def refusal(home: Path, **settings: str) -> str:
    """Start a server that must refuse; its last line. It must exit with 1 and leave nothing."""
    server = ServerProcess(home, **settings)
    try:
        assert server.wait_exit(180) == 1, server.tail()
        server.wait_until_gone(5)
        return server.tail(1)
    finally:
        server.destroy()


def test_without_a_key_it_does_not_start(tmp_path: Path) -> None:
    line = refusal(tmp_path, TEXT_API_KEY="")
    assert line.startswith("Yap could not start: TEXT_API_KEY is not set")


def test_a_bad_setting_is_named_with_its_value_and_what_is_allowed(tmp_path: Path) -> None:
    line = refusal(tmp_path, WS_IDLE_TIMEOUT_S="-3")
    assert 'WS_IDLE_TIMEOUT_S="-3"' in line


def test_a_model_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "CHAT_MODEL" in refusal(tmp_path, CHAT_MODEL="/no/such/folder")
    assert "TOOL_MODEL" in refusal(tmp_path, TOOL_MODEL="/no/such/folder")


def test_a_hub_model_without_a_network_is_one_sentence(tmp_path: Path) -> None:
    line = refusal(tmp_path, CHAT_MODEL="nobody/no-such-model")
    assert 'CHAT_MODEL="nobody/no-such-model"' in line
    assert "cannot be reached" in line


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1 is in use" in refusal(tmp_path, PORT=port)


def test_weights_that_cannot_be_read_end_the_server(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(ROOT / "models" / "yap-chat-demo", broken)
    (broken / "model.safetensors").write_bytes(b"not a tensor")
    line = refusal(tmp_path, CHAT_MODEL=str(broken), DEPLOY_MODELS="chat")
    assert line == (
        f'Yap could not start: The weights of CHAT_MODEL="{broken}" cannot be read '
        "(model.safetensors is damaged): fetch them again."
    )


def test_weights_of_another_model_end_the_server(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(ROOT / "models" / "yap-chat-demo", mixed)
    config = json.loads((mixed / "config.json").read_text())
    (mixed / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 7}))
    line = refusal(tmp_path, CHAT_MODEL=str(mixed), DEPLOY_MODELS="chat")
    assert line == (
        f'Yap could not start: CHAT_MODEL="{mixed}" could not be loaded; the reason is in the '
        "log above."
    )


async def test_sigterm_lets_the_running_turn_finish_and_then_stops_everything(
    tmp_path: Path,
) -> None:
    server = ServerProcess(tmp_path, DEPLOY_MODELS="chat")
    try:
        assert server.status("/readyz") != 200
        server.wait_ready()
        async with talk(server) as client:
            await client.send(start("Tell me about your day!", sampling={"temperature": 1.0}))
            await client.until("token")
            os.kill(server.pid, signal.SIGTERM)
            frames = await client.until("done")
            assert frames[-1]["finish_reason"] in {"stop", "length"}
            assert (await client.closed())[0] == 1012
        assert server.wait_exit() == 0
        server.wait_until_gone(10)
    finally:
        server.destroy()


async def test_an_engine_core_does_not_notice_a_sigterm_that_is_sent_to_all(
    tmp_path: Path,
) -> None:
    """BentoML sends it to a worker's children; a core that obeys leaves the last turns alone."""
    server = ServerProcess(tmp_path, DEPLOY_MODELS="chat")
    try:
        server.wait_ready()
        (core,) = server.pids_of("VLLM::EngineCore")
        os.kill(core, signal.SIGTERM)
        await asyncio.sleep(1)
        async with talk(server) as client:
            frames = await client.turn("Hello!")
        assert frames[-1]["finish_reason"] in {"stop", "length"}
        assert server.pids_of("VLLM::EngineCore") == [core]
        assert server.stop() == 0
        server.wait_until_gone(10)
    finally:
        server.destroy()


async def test_an_engine_core_that_dies_or_is_stopped_ends_turns_by_code_and_is_built_anew(
    tmp_path: Path,
) -> None:
    server = ServerProcess(tmp_path, DEPLOY_MODELS="chat")
    try:
        server.wait_ready()
        async with talk(server) as client:
            first = await client.turn("My name is Tobias.")
            remembers = first[-1]["usage"]["prompt_tokens"] + 10
            for harm in (signal.SIGKILL, signal.SIGSTOP):
                (core,) = server.pids_of("VLLM::EngineCore")
                await client.send(start("Tell me about your day!", history_text=None))
                await client.until("ack")
                os.kill(core, harm)
                begun = time.monotonic()
                frames = await client.until("done")
                if frames[-1]["finish_reason"] == "error":  # else the reply was complete already
                    assert frames[-2]["error_code"] == "engine_unavailable"
                server.wait_for_status("/readyz", 503, timeout=2)
                assert time.monotonic() - begun < 2.5
                await client.send(start("Still there?"))
                assert (await client.receive())["error_code"] == "engine_unavailable"
                assert server.status("/livez") == 200
                server.wait_until_gone(10, {core})
                server.wait_ready()
                # The same connection goes on, and remembers.
                frames = await client.turn("Hello again!", history_text=None)
                assert frames[-1]["finish_reason"] in ("stop", "length")
                assert frames[-1]["usage"]["prompt_tokens"] > remembers

        # The worker is killed next: its supervisor starts another, which gets a new engine.
        workers = set(server.pids_of("_bentoml_impl.worker.service"))
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        server.wait_until_gone(10, workers)
        server.wait_ready()
        assert len(server.pids_of("VLLM::EngineCore")) == 1

        # And last the worker with a live engine: the old core must not stay beside the new one.
        (core,) = server.pids_of("VLLM::EngineCore")
        workers = set(server.pids_of("_bentoml_impl.worker.service"))
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        server.wait_until_gone(5, {core})

        # Killed without a word, the supervisor takes all of it along.
        os.kill(server.pid, signal.SIGKILL)
        server.wait_until_gone(40)
    finally:
        server.destroy()


def test_two_servers_side_by_side_do_not_disturb_each_other(
    server: ServerProcess, tmp_path: Path
) -> None:
    with running(tmp_path, DEPLOY_MODELS="tool") as other:
        assert other.status("/readyz") == 200
    assert server.status("/readyz") == 200


def test_a_retired_variable_and_a_misspelt_one_are_told_of_in_the_log(tmp_path: Path) -> None:
    with running(
        tmp_path, DEPLOY_MODELS="tool", CACHE_RESET_INTERVAL_SECONDS="600", TOOL_TIMOUT_S="5"
    ) as server:
        log = server.log.read_text()
    assert "CACHE_RESET_INTERVAL_SECONDS" in log
    assert "TOOL_TIMEOUT_S" in log
