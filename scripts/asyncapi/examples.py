"""Examples of every message, as one conversation would have them."""

from __future__ import annotations

from scripts.asyncapi.schemas import Schema
from yap import protocol
from yap.protocol import ErrorCode, ServerFrame

TURN_ID = "d0055f5e6ac54e2f9a3b1c7d8e9f0a1b"
PERSONA = "You are Anna, a warm and friendly companion who talks with people by voice."

CLIENT_EXAMPLES: dict[str, list[Schema]] = {
    "Start": [
        {
            "type": "start",
            "session_id": "s1",
            "gender": "female",
            "personality": "friendly",
            "personalities": {"friendly": ["warm", "kind"], "calm": []},
            "chat_prompt": PERSONA,
            "sampling": {"temperature": 0.8, "top_k": "40"},
            "history": [{"role": "user", "content": "Good morning!"}],
            "user_utterance": "Can you look at my screen?",
        },
        {"type": "start", "session_id": 7, "persona": "anna", "user_utterance": "Hello!"},
    ],
    "Followup": [{"type": "followup", "analysis_text": "A half finished crossword puzzle."}],
    "ChatPrompt": [
        {"type": "chat_prompt", "gender": "female", "personality": "calm", "chat_prompt": PERSONA},
        {"type": "chat_prompt", "persona": "june"},
    ],
    "WarmPersona": [{"type": "warm_persona", "chat_prompt": PERSONA}],
    "WarmHistory": [{"type": "warm_history", "history_text": "User: Hi!\nAssistant: Hello!"}],
    "Cancel": [
        {"type": "cancel"},
        {"type": "cancel", "request_id": "r1", "heard_chars": 9},
        {"cancel": True},
    ],
    "Ping": [{"type": "ping"}],
    "ClientPong": [{"type": "pong"}],
    "End": [{"type": "end"}, {"end": True}],
}


def server_examples() -> list[ServerFrame]:
    """Frames of one conversation, made by the models that the server sends."""
    full = protocol.Capacity(active=32, max=32, available=0, at_capacity=True)
    usage = protocol.Usage(prompt_tokens=53, cached_tokens=32, completion_tokens=12)
    timings = protocol.Timings(toolcall_ms=10.8, ttft_ms=28.9, total_ms=60.1)
    return [
        protocol.StartAck(
            session_id="s1",
            now="2026-11-22T11:48:56+00:00 (Morning)",
            gender="female",
            personality="friendly",
            chat_prompt=True,
            turn_id=TURN_ID,
        ),
        protocol.ToolCall(status="no", raw=[], turn_id=TURN_ID),
        protocol.ToolCall(
            status="yes", raw=[protocol.ControlFunction(name="take_screenshot")], turn_id=TURN_ID
        ),
        protocol.Token(text="Hi", turn_id=TURN_ID),
        protocol.Final(normalized_text="Hi there!", turn_id=TURN_ID),
        protocol.Done(usage=usage, turn_id=TURN_ID, finish_reason="stop", timings=timings),
        protocol.Done(cancelled=True, request_id="r1"),
        protocol.ChatPromptAck(
            ok=True, code=200, message="updated", gender="female", personality="calm"
        ),
        protocol.ChatPromptAck(ok=True, code=204, message="no change"),
        protocol.Warmed(segment="persona_static", bytes=len(PERSONA)),
        protocol.Error(error_code=ErrorCode.NO_SESSION, message="Send start first."),
        protocol.Error(
            error_code=ErrorCode.SERVER_AT_CAPACITY, message="The server is full.", capacity=full
        ),
        protocol.Error(
            error_code=ErrorCode.MESSAGE_RATE_LIMITED, message="Too many messages.", retry_in=12
        ),
        protocol.Pong(),
        protocol.ConnectionClosed(reason="client_request"),
    ]
