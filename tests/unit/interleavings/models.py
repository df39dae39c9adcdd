"""The models of a program, which do what their scripts say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from tests.unit.interleavings.programs import FAULTS, Script
from tests.unit.stand_ins import ScriptedChat, ScriptedClassifier
from yap.chat.engine import Piece, Priority
from yap.chat.prompt import Prompt
from yap.errors import EngineUnavailable
from yap.protocol import SamplingOptions
from yap.settings import Settings

T = TypeVar("T")


async def _follow(script: Script, steps: Sequence[str | float]) -> AsyncGenerator[str]:
    """Play `steps`; the texts that they give."""
    try:
        for step in steps:
            if not isinstance(step, str):
                await asyncio.sleep(step)
            elif step in FAULTS:
                raise FAULTS[step]()
            else:
                yield step
    except (asyncio.CancelledError, GeneratorExit):
        if script.stopped == "raises":
            raise RuntimeError("stopping failed") from None
        if script.stopped == "lingers":
            await asyncio.sleep(0.03)
        raise


class Chat(ScriptedChat):
    """The scripted engine, without threads, and with a life."""

    def __init__(self, limits: Settings, tokenizer: Any, scripts: Sequence[Script]) -> None:
        super().__init__(limits, tokenizer)
        self.prompt_of: dict[str, str] = {}
        self._scripts = scripts
        self._streams = 0

    async def _in_pool(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        result = work()
        await asyncio.sleep(0)
        return result

    async def stream(
        self,
        prompt: Prompt,
        options: SamplingOptions,
        request_id: str,
        priority: Priority = Priority.TURN,
    ) -> AsyncGenerator[Piece]:
        self.prompt_of[request_id] = self._tokenizer.decode(prompt.token_ids)
        script = self._scripts[self._streams % len(self._scripts)]
        self._streams += 1
        made = 0
        self.streaming += 1
        texts = _follow(script, script.steps)
        try:
            async for text in texts:
                if not self.alive:
                    raise EngineUnavailable("The engine stopped.")
                made += 1
                yield Piece(text, len(prompt.token_ids), 2, made, None)
            yield Piece("", len(prompt.token_ids), 2, made + 1, "stop")
        finally:
            try:
                await texts.aclose()
            finally:
                self.streaming -= 1


class Classifier(ScriptedClassifier):
    """The scripted classifier with a script for each question."""

    def __init__(self, limits: Settings, scripts: Sequence[Script]) -> None:
        super().__init__(limits)
        self._scripts = scripts

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float:
        script = self._scripts[len(self.asked) % len(self._scripts)]
        self.asked.append((utterance, tuple(earlier)))
        async for _ in _follow(script, script.steps):
            pass
        return script.answer
