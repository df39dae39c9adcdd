"""One WebSocket: the handshake, the receive loop, the sender, the idle watchdog.

The receive loop never waits for a turn: turns run in tasks, so that cancel, ping and barge-in
are read at once. Sender, receiver and watchdog run side by side; the first to finish says how
the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from yap.access import key_from_websocket
from yap.admission import SlidingWindow
from yap.deadline import Deadline
from yap.errands import Errands
from yap.errors import AtCapacity, RateLimited, RequestError, Unauthenticated, YapError
from yap.history import Heard
from yap.outbox import Outbox
from yap.protocol import (
    Cancel,
    Capacity,
    CloseCode,
    ConnectionClosed,
    Done,
    Envelope,
    Error,
    ErrorCode,
    Followup,
    Pong,
    ProtocolError,
    Start,
    StartAck,
    parse,
    read,
    read_start,
)
from yap.session import Session
from yap.states import MESSAGES, ConnectionState, Does, Limit
from yap.turn import Turn
from yap.websocket import write_text_of

if TYPE_CHECKING:
    from yap.server import Server

log = logging.getLogger(__name__)

# What sending to, or accepting, a client that has gone raises, by the server that is asked.
_GONE = (WebSocketDisconnect, RuntimeError, OSError)
# Refused, but no reason to hang up: nothing says that the client meant this session at all.
_LIVES_ON = frozenset({ErrorCode.MISSING_SESSION_ID, ErrorCode.INVALID_SESSION_ID})
# Refused by what only the server knows, such as its tokenizer.
_ABOUT_CONTENT = frozenset(
    {
        ErrorCode.CHAT_PROMPT_TOO_LONG,
        ErrorCode.UNKNOWN_PERSONA,
        ErrorCode.INVALID_LOGIT_BIAS,
    }
)


@dataclass(frozen=True, slots=True)
class Close:
    """How a connection is to be closed."""

    code: int
    reason: str = ""


async def serve(websocket: WebSocket, server: Server) -> None:
    """Let a client in, or tell him why not, and talk with him until the connection ends."""
    settings = server.settings
    try:
        tenant = server.keys.check(key_from_websocket(websocket.query_params, websocket.headers))
        async with server.admission.permit():
            server.metrics.connections.set(server.admission.active)
            try:
                await websocket.accept()
            except _GONE:
                return
            await Connection(websocket, server, tenant).run()
    except Unauthenticated as error:
        await _refuse(websocket, server, error, settings.ws_close_unauthorized_code)
    except YapError as error:
        await _refuse(websocket, server, error, settings.ws_close_busy_code)
    finally:
        server.metrics.connections.set(server.admission.active)


async def _refuse(websocket: WebSocket, server: Server, error: YapError, code: int) -> None:
    # A close code reaches the client only after the handshake is accepted.
    server.metrics.refusals.labels(error.code).inc()
    try:
        async with asyncio.timeout(server.settings.ws_send_timeout_s):
            await websocket.accept()
            await websocket.send_text(_error_frame(error).encode())
            await websocket.close(code)
    except (TimeoutError, *_GONE):
        log.debug("A refused client left before it was told why")


def _error_frame(error: YapError | ProtocolError) -> Error:
    capacity = None
    if isinstance(error, AtCapacity):
        free = max(0, error.limit - error.active)
        capacity = Capacity(
            active=error.active, max=error.limit, available=free, at_capacity=free == 0
        )
    return Error(
        error_code=error.code,
        message=error.message,
        retry_in=error.retry_in if isinstance(error, RateLimited) else None,
        capacity=capacity,
    )


class Connection:
    """The conversation over one accepted WebSocket."""

    def __init__(self, websocket: WebSocket, server: Server, tenant: bytes) -> None:
        """
        Args:
            tenant: whose sessions this connection may use; see `KeyRing.check`.
        """
        settings = server.settings
        self._websocket = websocket
        self._server = server
        self._settings = settings
        self._tenant = tenant
        self._claims: list[Session] = []  # the one in use last
        self._outbox = Outbox(settings.ws_send_queue_max, write_text_of(websocket.scope))
        self._errands = Errands(server, self._outbox, self, tenant)
        self._turn: Turn | None = None
        self._turn_task: asyncio.Task[None] | None = None
        self._closing = False
        self._last_message = server.clock()
        self._messages = SlidingWindow(
            settings.ws_max_messages_per_window,
            settings.ws_message_window_seconds,
            ErrorCode.MESSAGE_RATE_LIMITED,
            server.clock,
        )
        self._cancels = SlidingWindow(
            settings.max_cancels_per_window,
            settings.cancel_window_seconds,
            ErrorCode.CANCEL_RATE_LIMITED,
            server.clock,
        )

    async def run(self) -> None:
        """Serve until the client leaves, falls silent, stops reading, or asks to end."""
        sender = _owned(self._send_loop(), "ws-send")
        # Nobody sends any more: whoever waits for room in the queue must not wait for ever.
        sender.add_done_callback(lambda _: self._outbox.close())
        others = [_owned(self._receive_loop(), "ws-receive"), _owned(self._watch_idle(), "ws-idle")]
        try:
            done, _ = await asyncio.wait([sender, *others], return_when=asyncio.FIRST_COMPLETED)
            self._closing = True
            close = _how_to_close(done)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._finish_turn()
            if close is not None:
                await self._close(close, sender)
        finally:
            self._outbox.close()
            for task in (sender, *others):
                task.cancel()
            await asyncio.gather(sender, *others, return_exceptions=True)
            await self._errands.stop()
            await self._finish_turn()
            for session in self._claims:
                self._server.sessions.release(session, self)

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands; what it may do then is in `yap.states`."""
        if self._closing:
            return ConnectionState.CLOSING
        if self._turn_task is not None and not self._turn_task.done():
            return ConnectionState.TURN
        return ConnectionState.IDLE if self._claims else ConnectionState.NEW

    # --- out ------------------------------------------------------------------------------

    async def _send_loop(self) -> Close | None:
        """Send what could not be written at once."""
        now, deadline = asyncio.get_running_loop().time, Deadline()
        try:
            while True:
                frame = await self._outbox.get()
                with deadline.until(now() + self._settings.ws_send_timeout_s):
                    await self._websocket.send_text(frame.encode())
        except TimeoutError:
            return Close(CloseCode.SLOW_CLIENT, "slow_client")
        except _GONE:
            return None
        finally:
            deadline.close()

    async def _close(self, close: Close, sender: asyncio.Task[Close | None]) -> None:
        """Send what is still queued, then close."""
        try:
            async with asyncio.timeout(self._settings.ws_send_timeout_s):
                if not sender.done():
                    await self._outbox.drained()
                if sender.done():  # not all was sent, so this is not the end it seemed to be
                    close = _how_to_close({sender}) or close
                await self._websocket.close(close.code, close.reason)
        except (TimeoutError, *_GONE):
            log.debug("The client left before the connection was closed")

    # --- in -------------------------------------------------------------------------------

    async def _receive_loop(self) -> Close | None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            try:
                close = await self._on_frame(message.get("text"))
            except (YapError, ProtocolError) as error:
                await self._answer_refusal(error)
                continue
            if close is not None:
                return close

    async def _answer_refusal(self, error: YapError | ProtocolError) -> None:
        self._server.metrics.refusals.labels(error.code).inc()
        await self._outbox.put(_error_frame(error))

    async def _on_frame(self, text: str | None) -> Close | None:
        received = time.perf_counter()
        try:
            if text is None:
                raise ProtocolError(
                    ErrorCode.INVALID_MESSAGE, "Binary frames are not understood; send text."
                )
            envelope = parse(
                text,
                cancel_sentinel=self._settings.ws_cancel_sentinel,
                end_sentinel=self._settings.ws_end_sentinel,
            )
        except ProtocolError:
            self._messages.hit()  # rubbish is not free
            raise
        self._last_message = self._server.clock()
        return await self._on_message(envelope, received)

    async def _on_message(self, envelope: Envelope, received: float) -> Close | None:
        """Do what the state machine says; see `yap.states`."""
        rule = MESSAGES.get(envelope.type)
        if rule is None:
            self._messages.hit()
            raise ProtocolError(
                ErrorCode.UNKNOWN_MESSAGE_TYPE,
                f"This message type is not known; use one of {', '.join(MESSAGES)}.",
            )
        self._count(rule.limit)
        if rule.accepting:
            self._server.check_accepting()
        if rule.chat:
            self._server.require_chat()
        match rule.does[self.state]:
            case Does.NO_SESSION:
                raise RequestError(
                    "There is no session yet; send start first.", ErrorCode.NO_SESSION
                )
            case Does.BEGIN | Does.REPLACE if envelope.type == "start":
                return await self._on_start(envelope, received)
            case Does.BEGIN | Does.REPLACE:
                await self._on_followup(envelope, received)
            case Does.ERRAND:
                self._errands.begin(envelope, self._session)
            case Does.STOP | Does.STOP_NOTHING:
                await self._on_cancel(envelope)
            case Does.PONG:
                await self._outbox.put(Pong())
            case Does.LEAVE | Does.LEAVE_TURN:
                return await self._on_end()
            case Does.NOTHING:
                pass
        return None

    def _count(self, limit: Limit) -> None:
        match limit:
            case Limit.MESSAGES:
                self._messages.hit()
            case Limit.CANCELS:
                self._cancels.hit()
            case Limit.NONE:
                pass

    async def _on_start(self, envelope: Envelope, received: float) -> Close | None:
        server = self._server
        try:
            start = read_start(server.with_persona(envelope), server.start_rules)
            utterance = await server.admit(start.chat_prompt, start.user_utterance, start.sampling)
        except (ProtocolError, YapError) as error:
            if not _ends_connection(error):
                raise
            await self._answer_refusal(error)
            return Close(self._settings.ws_close_unauthorized_code)
        server.check_accepting()  # again: the server may have begun to drain meanwhile
        await self._finish_turn()
        # From here to the turn's start nothing else runs, so that no two turns share a session.
        session = await self._claim(start.session_id)
        session.history.keep_heard(Heard(start.heard_chars, start.heard_text))
        session.configure(start)
        turn = Turn(server.resources, session, utterance, self._outbox, received)
        turn.opening = _ack(session, start, turn)
        self._turn, self._turn_task = turn, server.own(turn.start())
        return None

    async def _claim(self, session_id: str | int | float) -> Session:
        """The session, taken over from whatever connection has it now."""
        session = self._server.sessions.open(self._tenant, session_id)
        while session.owner is not None and session.owner is not self:
            await session.owner.lose(session)
        session.owner = self
        if session in self._claims:
            self._claims.remove(session)
        self._claims.append(session)
        if len(self._claims) > self._settings.ws_max_sessions_per_connection:
            self._server.sessions.release(self._claims.pop(0), self)
        return session

    async def lose(self, session: Session) -> None:
        """Another connection of the same client takes `session` over; called by that one."""
        if self._turn is not None and self._turn.session is session:
            self._turn.cancel()
            await self._turn.settled.wait()
        if session.owner is self:
            self._server.sessions.release(session, self)
            self._claims.remove(session)
            told = Error(
                error_code=ErrorCode.SESSION_TAKEN_OVER,
                message="Another connection has this session now; send start to take it back.",
                session_id=session.session_id,
            )
            # Not waited for: this client may read slowly, and that one is in a hurry.
            self._server.own(asyncio.create_task(self._outbox.put(told), name="taken-over"))

    async def _on_followup(self, envelope: Envelope, received: float) -> None:
        """A turn about what the client saw on the screen; no decision comes before it."""
        server, session = self._server, self._claims[-1]
        message = read(Followup, envelope, server.start_rules)
        prefix = session.screen_checked_prefix or self._settings.screen_checked_prefix
        utterance = await server.admit(None, f"{prefix} {message.analysis_text}")
        server.check_accepting()  # as in _on_start
        await self._finish_turn()
        if session.owner is not self:
            raise RequestError("Another connection has the session now.", ErrorCode.NO_SESSION)
        turn = Turn(server.resources, session, utterance, self._outbox, received, routed=False)
        self._turn, self._turn_task = turn, server.own(turn.start())

    async def _on_cancel(self, envelope: Envelope) -> None:
        message = read(Cancel, envelope, self._server.start_rules)
        answered = self._turn is not None and self._turn.cancel(envelope.request_id)
        await self._errands.stop()
        await self._finish_turn()
        if (session := self._session) is not None:
            session.history.keep_heard(Heard(message.heard_chars, message.heard_text))
        if not answered:  # nothing was running that its own `done` would have answered for
            await self._outbox.put(Done(cancelled=True, request_id=envelope.request_id))

    async def _on_end(self) -> Close:
        await self._errands.stop()
        await self._finish_turn()
        await self._outbox.put(ConnectionClosed(reason="client_request"))
        return Close(self._settings.ws_close_client_request_code)

    @property
    def _session(self) -> Session | None:
        """The session of the last start, unless another connection has taken it over."""
        return self._claims[-1] if self._claims else None

    async def _finish_turn(self) -> None:
        """Stop the running turn, if there is one, and wait until its `done` is queued."""
        if self._turn is not None and self._turn_task is not None:
            self._turn.cancel()
            if not self._turn_task.done():
                await asyncio.wait([self._turn_task])
        self._turn = self._turn_task = None

    async def _watch_idle(self) -> Close:
        while True:
            await asyncio.sleep(self._settings.ws_watchdog_tick_s)
            if self._server.clock() - self._last_message >= self._settings.ws_idle_timeout_s:
                return Close(self._settings.ws_close_idle_code, self._settings.ws_close_idle_reason)


def _ack(session: Session, start: Start, turn: Turn) -> StartAck:
    return StartAck(
        session_id=session.session_id,
        now=session.now,
        gender=start.gender,
        personality=start.personality,
        chat_prompt=session.chat_prompt is not None,
        turn_id=turn.id,
    )


def _ends_connection(error: YapError | ProtocolError) -> bool:
    """Whether a refused `start` closes the connection: it does when its content is at fault."""
    if isinstance(error, ProtocolError):
        return error.code not in _LIVES_ON
    return error.code in _ABOUT_CONTENT


def _owned(work: Coroutine[Any, Any, Close | None], name: str) -> asyncio.Task[Close | None]:
    return asyncio.create_task(work, name=name)


def _how_to_close(done: set[asyncio.Task[Close | None]]) -> Close | None:
    """What the finished tasks say; a bug in one of them closes with an error code."""
    close: Close | None = None
    for task in done:
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            log.error("A connection failed", exc_info=error)
            return Close(CloseCode.INTERNAL_ERROR)
        close = close or task.result()
    return close
