"""What is asked: sessions with a persona, turns, pauses between them, and barge-ins."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from tests.load.texts import PERSONA, UTTERANCES

_LONGEST_PAUSE = 5  # times the mean: an exponential has no longest one


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """One turn. `pause_s` goes before it; `cancel_after_s` counts from its first token."""

    utterance: str
    pause_s: float = 0.0
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """One user's conversation."""

    session_id: str
    persona: str
    turns: tuple[TurnPlan, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """What kind of sessions there are.

    Attributes:
        turns: in a session.
        think_s: mean of the exponential pause between a reply and the next turn; not after a
            barge-in, as somebody who interrupts goes on talking.
        cancel_rate: the share of turns that the user talks into.
        cancel_delay_s: from a turn's first token to its barge-in, drawn evenly between the two.
        personas: so many in turn; 0 gives each session its own, which no prefix cache knows.
        persona_words: the length of a made-up persona.
        persona: a given text, in place of a made-up one; "" sends none.
    """

    turns: int = 1
    think_s: float = 0.0
    cancel_rate: float = 0.0
    cancel_delay_s: tuple[float, float] = (0.2, 0.2)
    personas: int = 1
    persona_words: int = 120
    persona: str | None = None
    utterances: Sequence[str] = field(default=UTTERANCES)


class Workload:
    """Makes sessions. No utterance comes twice, also not in a later run on the same server."""

    def __init__(self, mix: Mix, rng: random.Random) -> None:
        self.mix = mix
        self._rng = rng
        self._run = uuid.uuid4().hex[:12]
        # Not from `rng`: what was said in an earlier run with the same seed is cached by now.
        self._first = random.SystemRandom().randrange(100_000, 900_000)
        self._turn = self._session = 0

    def sessions(self, turns: int) -> Iterator[SessionPlan]:
        """Sessions with so many turns in all; the last may be shorter than the others."""
        while turns > 0:
            length = min(self.mix.turns, turns)
            turns -= length
            yield self._next_session(length)

    def _next_session(self, length: int) -> SessionPlan:
        self._session += 1
        plans: list[TurnPlan] = []
        for number in range(length):
            interrupted = bool(plans) and plans[-1].cancel_after_s is not None
            plans.append(self._next_turn(0.0 if number == 0 or interrupted else self.mix.think_s))
        return SessionPlan(
            f"load-{self._run}-{self._session}", self._persona(self._session), tuple(plans)
        )

    def _next_turn(self, think_s: float) -> TurnPlan:
        self._turn += 1
        line = self.mix.utterances[self._turn % len(self.mix.utterances)]
        pause = min(self._rng.expovariate(1 / think_s), think_s * _LONGEST_PAUSE) if think_s else 0
        cancelled = self._rng.random() < self.mix.cancel_rate
        delay = self._rng.uniform(*self.mix.cancel_delay_s)
        return TurnPlan(f"{self._first + self._turn}: {line}", pause, delay if cancelled else None)

    def _persona(self, session: int) -> str:
        if self.mix.persona is not None:
            return self.mix.persona
        own = self._first + session
        number = own if self.mix.personas == 0 else session % self.mix.personas
        # The number is at the start: personas with different numbers share no block of the cache.
        words = islice(cycle(PERSONA.split()), self.mix.persona_words)
        return f"{number:06d} is your lucky number. {' '.join(words)}"
