"""Logging of this package: one handler, text or JSON, whatever the host process has set up."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

_TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO), level, logger, message, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure_logging(level: str, style: Literal["text", "json"]) -> None:
    """Send this package's log records to stderr. BentoML drops what is below WARNING otherwise."""
    logger = logging.getLogger("yap")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else logging.Formatter(_TEXT_FORMAT))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


class Seldom:
    """Logs what happens over and over once in `seconds`, by key, and how often it was held back."""

    def __init__(
        self, logger: logging.Logger, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def error(self, key: str, message: str, *args: object, with_traceback: bool = False) -> None:
        """Log at ERROR, unless `key` was logged less than `seconds` ago."""
        self._say(logging.ERROR, key, message, args, with_traceback)

    def warning(self, key: str, message: str, *args: object) -> None:
        """Log at WARNING, unless `key` was logged less than `seconds` ago."""
        self._say(logging.WARNING, key, message, args, with_traceback=False)

    def _say(
        self, level: int, key: str, message: str, args: tuple[object, ...], with_traceback: bool
    ) -> None:
        now = self._clock()
        if key in self._last and now - self._last[key] < self._seconds:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return
        held_back = self._held_back.pop(key, 0)
        self._last[key] = now
        if held_back:
            message = f"{message} (and {held_back} times more since this was last said)"
        self._logger.log(level, message, *args, exc_info=with_traceback)
