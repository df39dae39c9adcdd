"""What the screen decision costs a turn: time to first token with it and without it.

The real server is started in each of the modes, one after the other, and served the same turns:
lines that need no screenshot and that reach the classifier. The order of the modes is turned round
from cycle to cycle, so that what drifts in the machine meets all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.figures import Ratio, Times, ratio_of_medians
from tests.bench.texts import small_talk
from tests.client.conversation import Conversation, TurnRecord, connect
from tests.e2e.conftest import running
from tests.e2e.harness import API_KEY, ROOT, ServerProcess

MAX_OUT = 8
PERSONA_FILE = ROOT / "prompts" / "personas" / "mira.md"
HISTORY = (
    ("user", "hey, i'm back"),
    ("assistant", "Hey you! I was hoping you would drop by. How did your day go?"),
    ("user", "long. the train stood still for an hour and i had nothing to read"),
    ("assistant", "Oh no, an hour! At least you are home now. Did you get something warm to eat?"),
    ("user", "some soup, and now i'm on the sofa with the cat"),
    ("assistant", "That sounds just right. Tell the cat I said hello!"),
)
MODES = {
    "both, TOOL_OVERLAP=1": {"DEPLOY_MODELS": "both", "TOOL_OVERLAP": "1"},
    "both, TOOL_OVERLAP=0": {"DEPLOY_MODELS": "both", "TOOL_OVERLAP": "0"},
    "chat": {"DEPLOY_MODELS": "chat"},
}
WITHOUT = "chat"
_FIXED = {
    "CHAT_MAX_OUT": str(MAX_OUT),
    "WS_MAX_MESSAGES_PER_WINDOW": "1000000",
    "CHAT_PROMPT_UPDATE_MAX_PER_WINDOW": "1000000",
}
_WARM_UP = 8
_PAUSE_S = 0.05  # between turns, so that none meets what the last one left to be done


@dataclass(slots=True)
class ModeFigures:
    """One mode: times at the client, from the sending of `start`, [line][start of a server]."""

    ttft_ms: list[list[float]]
    toolcall_ms: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # the median TTFT of each

    @property
    def ttft(self) -> Times:
        """Over all turns."""
        return Times.of([time for line in self.ttft_ms for time in line])


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """All modes, and what each takes over the chat model alone."""

    lines: int
    prompt_tokens: tuple[int, int]
    cached_tokens: tuple[int, int]
    realtime: bool
    order: list[str]
    modes: dict[str, ModeFigures]
    over_chat: dict[str, Ratio]


def measure(home: Path, lines: int, cycles: int) -> TurnFigures:
    """Start every mode once a cycle and serve so many turns each time.

    Args:
        home: a folder for the servers' logs.
    """
    chosen: list[str] = []
    modes = {name: ModeFigures([[] for _ in range(lines)]) for name in MODES}
    order: list[str] = []
    records: list[TurnRecord] = []
    realtime = False
    for cycle in range(cycles):
        names = list(MODES) if cycle % 2 == 0 else list(MODES)[::-1]
        for name in names:
            print(f"cycle {cycle + 1} of {cycles}: {name}", flush=True)
            with running(home, **_FIXED, **MODES[name]) as server:
                chosen = chosen or lines_for_the_classifier(server, lines + _WARM_UP)
                with at_realtime_priority() as realtime:
                    served = asyncio.run(_serve(server, chosen))
            order.append(name)
            records += served
            _note(modes[name], served)
    over_chat = {
        name: ratio_of_medians(figures.ttft_ms, modes[WITHOUT].ttft_ms)
        for name, figures in modes.items()
        if name != WITHOUT
    }
    prompts, cached = _token_range(records)
    return TurnFigures(lines, prompts, cached, realtime, order, modes, over_chat)


def lines_for_the_classifier(server: ServerProcess, count: int) -> list[str]:
    """Lines that no rule and no language gate decides, and that the classifier says no to.

    Raises:
        RuntimeError: there are too few.
    """
    earlier = [content for role, content in HISTORY if role == "user"]
    found: list[str] = []
    for line in small_talk():
        decision = classify(server, line, earlier)
        if decision["source"] == "classifier" and decision["status"] == "no":
            found.append(line)
        if len(found) == count:
            return found
    raise RuntimeError(f"only {len(found)} lines reach the classifier and get a no; use fewer")


def classify(server: ServerProcess, utterance: str, earlier: Sequence[str]) -> dict[str, Any]:
    """`POST /classify`: status, source and probability."""
    request = urllib.request.Request(
        f"http://{server.address}/classify",
        json.dumps({"utterance": utterance, "earlier": earlier}).encode(),
        {"Content-Type": "application/json", "X-API-Key": API_KEY},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        decision: dict[str, Any] = json.load(response)
        return decision


@contextlib.contextmanager
def at_realtime_priority() -> Iterator[bool]:
    """Run this process before all others, where the system permits it; whether it does.

    On two cores a client of ordinary priority is kept waiting by the engine, and measures that.
    """
    policy = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))


async def _serve(server: ServerProcess, lines: Sequence[str]) -> list[TurnRecord]:
    """One turn a line, each in a session of its own; those that warm the server up are left out."""
    async with connect(server.address, API_KEY) as conversation:
        records = []
        for number, line in enumerate([*lines[-_WARM_UP:], *lines[:-_WARM_UP]]):
            await asyncio.sleep(_PAUSE_S)
            records.append(await _turn(conversation, f"bench-{number}", line))
    return records[_WARM_UP:]


async def _turn(conversation: Conversation, session_id: str, line: str) -> TurnRecord:
    record = await conversation.turn(
        {
            "session_id": session_id,
            "gender": "female",
            "personality": "friendly",
            "personalities": {"friendly": ["warm"], "playful": ["fun"]},
            "chat_prompt": PERSONA_FILE.read_text(encoding="utf-8").split("---", 2)[2].strip(),
            "history": [{"role": role, "content": content} for role, content in HISTORY],
            "user_utterance": line,
            "sampling": {"temperature": 0},
        }
    )
    if record.ttft_ms is None or (record.toolcall is not None and record.toolcall.status != "no"):
        raise RuntimeError(f"{line!r} was not answered as it must be: {record}")
    return record


def _note(figures: ModeFigures, records: Sequence[TurnRecord]) -> None:
    times = [record.ttft_ms for record in records if record.ttft_ms is not None]
    for line, time in zip(figures.ttft_ms, times, strict=True):
        line.append(round(time, 3))
    figures.starts.append(Times.of(times).p50)
    figures.toolcall_ms += [r.toolcall_ms for r in records if r.toolcall_ms is not None]


def _token_range(records: Sequence[TurnRecord]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Least and most tokens of a prompt, and of those the cached."""
    usages = [r.done.usage for r in records if r.done is not None and r.done.usage is not None]
    prompts = [usage.prompt_tokens for usage in usages]
    cached = [usage.cached_tokens for usage in usages]
    return (min(prompts), max(prompts)), (min(cached), max(cached))
