"""Programs: what clients do, how the models behave meanwhile, and how programs are drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st

from tests.unit.stand_ins import KEY
from yap.errors import EngineFailed, EngineUnavailable
from yap.settings import Settings

LIMITS = Settings(
    text_api_key=KEY,
    gen_timeout_s=5,
    first_token_timeout_s=1,
    tool_timeout_s=0.1,
    ws_send_timeout_s=2,
    ws_max_sessions_per_connection=2,
    ws_idle_timeout_s=15,
    ws_watchdog_tick_s=1,
    ws_max_messages_per_window=0,
    ws_max_cancels_per_window=0,
    chat_prompt_update_max_per_window=0,
)


@dataclass(frozen=True, slots=True)
class Script:
    """What a model does with one request, step by step.

    A text is a piece of the reply, a number is a pause in seconds (0 lets others run once), and
    the rest are ways to fail. `stopped` is what it does when it is told to stop midway.
    """

    steps: tuple[str | float, ...] = ("Hello", " there", ".")
    stopped: Literal["goes", "raises", "lingers"] = "goes"
    answer: float = 0.0


FAULTS: dict[str, Callable[[], BaseException]] = {
    "!failed": lambda: EngineFailed("This reply was lost."),
    "!dead": lambda: EngineUnavailable("The engine stopped."),
    "!bug": lambda: ValueError("a bug"),
    "!late": TimeoutError,
    "!stopped": asyncio.CancelledError,  # as when a pool or a task under it is shut down
}

Kind = Literal[
    "turns", "wait", "start", "followup", "chat_prompt", "warm_persona", "warm_history", "cancel",
    "ping", "pong", "rubbish", "bad_start", "end", "stop_reading", "read", "go", "drop", "connect",
    "die", "revive", "drain",
]  # fmt: skip
Mode = Literal["both", "chat", "tool"]


@dataclass(frozen=True, slots=True)
class Do:
    """One step of a program. `n` chooses among the variants that the step has."""

    kind: Kind
    n: int = 0
    client: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """What happens, and how the models and the queue behave meanwhile."""

    steps: tuple[Do, ...]
    replies: tuple[Script, ...] = (Script(),)
    decisions: tuple[Script, ...] = (Script(()),)
    queue: int = 8
    flush_ms: int = 0
    mode: Mode = "both"
    crowded: bool = False  # no more permits than clients
    limited: bool = False  # few messages and cancels in a window

    @property
    def has_bugs(self) -> bool:
        """Whether a model does what nobody foresees, so that a turn may fail of it."""
        scripts = (*self.replies, *self.decisions)
        return any(s.stopped == "raises" or {"!bug", "!stopped"} & set(s.steps) for s in scripts)

    def limits(self) -> Settings:
        update: dict[str, Any] = {
            "ws_send_queue_max": self.queue,
            "stream_flush_ms": self.flush_ms,
            "deploy_models": self.mode,
        }
        if self.crowded:
            update |= {"max_concurrent_connections": 2}
        if self.limited:
            update |= {
                "ws_max_messages_per_window": 5,
                "ws_message_window_seconds": 2.0,
                "ws_max_cancels_per_window": 2,
                "ws_cancel_window_seconds": 1.0,
            }
        return LIMITS.model_copy(update=update)


WAITS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.3, 1.5, 3.0, 0.02, 0.04, 0.06, 20.0)
PAUSES = (0.0, 0.0, 0.01, 0.05, 0.2, 2.0, 9.0)
_STOPPED = st.sampled_from(["goes", "goes", "raises", "lingers"])
_PIECES = st.sampled_from(["Hello", " there", " :)", "<b>", ".", " "])
_REPLIES = st.builds(
    Script,
    st.lists(
        st.one_of(_PIECES, _PIECES, st.sampled_from(PAUSES), st.sampled_from(sorted(FAULTS))),
        max_size=8,
    ).map(tuple),
    _STOPPED,
)
_DECISIONS = st.builds(
    Script,
    st.lists(st.sampled_from([*PAUSES, "!bug", "!late", "!stopped"]), max_size=2).map(tuple),
    _STOPPED,
    st.sampled_from([0.0, 1.0]),
)
# What happens most is named most.
_KINDS: list[Kind] = [
    "turns", "turns", "turns", "turns", "wait", "wait", "wait", "start", "start", "start", "start",
    "followup", "followup", "chat_prompt", "warm_persona", "warm_history", "cancel", "cancel",
    "cancel", "ping", "ping", "pong", "rubbish", "bad_start", "end", "stop_reading", "read", "go",
    "drop", "connect", "connect", "die", "revive", "revive", "drain",
]  # fmt: skip
_NOTHING = Do("turns", 0, 0)
_STEPS = st.lists(
    st.builds(Do, st.sampled_from(_KINDS), st.integers(0, 11), st.sampled_from([0, 0, 0, 1])),
    min_size=16,
    max_size=48,
).map(lambda steps: tuple(step for step in steps if step != _NOTHING))
PROGRAM = st.builds(
    Program,
    _STEPS,
    st.lists(_REPLIES, min_size=1, max_size=4).map(tuple),
    st.lists(_DECISIONS, min_size=1, max_size=3).map(tuple),
    st.sampled_from([8, 1, 2, 3]),
    st.sampled_from([0, 0, 2000]),
    st.sampled_from(["both", "both", "both", "chat", "tool"]),
    st.sampled_from([False, False, True]),
    st.sampled_from([False, False, False, True]),
)
