"""What can go wrong between a client and the server, and the exit code that says so.

ServerRefusedError
├── CannotConnectError      nobody answers, or what answers is no Yap server
├── KeyRefusedError         the API key is missing or wrong
├── AtCapacityError         every connection is taken
├── NotReadyError           the server stops, or its models are not ready
├── ConnectionLostError     it hung up while something was awaited
├── SilentError             it sent nothing for too long
├── InvalidFrameError       it sent what is no frame of the protocol
├── RateLimitedError        too many messages; `retry_in` says how long to wait
└── RequestRefusedError     any other error frame
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from yap.protocol import Error, ErrorCode

if TYPE_CHECKING:
    from tests.client.conversation import TurnRecord


class ExitCode(IntEnum):
    """How a command-line client ended."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> ExitCode:
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    OK = 0, "everything was served and every check passed"
    CHECK_FAILED = 1, "a check failed"
    USAGE = 2, "bad arguments, or a file that cannot be used"
    CANNOT_CONNECT = 3, "no server answers there"
    KEY_REFUSED = 4, "the API key is missing or wrong"
    AT_CAPACITY = 5, "every connection of the server is taken"
    NOT_READY = 6, "the server is stopping, or its models are not ready"
    CONNECTION_LOST = 7, "the server hung up or fell silent in the middle"
    SERVER_ERROR = 8, "the server answered with another error"
    NOT_DEPLOYED = 9, "the server has no model of the kind that is checked"
    INTERRUPTED = 130, "Ctrl+C"


class ServerRefusedError(Exception):
    """The server sent an error frame, hung up, or was never there.

    Attributes:
        record: what had come of the turn, where one ran.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.SERVER_ERROR
    record: TurnRecord | None = None


class CannotConnectError(ServerRefusedError):
    """Nobody answers, or what answers is no Yap server."""

    exit_code = ExitCode.CANNOT_CONNECT


class ConnectionLostError(ServerRefusedError):
    """The server hung up. `code` is the close code; None without a close frame."""

    exit_code = ExitCode.CONNECTION_LOST

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class SilentError(ServerRefusedError):
    """The server sent nothing for too long."""

    exit_code = ExitCode.CONNECTION_LOST


class InvalidFrameError(ServerRefusedError):
    """The server sent what is no frame of this protocol."""


class ErrorFrameError(ServerRefusedError):
    """The server sent an error frame, which is kept as `frame`."""

    def __init__(self, frame: Error) -> None:
        super().__init__(f"{frame.error_code}: {frame.message}")
        self.frame = frame


class RequestRefusedError(ErrorFrameError):
    """An error frame that has no class of its own."""


class KeyRefusedError(ErrorFrameError):
    """The API key is missing or wrong."""

    exit_code = ExitCode.KEY_REFUSED


class AtCapacityError(ErrorFrameError):
    """Every connection of the server is taken."""

    exit_code = ExitCode.AT_CAPACITY


class NotReadyError(ErrorFrameError):
    """The server is about to stop, or its models are not ready."""

    exit_code = ExitCode.NOT_READY


class RateLimitedError(ErrorFrameError):
    """Too many messages."""

    @property
    def retry_in(self) -> int:
        """How long to wait, in seconds."""
        return self.frame.retry_in or 1


def of_frame(frame: Error) -> ErrorFrameError:
    """The error that an error frame stands for."""
    match frame.error_code:
        case ErrorCode.AUTHENTICATION_FAILED:
            return KeyRefusedError(frame)
        case ErrorCode.SERVER_AT_CAPACITY:
            return AtCapacityError(frame)
        case ErrorCode.SERVER_DRAINING | ErrorCode.ENGINE_UNAVAILABLE:
            return NotReadyError(frame)
        case (
            ErrorCode.MESSAGE_RATE_LIMITED
            | ErrorCode.CANCEL_RATE_LIMITED
            | ErrorCode.CHAT_PROMPT_RATE_LIMITED
        ):
            return RateLimitedError(frame)
        case _:
            return RequestRefusedError(frame)
