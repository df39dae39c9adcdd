"""Settings of a turn."""

from yap.setting_groups.group import Group
from yap.setting_kinds import number


class TurnSettings(Group):
    """How long the parts of a turn may take, and how its text is sent."""

    title = "Turn"

    stream_flush_ms: float = number(
        0, 0, 2000, "milliseconds", "Text is gathered this long before it is sent; 0 sends at once."
    )
    gen_timeout_s: float = number(60, 0.1, 3600, "seconds", "Time a reply may take in all.")
    first_token_timeout_s: float = number(
        30,
        0.1,
        3600,
        "seconds",
        "Time until a reply's first token, waiting for the engine included.",
    )
    tool_timeout_s: float = number(
        10, 0.05, 600, "seconds", "Time for the screen decision; after it the answer is no."
    )
    drain_timeout_s: float = number(
        20, 0, 600, "seconds", "Time that running turns have to end when the service stops."
    )
