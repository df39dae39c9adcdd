"""Import a Bento from a file into an empty home and serve a turn of each kind, without a network.

    unshare --net python -m tests.e2e.offline HOME FILE.tar MODE

It prints one JSON object: what was imported, and the frames of the turns. The network is that of
its namespace, in which it brings up the loopback and nothing else.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.container.probe import reaches_a_network
from tests.e2e.harness import ServerProcess
from tests.e2e.talk import talk
from tests.e2e.test_http import MESSAGES, frames_of, post

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


def bring_up_loopback() -> None:
    """As `ip link set lo up`, which is not installed everywhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        name, flags, rest = struct.unpack("16sH14s", fcntl.ioctl(handle, _GET_FLAGS, request))
        fcntl.ioctl(handle, _SET_FLAGS, struct.pack("16sH14s", name, flags | _UP, rest))


def environment_of(home: Path) -> dict[str, str]:
    """Of somebody who has nothing yet: neither a store nor caches."""
    return {"HOME": str(home), "BENTOML_HOME": str(home / "bentoml"), "XDG_CACHE_HOME": ""}


def bentoml(home: Path, *arguments: str) -> str:
    """Run BentoML's command line in that home."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments],
        cwd=home,
        env=os.environ | environment_of(home) | {"BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def _turn(server: ServerProcess) -> list[dict[str, Any]]:
    async with talk(server) as connection:
        return await connection.turn("What is your name?", sampling={"temperature": 0})


def turns(server: ServerProcess, mode: str) -> dict[str, Any]:
    """What each way in answers."""
    found: dict[str, Any] = {"websocket": asyncio.run(_turn(server))}
    if mode != "tool":
        status, events = post(server, "/chat", {"messages": MESSAGES})
        found["chat"] = {"status": status, "frames": frames_of(events)}
    if mode != "chat":
        status, answer = post(server, "/classify", {"utterance": "Look at my screen, please!"})
        found["classify"] = {"status": status, "answer": json.loads(answer)}
    return found


def main(home: Path, file: Path, mode: str) -> dict[str, Any]:
    """Import, serve, talk, stop."""
    bring_up_loopback()
    network = reaches_a_network()
    bentoml(home, "import", str(file))
    listed = json.loads(bentoml(home, "list", "-o", "json"))
    models = json.loads(bentoml(home, "models", "list", "-o", "json"))
    tag = str(listed[0]["tag"])
    server = ServerProcess(home, tag, **environment_of(home))
    try:
        server.wait_ready()
        found = turns(server, mode)
        code = server.stop()
        server.wait_until_gone(15)
    finally:
        server.destroy()
    tags = [str(model["tag"]) for model in models]
    log = server.log.read_text(errors="replace")
    return {"network": network, "tag": tag, "models": tags, "exit": code, "log": log, **found}


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]), sys.stdout)
