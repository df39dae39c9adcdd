"""live.py in a terminal: line editing, history, and a reply that is talked over."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import API_KEY, ROOT
from tests.e2e.scripted_server import ACK, HANG_UP, TOOLCALL_NO, ending, scripted, token

pytestmark = pytest.mark.e2e

WORDS = ["One ", "two ", "three ", "four "]
SLOW = [step for word in WORDS for step in (token(word), 0.3)]


class Terminal:
    """live.py with a keyboard and a screen."""

    def __init__(self, descriptor: int, process: asyncio.subprocess.Process) -> None:
        self._descriptor = descriptor
        self._process = process
        self.seen = ""

    def interrupt(self) -> None:
        """Ctrl+C, as the terminal that a process belongs to passes it on."""
        self._process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    async def until(self, text: str) -> None:
        """Wait until the screen has shown this since the last time."""
        async with asyncio.timeout(20):
            while text not in self.seen:
                await asyncio.sleep(0.01)
                try:
                    self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
                except BlockingIOError:
                    continue
        self.seen = self.seen.partition(text)[2]


@asynccontextmanager
async def live(server: str, home: Path, *arguments: str) -> AsyncIterator[Terminal]:
    """The client in a terminal of its own; it must end well by itself."""
    outside, inside = pty.openpty()
    os.set_blocking(outside, False)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(ROOT / "tests" / "live.py"), "--server", server, *arguments),
        env={
            **os.environ,
            "TEXT_API_KEY": API_KEY,
            "XDG_STATE_HOME": str(home),
            "TERM": "xterm",
            "INPUTRC": "/dev/null",
        },
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    try:
        yield Terminal(outside, process)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(outside)


async def test_a_key_stops_the_reply_and_is_the_first_of_the_next_line(tmp_path: Path) -> None:
    async with (
        scripted(ACK, TOOLCALL_NO, *SLOW, *ending("".join(WORDS))) as server,
        live(server.address, tmp_path) as terminal,
    ):
        await terminal.until("you")
        terminal.type("Count, please.\r")
        await terminal.until("One two ")
        terminal.type("n")
        await terminal.until("[stopped]")
        await terminal.until("you")
        terminal.type("o more.\r")
        await terminal.until("One ")
        terminal.type("\r")  # Enter alone stops too
        await terminal.until("[stopped]")
        terminal.type("/stop\r")
    cancels = [m for m in server.received if m["type"] == "cancel"]
    assert cancels[0]["heard_chars"] == len("One two ")
    said = [m["user_utterance"] for m in server.received if m["type"] == "start"]
    assert said == ["Count, please.", "no more."]


async def test_lines_are_edited_and_remembered(tmp_path: Path) -> None:
    async with scripted(ACK, TOOLCALL_NO, token("Fine."), *ending("Fine.")) as server:
        for keys in ("Hello\x01Oh! \r", "\x1b[A?\r"):  # Ctrl+A; then arrow up in another start
            async with live(server.address, tmp_path) as terminal:
                await terminal.until("you")
                terminal.type(keys)
                await terminal.until("Fine.")
                await terminal.until("you")
                terminal.type("\x04")  # Ctrl+D
    said = [m["user_utterance"] for m in server.received if m["type"] == "start"]
    assert said == ["Oh! Hello", "Oh! Hello?"]


async def test_a_line_typed_meanwhile_is_said_at_once(tmp_path: Path) -> None:
    async with (
        scripted(ACK, TOOLCALL_NO, *SLOW, *ending("".join(WORDS))) as server,
        live(server.address, tmp_path, "Count!") as terminal,
    ):
        await terminal.until("One ")
        terminal.type("Stop, I am at the door.\r/quit\r")
        await terminal.until("[stopped]")
        await terminal.until("Stop, I am at the door.")
    said = [m["user_utterance"] for m in server.received if m["type"] == "start"]
    assert said == ["Count!", "Stop, I am at the door."]


async def test_ctrl_c_stops_a_reply_and_a_line_but_not_the_client(tmp_path: Path) -> None:
    async with (
        scripted(ACK, TOOLCALL_NO, *SLOW, *ending("".join(WORDS))) as server,
        live(server.address, tmp_path) as terminal,
    ):
        await terminal.until("you")
        terminal.type("Count\r")
        await terminal.until("One ")
        terminal.interrupt()
        await terminal.until("[stopped]")
        await terminal.until("you")
        terminal.type("half a li")
        await terminal.until("half a li")
        terminal.interrupt()
        await terminal.until("/stop leaves")
        terminal.type("/quit\r")


async def test_a_lost_connection_comes_back_with_the_next_line(tmp_path: Path) -> None:
    turn = (ACK, TOOLCALL_NO, token("Fine."), *ending("Fine."))
    async with (
        scripted(*turn, HANG_UP) as server,
        live(server.address, tmp_path) as terminal,
    ):
        for line in ("Hello.", "Still there?"):
            await terminal.until("you")
            await asyncio.sleep(0.2)
            terminal.type(f"{line}\r")
            if line == "Still there?":
                await terminal.until("here is a new one")
            await terminal.until("Fine.")
        terminal.type("/stop\r")
    said = [m for m in server.received if m["type"] == "start"]
    assert [m["user_utterance"] for m in said] == ["Hello.", "Still there?"]
    assert said[0]["session_id"] == said[1]["session_id"]
