"""Settings of the WebSocket."""

from yap.setting_groups.group import Group
from yap.setting_kinds import CloseCode, CloseReason, Sentinel, number, setting

_CLOSE_CODE = "a WebSocket close code: 1000-1003, 1007-1014 or 3000-4999"
_SENTINEL = "1 to 64 printable characters that do not start with {"


class WebSocketSettings(Group):
    """Frames, waiting times, and how connections close."""

    title = "WebSocket"

    ws_idle_timeout_s: float = number(
        150, 1, 86_400, "seconds", "Time without a message from the client before it is closed."
    )
    ws_watchdog_tick_s: float = number(
        5, 0.05, 600, "seconds", "How often idleness is looked at; a close may be this much late."
    )
    ws_handshake_acquire_timeout_s: float = number(
        0.5, 0, 60, "seconds", "How long a new connection waits for a place before it is refused."
    )
    ws_max_frame_bytes: int = number(
        1_048_576, 1024, 16_777_216, "bytes", "Longest frame taken from a client."
    )
    http_max_body_bytes: int = number(
        4_194_304, 1024, 268_435_456, "bytes", "Longest HTTP body taken from a client."
    )
    ws_send_queue_max: int = number(
        512, 8, 100_000, "frames", "Frames waiting for a client that reads slowly."
    )
    ws_send_timeout_s: float = number(
        10, 0.1, 600, "seconds", "Time a client has to read before it is closed as too slow."
    )
    ws_max_sessions_per_connection: int = number(
        8,
        1,
        1000,
        "sessions",
        "Sessions of one connection; over it, the one used longest ago is let go.",
    )
    ws_end_sentinel: Sentinel = setting(
        "__END__", "Frame that ends the connection, beside the end message.", allowed=_SENTINEL
    )
    ws_cancel_sentinel: Sentinel = setting(
        "__CANCEL__", "Frame that cancels the turn, beside the cancel message.", allowed=_SENTINEL
    )
    ws_close_unauthorized_code: CloseCode = setting(
        1008, "Sent when the key is missing or wrong, or a start is refused.", allowed=_CLOSE_CODE
    )
    ws_close_busy_code: CloseCode = setting(
        1013, "Sent when every place is taken.", allowed=_CLOSE_CODE
    )
    ws_close_idle_code: CloseCode = setting(
        4000, "Sent when the client was idle too long.", allowed=_CLOSE_CODE
    )
    ws_close_client_request_code: CloseCode = setting(
        1000, "Sent when the client asked to end.", allowed=_CLOSE_CODE
    )
    ws_close_idle_reason: CloseReason = setting(
        "idle_timeout",
        "Reason sent with WS_CLOSE_IDLE_CODE.",
        allowed="text of up to 123 bytes in UTF-8",
    )
