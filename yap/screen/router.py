"""Decides, before every reply, whether the client should capture the screen.

When in doubt the answer is no: a capture that nobody asked for costs more than one that has to
be asked for again. So a classifier that is late, overloaded or broken means no, and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from yap.metrics import Metrics
from yap.protocol import ControlFunction, Personalities
from yap.screen.classifier import QueueFullError
from yap.screen.rules import PhraseRules
from yap.settings import Settings

log = logging.getLogger(__name__)

Source = Literal["rule", "classifier", "timeout", "queue_full", "failed", "empty"]
TAKE_SCREENSHOT = ControlFunction(name="take_screenshot")


class Classifier(Protocol):
    """What the router needs of a classifier."""

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What the client is asked to do, how sure the classifier was, and who decided."""

    functions: tuple[ControlFunction, ...]
    probability: float | None
    source: Source

    @property
    def asks_for_screen(self) -> bool:
        """Whether the screen is to be captured; other functions are no reason to look at it."""
        return TAKE_SCREENSHOT in self.functions

    @property
    def status(self) -> Literal["yes", "no"]:
        """The decision as the wire says it."""
        return "yes" if self.functions else "no"


class ScreenRouter:
    """Tries the phrase rules, then asks the classifier, within a deadline."""

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        metrics: Metrics,
        rules: PhraseRules | None = None,
    ) -> None:
        self.rules = rules
        self._classifier = classifier
        self._threshold = settings.tool_decision_threshold
        self._timeout = settings.tool_timeout_s
        self._metrics = metrics

    async def decide(
        self,
        utterance: str,
        earlier: Sequence[str] = (),
        personalities: Personalities | None = None,
    ) -> Decision:
        """What `utterance`, after the user's `earlier` lines, asks the client to do.

        Args:
            personalities: those that the user may switch to, with their synonyms.
        """
        decision = self._by_rule(utterance, personalities) or await self._decide(utterance, earlier)
        self._metrics.router_decisions.labels(decision.status, decision.source).inc()
        return decision

    def _by_rule(self, utterance: str, personalities: Personalities | None) -> Decision | None:
        match = self.rules.match(utterance, personalities) if self.rules else None
        return Decision(match.functions, None, "rule") if match else None

    async def _decide(self, utterance: str, earlier: Sequence[str]) -> Decision:
        if not utterance:
            return Decision((), None, "empty")
        try:
            async with asyncio.timeout(self._timeout):
                probability = await self._classifier.probability(utterance, earlier)
        except TimeoutError:
            return Decision((), None, "timeout")
        except QueueFullError:
            return Decision((), None, "queue_full")
        except Exception:
            log.exception("The screen classifier failed; the answer is no")
            return Decision((), None, "failed")
        if not math.isfinite(probability):
            log.error("The screen classifier returned %r; the answer is no", probability)
            return Decision((), None, "failed")
        functions = (TAKE_SCREENSHOT,) if probability >= self._threshold else ()
        return Decision(functions, probability, "classifier")
