"""What a client may ask for beside its turns: warm-ups, and another persona.

Errands of one connection run one after another, in tasks, so that the receive loop goes on
reading. Each answers with a frame of its own; a cancelled one is answered by the cancel's `done`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from yap.errors import EngineFailed, RateLimited, RequestError, ServerError, YapError
from yap.history import parse_transcript
from yap.outbox import Outbox
from yap.protocol import (
    ChatPrompt,
    ChatPromptAck,
    Envelope,
    Error,
    ErrorCode,
    ProtocolError,
    Warmed,
    WarmHistory,
    WarmPersona,
    read,
)
from yap.session import Owner, Session

if TYPE_CHECKING:
    from yap.server import Server

log = logging.getLogger(__name__)

_MOST_WAITING = 8


class Errands:
    """The errands of one connection."""

    def __init__(self, server: Server, outbox: Outbox, owner: Owner) -> None:
        """
        Args:
            owner: the connection; a session that it has lost meanwhile is let alone.
        """
        self._server = server
        self._outbox = outbox
        self._owner = owner
        self._tasks: list[asyncio.Task[None]] = []

    async def stop(self) -> None:
        """Drop what runs and what waits; returns once nothing of it is left."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def warm_persona(self, envelope: Envelope) -> None:
        """Read a persona into the prefix cache.

        Raises:
            ProtocolError, YapError: it is refused; nothing was begun.
        """
        chat = self._server.require_chat()
        message = read(WarmPersona, self._server.with_persona(envelope), self._server.start_rules)
        prompt = message.chat_prompt or ""

        async def work() -> None:
            await chat.admit(prompt, "")
            await chat.warm(prompt, (), f"warm-{uuid.uuid4().hex}")
            await self._outbox.put(Warmed(segment="persona_static", bytes=len(prompt)))

        self._add(work)

    def warm_history(self, envelope: Envelope, session: Session | None) -> None:
        """Read a transcript into the prefix cache, behind the persona of `session`.

        Raises:
            ProtocolError, YapError: it is refused; nothing was begun.
        """
        chat = self._server.require_chat()
        message = read(WarmHistory, envelope, self._server.start_rules)
        persona = session.chat_prompt if session is not None else None

        async def work() -> None:
            await chat.warm(
                persona, parse_transcript(message.history_text), f"warm-{uuid.uuid4().hex}"
            )
            await self._outbox.put(Warmed(segment="history", bytes=len(message.history_text)))

        self._add(work)

    def change_persona(self, envelope: Envelope, session: Session | None) -> None:
        """Give `session` another persona from its next turn on; always answered with an ack.

        Raises:
            YapError: there is no session.
        """
        if session is None:
            raise RequestError("There is no session yet; send start first.", ErrorCode.NO_SESSION)

        asked_after = session.starts

        async def work() -> None:
            try:
                answer = await self._change_persona(envelope, session, asked_after)
                await self._outbox.put(answer)
            except (ProtocolError, RequestError) as error:
                await self._outbox.put(_persona_refusal(error))

        self._add(work)

    async def _change_persona(
        self, envelope: Envelope, session: Session, asked_after: int
    ) -> ChatPromptAck:
        server = self._server
        chat = server.require_chat()
        message = read(ChatPrompt, server.with_persona(envelope), server.start_rules)
        await chat.admit(message.chat_prompt, "")
        if session.persona_is(message):
            return ChatPromptAck(ok=True, code=204, message="no change")
        session.persona_changes.hit()
        await chat.warm(message.chat_prompt, (), f"warm-{uuid.uuid4().hex}")
        if session.owner is not self._owner:
            raise RequestError("Another connection has the session now.", ErrorCode.NO_SESSION)
        if session.starts != asked_after:  # a later start has said who the assistant is
            return ChatPromptAck(ok=True, code=204, message="no change")
        session.change_persona(message)
        return ChatPromptAck(
            ok=True,
            code=200,
            message="updated",
            gender=message.gender,
            personality=message.personality,
        )

    def _add(self, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        if len(self._tasks) >= _MOST_WAITING:
            raise RateLimited(
                "Too many warm-ups wait already; try again in a moment.",
                ErrorCode.MESSAGE_RATE_LIMITED,
                1,
            )
        before = self._tasks[-1] if self._tasks else None
        self._tasks.append(asyncio.create_task(self._run(work, before), name="errand"))

    async def _run(
        self, work: Callable[[], Awaitable[None]], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            async with asyncio.timeout(self._server.settings.gen_timeout_s):
                await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            known = EngineFailed("It was given up; try again.")
            await self._outbox.put(Error(error_code=known.code, message=known.message))
        except (YapError, TimeoutError) as error:
            told = error if isinstance(error, YapError) else ServerError("It took too long.")
            await self._outbox.put(Error(error_code=told.code, message=told.message))
        except Exception:
            log.exception("An errand failed")
            await self._outbox.put(
                Error(error_code=ErrorCode.INTERNAL_ERROR, message="It failed; try again.")
            )


def _persona_refusal(error: ProtocolError | RequestError) -> ChatPromptAck:
    code: Literal[400, 413, 429] = 400
    retry_in = None
    if isinstance(error, RateLimited):
        code, retry_in = 429, error.retry_in
    elif error.code is ErrorCode.CHAT_PROMPT_TOO_LONG:
        code = 413
    return ChatPromptAck(
        ok=False, code=code, message=error.message, error_code=error.code, retry_in=retry_in
    )
