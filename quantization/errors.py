"""Why a command ends without having done its work, and the exit code that says so."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script can tell by `$?`."""

    DONE = 0
    USAGE = 2  # arguments, settings or a recipe that cannot be
    NOT_FOUND = 3  # no such folder, repository, revision or file
    NO_ACCESS = 4  # private, gated, or a token that is not valid
    UNREACHABLE = 5  # offline, or the Hub does not answer
    DAMAGED = 6  # truncated, corrupt or incomplete files
    REFUSED = 7  # it can be read, and must not or cannot be quantized so
    FAILED = 8  # a quantizer or its environment failed; its log is named
    BOUND = 9  # the gauge found more loss than was allowed
    NO_ROOM = 10  # disk or memory


class QuantizationError(Exception):
    """`message` is one sentence that tells its reader what to do next; `code` the exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def refusal(message: str) -> QuantizationError:
    """What to raise where a model can be read, and must not or cannot be quantized so."""
    return QuantizationError(message, ExitCode.REFUSED)
