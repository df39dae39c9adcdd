"""Settings of the log."""

from yap.setting_groups.group import Group
from yap.setting_kinds import LogFormat, LogLevel, setting


class LoggingSettings(Group):
    """What the service writes about itself."""

    title = "Logging"

    app_log_level: LogLevel = setting("INFO", "Least severity that is written.")
    app_log_format: LogFormat = setting(
        "text", "text is for people, json is one object a line for a collector."
    )
