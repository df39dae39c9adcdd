"""What is seen of one turn while it runs. All times are seconds of `time.perf_counter`."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a user's utterance, and what was said before it."""

    session_id: str
    persona: str
    history: tuple[tuple[str, str], ...]  # what the user said, what the reply was
    utterance: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The server's count of tokens; None where it does not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(slots=True)
class Trace:
    """What came back, and when it reached this process.

    Attributes:
        started: when the user spoke: latencies count from here.
        sent: when the request left.
        arrivals, texts: of each piece of the reply, in order.
        ended: when the server said that the reply is over.
        cancel_sent: when this side interrupted.
        cancelled: whether the reply was cut off for it.
        failure: why the turn failed, as a short code; None where it did not.
        first_token: called once, at the first piece.
    """

    started: float = 0.0
    sent: float = 0.0
    toolcall: float | None = None
    arrivals: array[float] = field(default_factory=lambda: array("d"))
    texts: list[str] = field(default_factory=list)
    ended: float | None = None
    usage: Usage = field(default_factory=Usage)
    cancel_sent: float | None = None
    cancelled: bool = False
    failure: str | None = None
    detail: str = ""
    first_token: Callable[[], None] | None = None

    def piece(self, text: str, now: float) -> None:
        """Take a piece of the reply."""
        self.arrivals.append(now)
        self.texts.append(text)
        if self.first_token is not None:
            self.first_token()
            self.first_token = None

    def fail(self, code: str, detail: str = "") -> None:
        """Note a failure, but for the first one, which caused the others."""
        if self.failure is None:
            self.failure, self.detail = code, detail[:300]
