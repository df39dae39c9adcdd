"""The command-line clients: against each deploy mode, and against everything that can fail."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.conversation import connect, connect_to
from tests.client.endpoint import Endpoint
from tests.client.errors import ExitCode
from tests.e2e.harness import API_KEY, ROOT, ServerProcess, free_port
from tests.e2e.scripted_server import ACK, HANG_UP, TOOLCALL_NO, ending, scripted, token

pytestmark = pytest.mark.e2e

LIMIT_S = 30.0
PLACES = 32  # MAX_CONCURRENT_CONNECTIONS unless it is set
# Every client with arguments that make it quick, and what it reads.
CLIENTS: dict[str, tuple[list[str], str]] = {
    "warmup": (["--double-ttfb"], ""),
    "live": (["Hi there!"], "My name is Tom.\n/info\n/stats\n/list\n/stop\n"),
    "conversation": (["--history", "messages"], ""),
    "personality": (["--switches", "1", "--delay", "0"], ""),
    "screen_analysis": (["--only", "recipe"], ""),
    "tool": (["--limit", "10", "--concurrency", "2"], ""),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a client said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The last line as JSON."""
        data: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return data


async def client(
    name: str, server: str, *arguments: str, key: str = API_KEY, typed: str = "", **variables: str
) -> Result:
    """Run a client from another folder, as somebody would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests" / f"{name}.py"),
        *("--server", server, "--retry", "0"),
        *arguments,
        cwd="/",
        env={**os.environ, "TEXT_API_KEY": key, **variables},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate(typed.encode())
    assert process.returncode is not None
    assert "Traceback" not in err.decode(), err.decode()
    return Result(process.returncode, out.decode(), err.decode())


async def every_client(server: str, *arguments: str, **fields: str) -> dict[str, Result]:
    """All of them, two at once."""
    seats = asyncio.Semaphore(2)

    async def one(name: str) -> Result:
        own, typed = CLIENTS[name]
        async with seats:
            return await client(name, server, *own, *arguments, typed=typed, **fields)

    results = await asyncio.gather(*(one(name) for name in CLIENTS))
    return dict(zip(CLIENTS, results, strict=True))


def codes(results: dict[str, Result]) -> dict[str, int]:
    """How each ended."""
    return {name: result.code for name, result in results.items()}


def all_end_with(code: ExitCode, **others: ExitCode) -> dict[str, int]:
    """What `codes` must be."""
    return {name: int(others.get(name, code)) for name in CLIENTS}


@asynccontextmanager
async def taken(server: ServerProcess) -> AsyncIterator[None]:
    """Every place of the server is taken."""
    async with AsyncExitStack() as stack:
        for _ in range(PLACES):
            await stack.enter_async_context(
                connect_to(Endpoint(server.address, API_KEY, retry_s=10))
            )
        yield


# --- against a server ---------------------------------------------------------------------------


async def test_all_run_with_both_models(server: ServerProcess) -> None:
    results = await every_client(server.address)
    assert codes(results) == all_end_with(ExitCode.OK), results
    assert "screenshot? no" in results["warmup"].out
    assert "prompt tokens" in results["live"].out
    assert "Recalled" in results["conversation"].out
    assert "200 updated" in results["personality"].out
    assert "on screen   A recipe" in results["screen_analysis"].out
    assert "10 of 10 steps are right (100.0%)" in results["tool"].out
    assert not any("\x1b" in result.out for result in results.values()), "plain in a pipe"


async def test_all_run_with_the_chat_model_alone(chat_server: ServerProcess) -> None:
    results = await every_client(chat_server.address, "--json")
    assert codes(results) == all_end_with(ExitCode.OK, tool=ExitCode.NOT_DEPLOYED), results
    assert results["warmup"].data["screenshot"] is None
    assert results["screen_analysis"].data["screens"][0]["followed"]["reply"]
    assert results["tool"].data["reasons"] == {"no_tool_response": 10}


async def test_all_run_with_the_classifier_alone(tool_server: ServerProcess) -> None:
    results = await every_client(tool_server.address, "--json", "--retry", "5")
    assert codes(results) == all_end_with(ExitCode.OK, personality=ExitCode.NOT_DEPLOYED), results
    assert results["screen_analysis"].data["screens"][0]["asked"]["screenshot"] == "yes"
    assert results["screen_analysis"].data["screens"][0]["followed"] is None
    assert results["tool"].data["accuracy"] == 1


async def test_json_holds_times_and_tokens(server: ServerProcess) -> None:
    data = (await client("warmup", server.address, "--json", "--temperature", "0", "Hello!")).data
    assert data["ok"] and data["reply"] and data["finish_reason"] == "stop"
    assert data["usage"]["completion_tokens"] > 0
    times = [data[name] for name in ("ack_ms", "toolcall_ms", "ttft_ms", "total_ms")]
    assert times == sorted(times)
    assert data["ttft_ms"] <= data["first_3_words_ms"] <= data["total_ms"]
    assert data["chunks"] > 1 and data["chars"] == len(data["reply"])


async def test_prompt_mode_says_what_is_sent_and_must_come(
    server: ServerProcess, tool_server: ServerProcess
) -> None:
    both, no_list, no_prompt, tool, no_reply = await asyncio.gather(
        client("warmup", server.address, "--prompt-mode", "both"),
        client("warmup", server.address, "--prompt-mode", "chat"),
        client("warmup", server.address, "--no-chat-prompt"),
        client("warmup", tool_server.address, "--no-chat-prompt"),
        client("warmup", tool_server.address, "--prompt-mode", "both"),
    )
    assert (both.code, tool.code) == (ExitCode.OK, ExitCode.OK)
    assert no_list.code == ExitCode.SERVER_ERROR and "missing_personalities" in no_list.err
    assert no_prompt.code == ExitCode.SERVER_ERROR and "missing_chat_prompt" in no_prompt.err
    assert no_reply.code == ExitCode.CHECK_FAILED and "The reply is empty" in no_reply.err


async def test_flags_and_variables_reach_the_server(server: ServerProcess) -> None:
    refused = await client("warmup", server.address, "--temperature", "99")
    assert refused.code == ExitCode.SERVER_ERROR and "temperature_out_of_range" in refused.err
    # The greedy reply names who it is; the persona comes from the environment.
    data = (
        await client("warmup", server.address, "--json", "--temperature", "0", GENDER="male")
    ).data
    assert "Marc" in data["reply"]


async def test_a_check_that_fails_is_exit_code_1(server: ServerProcess, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    steps = [{"say": "Please take a screenshot.", "expect": "no"}]
    cases.write_text(json.dumps({"name": "wrong", "kind": "on purpose", "steps": steps}))
    log = tmp_path / "tool.log"
    result = await client("tool", server.address, "--cases", str(cases), "--log", str(log))
    assert result.code == ExitCode.CHECK_FAILED
    assert "wrong_response: wrong step 1" in result.out and "wrong step 1" in log.read_text()


async def test_personas_of_live_are_edited_while_one_talks(
    server: ServerProcess, tmp_path: Path
) -> None:
    persona = tmp_path / "ada.md"
    front = "---\nname: ada\ntitle: Ada\ngender: female\npersonality: calm\n---\n"
    persona.write_text(f"{front}You are Ada, a calm companion.")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(ROOT / "tests" / "live.py"), "--server", server.address, "--persona", str(persona)),
        env={**os.environ, "TEXT_API_KEY": API_KEY},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    seen = ""
    async with asyncio.timeout(LIMIT_S):
        process.stdin.write(b"Hello!\n/info\n")
        while "session" not in seen:
            seen += (await process.stdout.readline()).decode()
        persona.write_text(f"{front}You are Ada, a calm companion who loves rain.")
        process.stdin.write(b"How are you?\n/persona mira\n/persona nobody\n/stop\n")
        seen += (await process.communicate())[0].decode()
    assert process.returncode == ExitCode.OK
    assert "Ada was edited; the new text is in use." in seen
    assert "Mira (playful): updated" in seen
    assert "There is no persona 'nobody'" in seen


# --- against what fails -------------------------------------------------------------------------


async def test_a_server_that_is_down_is_exit_code_3() -> None:
    results = await every_client(f"127.0.0.1:{free_port()}")
    assert codes(results) == all_end_with(ExitCode.CANNOT_CONNECT)
    assert all("no Yap server answers" in result.err for result in results.values())


async def test_a_wrong_key_is_exit_code_4(tool_server: ServerProcess) -> None:
    results = await every_client(tool_server.address, "--json", key="wrong")
    assert codes(results) == all_end_with(ExitCode.KEY_REFUSED)
    for result in results.values():
        assert result.data["error"]["code"] == "authentication_failed"
        assert result.data["exit_code"] == ExitCode.KEY_REFUSED


async def test_a_full_server_is_exit_code_5(tool_server: ServerProcess) -> None:
    async with taken(tool_server):
        results = await every_client(tool_server.address)
    assert codes(results) == all_end_with(ExitCode.AT_CAPACITY)
    assert all("server_at_capacity" in result.err for result in results.values())


async def test_a_place_that_comes_free_is_taken(tool_server: ServerProcess) -> None:
    async with taken(tool_server):
        waiting = asyncio.create_task(
            client("warmup", tool_server.address, "--retry", "20", "--json")
        )
        await asyncio.sleep(2)
        assert not waiting.done()
    assert (await waiting).code == ExitCode.OK


async def test_a_server_that_hangs_up_in_the_middle_is_exit_code_7() -> None:
    async with scripted(ACK, TOOLCALL_NO, token("Hello "), HANG_UP) as server:
        results = await every_client(server.address)
    # For tool.py this is one failed case of many.
    assert codes(results) == all_end_with(ExitCode.CONNECTION_LOST, tool=ExitCode.CHECK_FAILED)
    assert "incomplete: request_1 step 1" in results["tool"].out
    assert "the server closed the connection" in results["warmup"].err


async def test_a_silent_server_is_given_up() -> None:
    async with scripted(ACK, 60.0) as server:
        result = await client("warmup", server.address, "--timeout", "0.3")
    assert result.code == ExitCode.CONNECTION_LOST and "sent nothing for 0.3 s" in result.err


async def test_a_failed_turn_and_a_strange_frame_are_exit_code_8() -> None:
    failed = {"type": "error", "error_code": "engine_error", "message": "Try again."}
    done = {"type": "done", "turn_id": "t1", "finish_reason": "error"}
    async with scripted(ACK, {**failed, "turn_id": "t1"}, done) as server:
        result = await client("warmup", server.address)
    assert result.code == ExitCode.SERVER_ERROR and "engine_error: Try again." in result.err
    async with scripted(ACK, '{"type": "surprise"}') as server:
        result = await client("warmup", server.address)
    assert result.code == ExitCode.SERVER_ERROR and "no frame of this protocol" in result.err


async def test_an_unready_server_is_exit_code_6() -> None:
    refusal = {"type": "error", "error_code": "engine_unavailable", "message": "Loading."}
    async with scripted(refusal) as server:
        assert (await client("conversation", server.address)).code == ExitCode.NOT_READY


async def test_bad_arguments_are_exit_code_2() -> None:
    bad = {
        "warmup": ("--server", "ftp://somewhere"),
        "live": ("--persona", "nobody"),
        "conversation": ("--script", "nothing"),
        "personality": ("--switches", "11"),
        "screen_analysis": ("--only", "nothing"),
        "tool": ("--cases", "/nowhere.jsonl"),
    }
    results = await asyncio.gather(*(client(name, "[::1]:1", *bad[name]) for name in bad))
    for name, result in zip(bad, results, strict=True):
        assert result.code == ExitCode.USAGE and f"{name}.py: error: " in result.err


async def test_what_a_terminal_obeys_is_not_shown() -> None:
    text = "Red \x1b[31malert"
    async with scripted(ACK, TOOLCALL_NO, token(text), *ending(text)) as server:
        result = await client("warmup", server.address)
    assert result.code == ExitCode.OK and "Red \N{REPLACEMENT CHARACTER}[31malert" in result.out


async def test_an_answer_to_a_late_cancel_is_not_the_next_turns(server: ServerProcess) -> None:
    start = {
        "session_id": "late-cancel",
        "gender": "female",
        "personality": "friendly",
        "personalities": {"friendly": []},
        "chat_prompt": "You are Anna, a warm companion.",
    }
    async with connect(server.address, API_KEY) as conversation:
        await conversation.turn({**start, "user_utterance": "Hi!"})
        await conversation.cancel()
        record = await conversation.turn({**start, "user_utterance": "How are you?"})
    assert record.text and not record.cancelled and record.ack is not None
