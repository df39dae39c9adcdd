"""Every error of the service, in one tree.

    YapError                     carries a wire code and a sentence for the client
    ├── RequestError             the client sent something we refuse; nothing was done
    │   └── RateLimited          ... because it came too soon; says when to come back
    ├── Unauthenticated          no key, or a wrong one
    ├── AtCapacity               every connection permit is taken
    └── ServerError              we failed; the client did nothing wrong
        ├── Draining             the server is about to stop and takes nothing new
        ├── EngineUnavailable    the chat engine is loading, stopped or dead
        ├── EngineFailed         the engine refused or lost this one request
        └── TurnTimeout          a turn passed its deadline

    StartupError                 the service cannot start; the message is for the operator

`YapError.message` is written for the client and never holds the text of another exception.
What really happened goes to the log, and to `__cause__`.
"""

from __future__ import annotations

from yap.protocol import ErrorCode


class YapError(Exception):
    """An error with a stable wire code. `message` is safe to show to a client."""

    code: ErrorCode = ErrorCode.INTERNAL_ERROR
    http_status: int = 500

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class RequestError(YapError):
    """The client's request is not acceptable."""

    code = ErrorCode.INVALID_MESSAGE
    http_status = 400


class RateLimited(RequestError):
    """Too many messages in the window; `retry_in` is whole seconds, at least 1."""

    code = ErrorCode.MESSAGE_RATE_LIMITED
    http_status = 429

    def __init__(self, message: str, code: ErrorCode, retry_in: int) -> None:
        super().__init__(message, code)
        self.retry_in = retry_in


class Unauthenticated(YapError):
    """The API key is missing or wrong."""

    code = ErrorCode.AUTHENTICATION_FAILED
    http_status = 401


class AtCapacity(YapError):
    """No connection permit came free in time."""

    code = ErrorCode.SERVER_AT_CAPACITY
    http_status = 503

    def __init__(self, message: str, active: int, limit: int) -> None:
        super().__init__(message)
        self.active = active
        self.limit = limit


class ServerError(YapError):
    """The server failed; the request may be sent again."""


class Draining(ServerError):
    """The server is about to stop and takes no new work."""

    code = ErrorCode.SERVER_DRAINING
    http_status = 503

    def __init__(self) -> None:
        super().__init__("The server is shutting down; connect again in a moment.")


class EngineUnavailable(ServerError):
    """The chat engine is not running."""

    code = ErrorCode.ENGINE_UNAVAILABLE
    http_status = 503


class EngineFailed(ServerError):
    """The chat engine could not finish this request; others are not affected."""

    code = ErrorCode.ENGINE_ERROR


class TurnTimeout(ServerError):
    """The reply did not come in time."""

    code = ErrorCode.TURN_TIMEOUT
    http_status = 504


class StartupError(Exception):
    """The service cannot start. The message tells the operator what to change."""
