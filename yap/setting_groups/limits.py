"""Settings of the rate limits."""

from yap.setting_groups.group import Group
from yap.setting_kinds import number


class LimitSettings(Group):
    """Rate limits over a sliding window. A window or a count of 0 turns the limit off."""

    title = "Limits"

    ws_message_window_seconds: float = number(
        60, 0, 86_400, "seconds", "Window of the message limit, which is for each connection."
    )
    ws_max_messages_per_window: int = number(
        25, 0, 1_000_000, "messages", "Messages in it; cancel, ping, pong and end are not counted."
    )
    ws_cancel_window_seconds: float | None = number(
        None,
        0,
        86_400,
        "seconds",
        "Window of the cancel limit, which is for each connection.",
        unset="WS_MESSAGE_WINDOW_SECONDS",
    )
    ws_max_cancels_per_window: int | None = number(
        None, 0, 1_000_000, "cancels", "Cancels in it.", unset="WS_MAX_MESSAGES_PER_WINDOW"
    )
    chat_prompt_update_window_seconds: float = number(
        60,
        0,
        86_400,
        "seconds",
        "Window of the persona limit, which is for each session.",
    )
    chat_prompt_update_max_per_window: int = number(
        4, 0, 1_000_000, "changes", "Persona changes in it."
    )
