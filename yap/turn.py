"""One turn: decide about the screen, generate the reply, stream it, stop it.

A turn is a task. Whatever happens to it, it ends with exactly one `done` frame, and nothing of
it follows that frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal

from yap.ahead import Ahead
from yap.chat.engine import ChatEngine, Piece
from yap.chat.salts import CacheSalts
from yap.deadline import Deadline
from yap.errors import EngineFailed, ServerError, TurnTimeout, YapError
from yap.history import CHARS_PER_TOKEN, overflow
from yap.metrics import Metrics
from yap.outbox import Outbox
from yap.protocol import Done, Error, Final, ServerFrame, Timings, ToolCall, Usage
from yap.sanitize import Sanitizer
from yap.screen.router import ScreenRouter
from yap.session import Session
from yap.settings import Settings
from yap.states import TurnEvent, TurnLife, TurnState

log = logging.getLogger(__name__)

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a turn works with. Chat or router is None where it is not deployed."""

    settings: Settings
    metrics: Metrics
    chat: ChatEngine | None
    router: ScreenRouter | None
    salts: CacheSalts = field(default_factory=CacheSalts)


class Turn:
    """One utterance of the user and what the server makes of it."""

    def __init__(
        self,
        resources: Resources,
        session: Session,
        utterance: str,
        outbox: Outbox,
        started: float | None = None,
        *,
        routed: bool = True,
    ) -> None:
        """
        Args:
            utterance: within its budget already; see `ChatEngine.admit`.
            started: `time.perf_counter()` when the request came in; now, if not given.
            routed: whether the screen decision comes first; a followup has it behind it.
        """
        self.id = uuid.uuid4().hex
        self._resources = resources
        self.session = session
        # What the session says now; it may change while the turn runs.
        self._persona = session.chat_prompt
        self._cache_salt = resources.salts.of(session.tenant, session.chat_prompt)
        self._sampling = session.sampling
        self._personalities = session.personalities
        self._check_screen_prefix = (
            session.check_screen_prefix or resources.settings.check_screen_prefix
        )
        self._utterance = utterance
        self._outbox = outbox
        self._routed = routed
        self._started = time.perf_counter() if started is None else started
        self._task: asyncio.Task[None] | None = None
        self._life = TurnLife()
        self._cancel_request_id: str | None = None
        self._revoked = ""  # what was sent, and taken back before the client got it
        self._early: Ahead[Piece] | None = None  # begun before the decision
        self.opening: ServerFrame | None = None  # sent before all else, also by a cancelled turn
        self.settled = asyncio.Event()  # the history holds what came of the turn
        self._sent: list[str] = []
        self._last: Piece | None = None
        self._toolcall_ms: float | None = None
        self._ttft_ms: float | None = None

    def start(self) -> asyncio.Task[None]:
        """Run the turn in a task of its own; the caller owns it."""
        self._task = asyncio.create_task(self._run(), name=f"turn-{self.id}")
        return self._task

    def cancel(self, request_id: str | None = None) -> bool:
        """Stop the turn at once. Its `done` follows; await the task to be sure of that.

        Returns:
            False if it was ending already, or had been cancelled before.
        """
        if self._task is None:
            return False
        has_run = self._life.state is not TurnState.WAITING
        if not self._life.on(TurnEvent.CANCEL):
            return False
        self._cancel_request_id = request_id
        self._revoked = self._outbox.discard_tokens(self.id)
        # A task that never ran would be cancelled without a trace; `_open` looks at the state.
        if has_run:
            self._task.cancel()
        return True

    async def _run(self) -> None:
        try:
            await self._live()
        finally:
            self.settled.set()

    async def _live(self) -> None:
        self._life.on(TurnEvent.RUN)
        reason: FinishReason = "error"
        try:
            reason = await self._play()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or (task.cancelling() and not self._life.stopping):
                raise  # the server goes down
            if self._life.stopping:
                # The cancellation has done its work; it must not interrupt what follows.
                task.uncancel()
                reason = "cancelled"
            else:  # a model's own work was cancelled under us
                reason = await self._failed(EngineFailed("The reply was given up; try again."))
        except Exception as error:  # noqa: BLE001 - `_failed` logs what is not expected
            reason = await self._failed(error)
        await self._end(reason)

    async def _failed(self, error: Exception) -> FinishReason:
        """Log what happened and tell the client, unless he has cancelled the turn anyway."""
        if not isinstance(error, YapError):
            log.error("Turn %s failed", self.id, exc_info=error)
            error = ServerError("The turn failed; try again.")
        elif isinstance(error, ServerError):
            log.warning("Turn %s: %s", self.id, error.message, exc_info=error.__cause__)
        if not self._life.on(TurnEvent.FAIL):
            return "cancelled"
        await self._outbox.put(Error(error_code=error.code, message=error.message, turn_id=self.id))
        return "error"

    async def _play(self) -> FinishReason:
        await self._open()
        router, chat = self._resources.router if self._routed else None, self._resources.chat
        reason: FinishReason = "stop"
        try:
            look = router is not None and await self._decide(router)
            if chat is not None:
                reason = await self._reply(chat, look=look)
        finally:
            if self._early is not None:
                await self._early.drop()
        self._stop_if_cancelled()
        await self._outbox.put(Final(normalized_text="".join(self._sent), turn_id=self.id))
        return reason

    async def _open(self) -> None:
        if self.opening is not None:
            await self._outbox.put(self.opening)
            self.opening = None
        self._stop_if_cancelled()

    def _stop_if_cancelled(self) -> None:
        """Models may swallow a cancellation, or turn it into an error of their own."""
        if self._life.stopping:
            raise asyncio.CancelledError

    async def _decide(self, router: ScreenRouter) -> bool:
        """Send the `toolcall`. True if the client is to capture the screen."""
        self._life.on(TurnEvent.ROUTE)
        decision = router.decide_at_once(self._utterance, self._personalities)
        if decision is None:
            earlier = self.session.history.user_lines()
            if self._resources.chat is not None and self._resources.settings.tool_overlap:
                # Most turns need no screenshot. Their reply is prefilled while that is found out.
                self._early = Ahead(self._pieces(self._resources.chat, self.id))
                await asyncio.sleep(0)  # it begins now, not when the classifier has been written to
            decision = await router.ask_classifier(self._utterance, earlier)
        self._stop_if_cancelled()
        self._toolcall_ms = self._elapsed_ms()
        self._resources.metrics.toolcall_seconds.observe(self._toolcall_ms / 1000)
        await self._outbox.put(
            ToolCall(status=decision.status, raw=list(decision.functions), turn_id=self.id)
        )
        return decision.asks_for_screen

    async def _reply(self, chat: ChatEngine, *, look: bool) -> FinishReason:
        self._life.on(TurnEvent.REPLY)
        reason: FinishReason = "stop"
        window = self._resources.settings.stream_flush_ms / 1000
        speech = _Coalescer(window) if window else None
        cleaner = None if self._sampling.sanitize_output is False else Sanitizer()
        async with contextlib.aclosing(await self._chosen(chat, look=look)) as pieces:
            async for piece in pieces:
                self._last = piece
                text = cleaner.feed(piece.text) if cleaner else piece.text
                await self._say(speech.add(text) if speech else text)
                if piece.finish_reason is not None:
                    reason = piece.finish_reason
        held = speech.rest() if speech else ""
        await self._say(held + (cleaner.finish() if cleaner else ""))
        return reason

    async def _chosen(self, chat: ChatEngine, *, look: bool) -> AsyncGenerator[Piece]:
        """The reply to be streamed: the one that has begun already, unless the screen is needed."""
        if self._early is None:
            return self._pieces(chat, self.id, look=look)
        self._resources.metrics.early_replies.labels("no" if look else "yes").inc()
        if not look:
            return self._early.items()
        await self._early.drop()
        # All of its prompt but the last message is in the prefix cache now.
        return self._pieces(chat, f"{self.id}-look", look=True)

    async def _pieces(
        self, chat: ChatEngine, request_id: str, *, look: bool = False
    ) -> AsyncGenerator[Piece]:
        """The model's reply to the utterance; with `look`, to one that says so."""
        history = self.session.history
        user = f"{self._check_screen_prefix} {self._utterance}" if look else self._utterance
        prompt = await chat.prepare(self._persona, history.messages, user.rstrip())
        history.drop(prompt.dropped)
        prompt = dataclasses.replace(prompt, cache_salt=self._cache_salt)
        stream = chat.stream(prompt, self._sampling, request_id)
        # One deadline for the first piece and one for all of them.
        settings, begun = self._resources.settings, asyncio.get_running_loop().time()
        whole = begun + settings.gen_timeout_s
        when, deadline = min(whole, begun + settings.first_token_timeout_s), Deadline()
        try:
            while True:
                try:
                    with deadline.until(when):
                        piece = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise TurnTimeout("The reply did not come in time; try again.") from None
                when = whole
                yield piece
        finally:
            deadline.close()
            await stream.aclose()

    async def _say(self, text: str) -> None:
        self._stop_if_cancelled()
        if not text:
            return
        await self._outbox.say(text, self.id)
        self._sent.append(text)  # only now: a cancellation may come while it waits for room
        if self._ttft_ms is None:
            self._ttft_ms = self._elapsed_ms()
            self._resources.metrics.ttft_seconds.observe(self._ttft_ms / 1000)

    async def _end(self, reason: FinishReason) -> None:
        self._life.on(TurnEvent.FINISH)
        cancelled = reason == "cancelled"
        said = "".join(self._sent)
        if cancelled:  # a piece may have found room just when it was cancelled
            said = said.removesuffix(self._outbox.discard_tokens(self.id))
            said = said.removesuffix(self._revoked)
        self._remember(said)
        self.settled.set()
        usage = self._usage()
        self._count(reason, usage)
        if self.opening is not None:  # it was cancelled while even that waited for room
            await self._outbox.put(self.opening)
        await self._outbox.put(
            Done(
                cancelled=True if cancelled else None,
                request_id=self._cancel_request_id,
                usage=usage,
                turn_id=self.id,
                finish_reason=reason,
                timings=Timings(
                    toolcall_ms=self._toolcall_ms,
                    ttft_ms=self._ttft_ms,
                    total_ms=self._elapsed_ms(),
                ),
            )
        )
        self._life.on(TurnEvent.DONE)

    def _remember(self, said: str) -> None:
        history = self.session.history
        history.append("user", self._utterance)
        history.append("assistant", said)
        if self._resources.chat is None:
            # No prompt is built that would trim it; bound it by characters.
            limit = self._resources.settings.tool_history_tokens * CHARS_PER_TOKEN
            history.drop(overflow(history.messages, limit, len))

    def _usage(self) -> Usage:
        if self._last is None:
            return Usage()
        prompt_tokens = max(0, self._last.prompt_tokens)
        return Usage(
            prompt_tokens=prompt_tokens,
            cached_tokens=min(max(0, self._last.cached_tokens), prompt_tokens),
            completion_tokens=max(0, self._last.completion_tokens),
        )

    def _count(self, reason: FinishReason, usage: Usage) -> None:
        metrics = self._resources.metrics
        metrics.turns.labels(reason).inc()
        metrics.turn_seconds.observe(self._elapsed_ms() / 1000)
        metrics.completion_tokens.inc(usage.completion_tokens)
        metrics.prompt_tokens.labels("yes").inc(usage.cached_tokens)
        metrics.prompt_tokens.labels("no").inc(usage.prompt_tokens - usage.cached_tokens)

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 2)


class _Coalescer:
    """Joins pieces that follow each other within `window` seconds."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._held: list[str] = []
        self._flushed = time.perf_counter()

    def add(self, text: str) -> str:
        """Take a piece; returns what is to be sent now, or nothing."""
        self._held.append(text)
        if time.perf_counter() - self._flushed < self._window:
            return ""
        return self.rest()

    def rest(self) -> str:
        """Everything that is held back."""
        text = "".join(self._held)
        self._held.clear()
        self._flushed = time.perf_counter()
        return text
