"""A stage for turns: a session, an outbox and scripted models, without a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tests.unit.stand_ins import ScriptedChat, ScriptedClassifier, ScriptedModels
from yap.outbox import Outbox
from yap.protocol import Done, Error, SamplingOptions, ServerFrame, Token
from yap.session import Session
from yap.turn import Resources, Turn


class Stage(ScriptedModels):
    """A session, an outbox, and the models that its turns work with."""

    def __init__(
        self,
        resources: Resources,
        chat: ScriptedChat | None,
        classifier: ScriptedClassifier | None,
        outbox: Outbox,
    ) -> None:
        super().__init__(chat, classifier)
        self.resources = resources
        self.outbox = outbox
        self.session = Session("s")
        self.session.chat_prompt = "You are Mira."
        self.session.sampling = SamplingOptions(sanitize_output=False)
        self.frames: list[ServerFrame] = []
        self.task: asyncio.Task[None]

    def start(self, utterance: str = "hi") -> Turn:
        """A turn that runs."""
        turn = Turn(self.resources, self.session, utterance, self.outbox)
        self.frames = []
        self.task = turn.start()
        return turn

    async def read(self, until: type[ServerFrame]) -> None:
        """Take frames as the sender does, up to the first of this type."""
        while not (self.frames and isinstance(self.frames[-1], until)):
            async with asyncio.timeout(5):
                self.frames.append(await self.outbox.get())

    async def end(self) -> list[ServerFrame]:
        """Take all frames of the turn; nothing may follow its one `done`."""
        reader = asyncio.create_task(self.read(until=Done))
        async with asyncio.timeout(5):
            await asyncio.wait([self.task, reader], return_when=asyncio.FIRST_COMPLETED)
            await self.task
            await reader
        await asyncio.sleep(0)
        assert not self.outbox._frames, self.outbox._frames
        assert order(self.frames).count("Done") == 1, self.frames
        return self.frames

    async def play(self, utterance: str = "hi") -> list[ServerFrame]:
        """A whole turn."""
        self.start(utterance)
        return await self.end()

    @property
    def done(self) -> Done:
        assert isinstance(self.frames[-1], Done)
        return self.frames[-1]

    @property
    def error(self) -> Error:
        (error,) = [frame for frame in self.frames if isinstance(frame, Error)]
        return error

    @property
    def said(self) -> str:
        return "".join(frame.text for frame in self.frames if isinstance(frame, Token))

    @property
    def history(self) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in self.session.history.messages]


MakeStage = Callable[..., Stage]


def order(frames: Sequence[ServerFrame]) -> list[str]:
    return [type(frame).__name__ for frame in frames]
