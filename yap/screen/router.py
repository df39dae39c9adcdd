"""Decides, before every reply, whether the client should capture the screen.

Three ask one after the other: the phrase rules, the language gate, the classifier. When in doubt
the answer is no: a capture that nobody asked for costs more than one that has to be asked for
again. So a classifier that is late, overloaded or broken means no, and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from yap.logs import Seldom
from yap.metrics import Metrics
from yap.protocol import ControlFunction, Personalities
from yap.screen.classifier import ClassifierFailedError, QueueFullError
from yap.screen.rule_matching import PhraseRules
from yap.settings import Settings

log = logging.getLogger(__name__)

Source = Literal["rule", "language", "classifier", "timeout", "queue_full", "failed", "empty"]
TAKE_SCREENSHOT = ControlFunction(name="take_screenshot")
# A broken classifier is asked for every turn; its reason is said once in so many seconds.
_SAY_AGAIN_S = 60.0


class Classifier(Protocol):
    """What the router needs of a classifier."""

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float: ...


class Gate(Protocol):
    """What the router needs of a language gate."""

    def refuses(self, text: str) -> bool: ...


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
    """Tries the phrase rules and the language gate, then asks the classifier, within a deadline."""

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        metrics: Metrics,
        rules: PhraseRules | None = None,
        gate: Gate | None = None,
    ) -> None:
        """
        Args:
            rules, gate: may be set later, when they are loaded; without one, it is passed over.
        """
        self.rules = rules
        self.gate = gate
        self._classifier = classifier
        self._threshold = settings.tool_decision_threshold
        self._timeout = settings.tool_timeout_s
        self._metrics = metrics
        self._seldom = Seldom(log, _SAY_AGAIN_S)

    async def decide(
        self,
        utterance: str,
        earlier: Sequence[str] = (),
        personalities: Personalities | None = None,
    ) -> Decision:
        """What `utterance`, after the user's `earlier` lines, asks the client to do.

        Args:
            earlier: what the user said before, oldest first, without the utterance.
            personalities: those that the user may switch to, with their synonyms.
        """
        decision = self.decide_at_once(utterance, personalities)
        return decision or await self.ask_classifier(utterance, earlier)

    def decide_at_once(
        self, utterance: str, personalities: Personalities | None = None
    ) -> Decision | None:
        """The decision where it needs no classifier, in less than a millisecond; else None."""
        if not utterance:
            return self._counted(Decision((), None, "empty"))
        match = self.rules.match(utterance, personalities) if self.rules else None
        if match is not None:
            return self._counted(Decision(match.functions, None, "rule"))
        if self.gate is not None and self.gate.refuses(utterance):
            return self._counted(Decision((), None, "language"))
        return None

    async def ask_classifier(self, utterance: str, earlier: Sequence[str]) -> Decision:
        """What the classifier says; no, where it says nothing."""
        return self._counted(await self._ask(utterance, earlier))

    def _counted(self, decision: Decision) -> Decision:
        self._metrics.router_decisions.labels(decision.status, decision.source).inc()
        return decision

    async def _ask(self, utterance: str, earlier: Sequence[str]) -> Decision:
        try:
            async with asyncio.timeout(self._timeout):
                probability = await self._classifier.probability(utterance, earlier)
        except TimeoutError:
            self._seldom.error("timeout", "The screen classifier took over %g s", self._timeout)
            return Decision((), None, "timeout")
        except QueueFullError as error:
            self._seldom.error("queue", "%s", error.message)
            return Decision((), None, "queue_full")
        except ClassifierFailedError as error:  # its process has logged more
            self._seldom.error("failed", "%s", error.message)
            return Decision((), None, "failed")
        except Exception:  # noqa: BLE001 - logged, and the turn goes on
            self._seldom.error("bug", "The screen classifier failed", with_traceback=True)
            return Decision((), None, "failed")
        if not math.isfinite(probability):
            self._seldom.error("nan", "The screen classifier returned %r", probability)
            return Decision((), None, "failed")
        functions = (TAKE_SCREENSHOT,) if probability >= self._threshold else ()
        return Decision(functions, probability, "classifier")
