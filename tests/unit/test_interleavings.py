"""Whatever clients do, and whatever the models do meanwhile, the conversation stays right.

Random programs are played against the real connection: what clients send, how they read, when
they go, and how the engine and the classifier behave. Time is virtual, so a second costs nothing,
a hang is found at once, and a program plays the same way every time. After each program the
frames that every client got are checked, and what the server still holds.

`YAP_FUZZ_SEED=7 YAP_FUZZ_PROGRAMS=20000` plays other programs, and more of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, seed, settings

from tests.unit.interleavings.programs import PROGRAM, Do, Program, Script
from tests.unit.interleavings.scene import play

SEED = int(os.environ.get("YAP_FUZZ_SEED", "1"))
PROGRAMS = int(os.environ.get("YAP_FUZZ_PROGRAMS", "2500"))


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Faults are logged, thousands of them."""
    logger = logging.getLogger("yap")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


SLOW_DECISION = (Script((2.0,)),)
FOUND = {
    "an ack waits for room, and its turn is cancelled": Program(
        (Do("start"), Do("warm_persona"), Do("start"), Do("followup")), queue=1
    ),
    "a followup is on its way while its session is taken over": Program(
        (Do("start"), Do("followup"), Do("start", client=1))
    ),
    "another persona comes between a start and its reply": Program(
        (Do("chat_prompt"), Do("start"), Do("wait", 1), Do("chat_prompt"), Do("wait", 6)),
        decisions=SLOW_DECISION,
    ),
    "a classifier fails when it is stopped": Program(
        (Do("start"), Do("wait", 3), Do("cancel"), Do("wait", 7)),
        decisions=(Script((2.0,), "raises"),),
    ),
    "the engine's own work is cancelled under a turn": Program(
        (Do("start"), Do("wait", 7)), replies=(Script(("Hello", "!stopped")),)
    ),
    "the classifier's own work is cancelled under a turn": Program(
        (Do("start"), Do("wait", 7)), decisions=(Script(("!stopped",)),)
    ),
    "the engine's own work is cancelled under a warm-up": Program(
        (Do("warm_persona"), Do("wait", 7)), replies=(Script(("!stopped",)),)
    ),
}


@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_what_went_wrong_once_goes_right(tokenizer: Any, program: Program) -> None:
    play(program, tokenizer)


@pytest.mark.slow
@pytest.mark.timeout(420)  # a failure is made small before it is shown
@seed(SEED)
@settings(
    max_examples=PROGRAMS,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(PROGRAM)
@example(Program(()))
def test_the_conversation_is_right_under_every_interleaving(
    tokenizer: Any, program: Program
) -> None:
    note(f"{program}")
    play(program, tokenizer)
