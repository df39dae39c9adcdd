"""When in doubt, the answer is no."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.conftest import MakeSettings
from tests.unit.stand_ins import Gate, ScriptedClassifier
from yap.errors import ServerError
from yap.metrics import Metrics
from yap.protocol import ControlFunction
from yap.screen.classifier import ClassifierFailedError, QueueFullError
from yap.screen.router import Decision, ScreenRouter
from yap.settings import Settings

SCREENSHOT = (ControlFunction(name="take_screenshot"),)


def router(settings: Settings, metrics: Metrics, classifier: ScriptedClassifier) -> ScreenRouter:
    return ScreenRouter(classifier, settings, metrics)


@pytest.mark.parametrize(
    ("threshold", "probability", "status"),
    [
        (0.66, 0.0, "no"),
        (0.66, 0.6599999, "no"),
        (0.66, 0.66, "yes"),
        (0.66, 1.0, "yes"),
        (1.0, 1.0, "yes"),
        (1.0, 0.9999999, "no"),
        (0.0, 0.0, "yes"),
    ],
)
async def test_the_answer_is_yes_from_the_threshold_on(
    make_settings: MakeSettings,
    metrics: Metrics,
    threshold: float,
    probability: float,
    status: str,
) -> None:
    settings = make_settings(tool_decision_threshold=threshold)
    classifier = ScriptedClassifier(settings, probability)
    decision = await router(settings, metrics, classifier).decide("look", ["hi"])
    assert decision == Decision(SCREENSHOT if status == "yes" else (), probability, "classifier")
    assert decision.status == status
    assert classifier.asked == [("look", ("hi",))]


@pytest.mark.parametrize("probability", [math.nan, math.inf, -math.inf])
async def test_an_answer_that_is_no_number_is_no(
    settings: Settings, metrics: Metrics, probability: float
) -> None:
    classifier = ScriptedClassifier(settings, probability)
    decision = await router(settings, metrics, classifier).decide("look")
    assert decision == Decision((), None, "failed")


@pytest.mark.parametrize(
    ("fault", "source"),
    [
        (RuntimeError("out of memory"), "failed"),
        (ServerError("not ready"), "failed"),
        (IndexError(), "failed"),
        (QueueFullError("full"), "queue_full"),
        (TimeoutError(), "timeout"),
    ],
)
async def test_a_fault_is_no(
    settings: Settings, metrics: Metrics, fault: BaseException, source: str
) -> None:
    classifier = ScriptedClassifier(settings, 1.0, [fault])
    decision = await router(settings, metrics, classifier).decide("look")
    assert (decision.status, decision.source) == ("no", source)


async def test_an_answer_after_the_deadline_is_no(
    make_settings: MakeSettings, metrics: Metrics
) -> None:
    settings = make_settings(tool_timeout_s=0.05)
    classifier = ScriptedClassifier(settings, 1.0, [Gate()])
    assert await router(settings, metrics, classifier).decide("look") == Decision(
        (), None, "timeout"
    )


async def test_nothing_said_is_no_and_nobody_is_asked(settings: Settings, metrics: Metrics) -> None:
    classifier = ScriptedClassifier(settings, 1.0)
    assert await router(settings, metrics, classifier).decide("") == Decision((), None, "empty")
    assert classifier.asked == []


class Foreign:
    """A language gate that knows one word of another language."""

    def refuses(self, text: str) -> bool:
        return "mira" in text


async def test_what_is_not_english_is_no_and_nobody_is_asked(
    settings: Settings, metrics: Metrics
) -> None:
    classifier = ScriptedClassifier(settings, 1.0)
    gated = ScreenRouter(classifier, settings, metrics, gate=Foreign())
    assert await gated.decide("mira esto") == Decision((), None, "language")
    assert classifier.asked == []
    assert (await gated.decide("look at this")).source == "classifier"


async def test_why_it_failed_is_said_once_a_minute(
    settings: Settings, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = ScriptedClassifier(settings, 1.0, [ClassifierFailedError("It died.")])
    asked = router(settings, metrics, classifier)
    for _ in range(5):
        await asked.decide("look")
    classifier.steps = [QueueFullError("It is full.")]
    await asked.decide("look")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["It died.", "It is full."]


async def test_every_decision_is_counted_by_answer_and_source(
    settings: Settings, metrics: Metrics, registry: CollectorRegistry
) -> None:
    classifier = ScriptedClassifier(settings, 1.0)
    asked = router(settings, metrics, classifier)
    await asked.decide("look")
    await asked.decide("look")
    await asked.decide("")
    classifier.steps = [QueueFullError("full")]
    await asked.decide("look")
    for status, source, count in [
        ("yes", "classifier", 2),
        ("no", "empty", 1),
        ("no", "queue_full", 1),
        ("no", "timeout", None),
    ]:
        labels = {"status": status, "source": source}
        assert registry.get_sample_value("yap_router_decisions_total", labels) == count
