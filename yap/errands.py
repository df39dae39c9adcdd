"""What a client may ask for beside its turns: warm-ups, and another persona.

Errands of one connection run one after another, in tasks, so that the receive loop goes on
reading. Each answers with a frame of its own; a cancelled one is answered by the cancel's `done`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal

from yap.errors import (
    EngineFailed,
    RateLimited,
    RequestError,
    ServerError,
    TurnTimeout,
    YapError,
)
from yap.history import Message, parse_transcript
from yap.outbox import Outbox
from yap.protocol import (
    ChatPrompt,
    ChatPromptAck,
    Envelope,
    Error,
    ErrorCode,
    ProtocolError,
    ServerFrame,
    Warmed,
    WarmHistory,
    WarmPersona,
    read,
)
from yap.session import Owner, Session

if TYPE_CHECKING:
    from yap.chat.engine import ChatEngine
    from yap.server import Server

log = logging.getLogger(__name__)

_MOST_WAITING = 8

Work = Callable[[], Awaitable[None]]
Refusal = Callable[[YapError | ProtocolError], ServerFrame]


def _error_frame(error: YapError | ProtocolError) -> Error:
    return Error(error_code=error.code, message=error.message)


class Errands:
    """The errands of one connection."""

    def __init__(self, server: Server, outbox: Outbox, owner: Owner, tenant: bytes) -> None:
        """
        Args:
            owner: the connection; a session that it has lost meanwhile is let alone.
            tenant: whose connection it is; see `KeyRing.check`.
        """
        self._server = server
        self._outbox = outbox
        self._owner = owner
        self._tenant = tenant
        self._tasks: list[asyncio.Task[None]] = []

    async def stop(self) -> None:
        """Drop what runs and what waits; returns once nothing of it is left."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, envelope: Envelope, session: Session | None) -> None:
        """Begin what `envelope` asks for, on behalf of `session`, the connection's own.

        Raises:
            ProtocolError, YapError: it is refused; nothing was begun.
        """
        match envelope.type:
            case "warm_persona":
                self._warm_persona(envelope)
            case "warm_history":
                self._warm_history(envelope, session)
            case "chat_prompt" if session is not None:
                self._change_persona_later(envelope, session)
            case _:
                raise ValueError(f"{envelope.type} is no errand of {session}")

    def _warm_persona(self, envelope: Envelope) -> None:
        """Read a persona into the prefix cache."""
        chat = self._server.require_chat()
        message = read(WarmPersona, self._server.with_persona(envelope), self._server.start_rules)
        prompt = message.chat_prompt or ""

        async def work() -> None:
            await chat.admit(prompt, "")
            await self._warm(chat, prompt)
            await self._outbox.put(Warmed(segment="persona_static", bytes=len(prompt)))

        self._add(work)

    def _warm_history(self, envelope: Envelope, session: Session | None) -> None:
        """Read a transcript into the prefix cache, behind the persona of `session`."""
        chat = self._server.require_chat()
        message = read(WarmHistory, envelope, self._server.start_rules)
        persona = session.chat_prompt if session is not None else None

        async def work() -> None:
            await self._warm(chat, persona, parse_transcript(message.history_text))
            await self._outbox.put(Warmed(segment="history", bytes=len(message.history_text)))

        self._add(work)

    def _change_persona_later(self, envelope: Envelope, session: Session) -> None:
        """Give `session` another persona from its next turn on; always answered with an ack."""
        asked_after = session.starts

        async def work() -> None:
            await self._outbox.put(await self._change_persona(envelope, session, asked_after))

        self._add(work, _persona_refusal)

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
        await self._warm(chat, message.chat_prompt)
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

    async def _warm(
        self, chat: ChatEngine, persona: str | None, messages: Sequence[Message] = ()
    ) -> None:
        salt = self._server.resources.salts.of(self._tenant, persona)
        await chat.warm(persona, messages, f"warm-{uuid.uuid4().hex}", salt)

    def _add(self, work: Work, refusal: Refusal = _error_frame) -> None:
        """Do `work` after what waits already; if it fails, `refusal` makes the answer."""
        self._tasks = [task for task in self._tasks if not task.done()]
        if len(self._tasks) >= _MOST_WAITING:
            raise RateLimited(
                "Too many warm-ups wait already; try again in a moment.",
                ErrorCode.MESSAGE_RATE_LIMITED,
                1,
            )
        before = self._tasks[-1] if self._tasks else None
        self._tasks.append(asyncio.create_task(self._run(work, refusal, before), name="errand"))

    async def _run(self, work: Work, refusal: Refusal, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            async with asyncio.timeout(self._server.settings.gen_timeout_s):
                await work()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - `_told` logs
            task = asyncio.current_task()
            if task is None or task.cancelling():
                # Its cancel has an answer already, whatever the engine makes of it.
                raise asyncio.CancelledError from None
            await self._outbox.put(refusal(_told(error)))


def _told(error: BaseException) -> YapError | ProtocolError:
    """What the client is told of `error`; what is not expected goes to the log."""
    match error:
        case YapError() | ProtocolError():
            return error
        case TimeoutError():
            return TurnTimeout("It took too long; try again.")
        case asyncio.CancelledError():  # the engine's own work was cancelled under it
            return EngineFailed("It was given up; try again.")
    log.error("An errand failed", exc_info=error)
    return ServerError("It failed; try again.")


def _persona_refusal(error: YapError | ProtocolError) -> ChatPromptAck:
    code: Literal[400, 413, 429, 500] = 400
    if isinstance(error, RateLimited):
        code = 429
    elif error.code is ErrorCode.CHAT_PROMPT_TOO_LONG:
        code = 413
    elif isinstance(error, ServerError):
        code = 500
    return ChatPromptAck(
        ok=False,
        code=code,
        message=error.message,
        error_code=error.code,
        retry_in=error.retry_in if isinstance(error, RateLimited) else None,
    )
