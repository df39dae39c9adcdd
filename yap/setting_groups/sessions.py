"""Settings of the sessions."""

from yap.setting_groups.group import Group
from yap.setting_kinds import number


class SessionSettings(Group):
    """How long conversations are kept."""

    title = "Sessions"

    session_idle_ttl_seconds: float = number(
        1800,
        0,
        2_592_000,
        "seconds",
        "Time that an idle session is kept; 0 keeps it for good.",
    )
