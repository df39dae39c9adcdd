"""The HTTP endpoints' work: a turn as server-sent events, and a screen decision.

They carry the same frames and the same error codes as the WebSocket. A turn over HTTP keeps no
session: the caller sends the whole conversation each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from yap.errors import RequestError, YapError
from yap.history import MAX_CHARS_PER_TOKEN, History
from yap.history import Message as HistoryMessage
from yap.outbox import Outbox
from yap.protocol import (
    ControlFunction,
    Done,
    Error,
    ErrorCode,
    ProtocolError,
    SamplingOptions,
    ServerFrame,
    StartRules,
    first_problem,
)
from yap.screen.inputs import within_reach
from yap.server import Server
from yap.session import Session
from yap.text import clean_text
from yap.turn import Turn


class ChatMessage(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=1_000_000)]


class ScreenDecision(BaseModel):
    """Whether the client should capture the screen, and how sure the classifier is (0 to 1)."""

    status: Literal["yes", "no"]
    raw: list[ControlFunction]
    probability: float | None
    source: str


async def stream_turn(
    server: Server,
    messages: Sequence[ChatMessage],
    sampling: dict[str, Any] | None,
    set_status: Callable[[int], None],
    tenant: bytes = b"",
) -> AsyncGenerator[str]:
    """One turn, as server-sent events. The last one is `done`, or an error if nothing began.

    Args:
        messages: the conversation; a system message may come first, a user message is last.
        sampling: as in `start`.
        set_status: takes the HTTP status of a refusal, before its event is yielded.
        tenant: whose request it is; see `KeyRing.check`.
    """
    try:
        session, utterance = await _session_of(server, messages, sampling, tenant)
        async with server.admission.permit():
            outbox = Outbox(server.settings.ws_send_queue_max)
            turn = Turn(server.resources, session, utterance, outbox)
            task = server.own(turn.start())
            try:
                while True:
                    frame = await outbox.get()
                    yield _event(frame)
                    if isinstance(frame, Done):
                        break
            finally:
                outbox.close()
                turn.cancel()
                await asyncio.wait([task])
    except (ProtocolError, YapError) as error:
        set_status(error.http_status if isinstance(error, YapError) else 400)
        yield _event(Error(error_code=error.code, message=error.message))


def _event(frame: ServerFrame) -> str:
    return f"data: {frame.encode()}\n\n"


async def _session_of(
    server: Server,
    messages: Sequence[ChatMessage],
    sampling: dict[str, Any] | None,
    tenant: bytes,
) -> tuple[Session, str]:
    server.check_accepting()
    if messages[-1].role != "user":
        raise RequestError("The last message must be of the user.")
    persona = clean_text(messages[0].content) if messages[0].role == "system" else None
    earlier = messages[1 if persona is not None else 0 : -1]
    if any(message.role == "system" for message in earlier):
        raise RequestError("Only the first message may be of the system.")
    session = Session("http", tenant=tenant)
    session.chat_prompt = persona or None
    session.sampling = _sampling(sampling, server.start_rules)
    session.history = History(HistoryMessage(m.role, clean_text(m.content)) for m in earlier)
    utterance = clean_text(messages[-1].content, server.start_rules.utterance_max_chars)
    return session, await server.admit(session.chat_prompt, utterance, session.sampling)


def _sampling(sampling: dict[str, Any] | None, rules: StartRules) -> SamplingOptions:
    if not rules.chat or not sampling:
        return SamplingOptions()
    try:
        return SamplingOptions.model_validate(sampling, context=rules)
    except ValidationError as error:
        raise first_problem(error) from None


async def classify(server: Server, utterance: str, earlier: Sequence[str]) -> ScreenDecision:
    """The router's decision on `utterance` after the user's `earlier` lines.

    Raises:
        RequestError: `classifier_not_deployed`.
        YapError: the server is stopping, or its models are not ready.
    """
    router = server.resources.router
    if router is None:
        raise RequestError(
            "No screen classifier is deployed here (DEPLOY_MODELS=chat).",
            ErrorCode.CLASSIFIER_NOT_DEPLOYED,
        )
    server.check_accepting()
    most = server.settings.tool_max_length * MAX_CHARS_PER_TOKEN
    lines = within_reach(earlier, server.settings.tool_history_tokens)
    decision = await router.decide(
        clean_text(utterance, most), [clean_text(line, most) for line in lines]
    )
    return ScreenDecision(
        status=decision.status,
        raw=list(decision.functions),
        probability=decision.probability,
        source=decision.source,
    )
