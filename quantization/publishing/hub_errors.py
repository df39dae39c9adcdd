"""One sentence for whatever the Hub's client raises while an export is pushed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from quantization.errors import ExitCode, QuantizationError

_LONGEST: Final = 160  # characters of what the Hub said


@contextmanager
def on_hub(
    repo: str,
    token: str | bool | None,
    *,
    sending: bool = False,
    passed: type[Exception] | None = None,
) -> Iterator[None]:
    """Turn what goes wrong inside into one sentence that does not hold the token.

    Args:
        sending: files may have been sent already.
        passed: what to let through as it is.

    Raises:
        QuantizationError: it went wrong.
    """
    try:
        yield
    except QuantizationError:
        raise
    except Exception as error:
        if type(error) is passed:  # not one of its kinds: a gated repository counts as missing
            raise
        raise _told(repo, token, error, sending=sending) from None  # it may hold the token


def _told(
    repo: str, token: str | bool | None, error: Exception, *, sending: bool
) -> QuantizationError:
    from huggingface_hub import errors

    said = _line(error, token)
    status = _status(error)
    if isinstance(error, errors.GatedRepoError):
        return QuantizationError(
            f'"{repo}" is gated, and this token has no access: ask for it on its page.',
            ExitCode.NO_ACCESS,
        )
    if status == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        return QuantizationError(
            "The Hub refused the token: make a valid one that may write, and set HF_TOKEN to it.",
            ExitCode.NO_ACCESS,
        )
    if status == 403:
        return QuantizationError(
            f'This token may not write to "{repo}": give it the right to, or name a repository of '
            "yours in HF_AWQ_CHAT_REPO.",
            ExitCode.NO_ACCESS,
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return QuantizationError(
            f'"{repo}" has gone, or this token may not see it: look at its page.',
            ExitCode.NOT_FOUND,
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return QuantizationError(
            "The Hub must not be asked (HF_HUB_OFFLINE): unset that to push.", ExitCode.UNREACHABLE
        )
    if isinstance(error, errors.HFValidationError) or status in (400, 409, 413, 422):
        return QuantizationError(
            f'The Hub does not take this for "{repo}": {said}.', ExitCode.USAGE
        )
    again = "; push again, and what has arrived is not sent again" if sending else ""
    return QuantizationError(
        f"The Hub does not answer as it should ({said}): check the network{again}.",
        ExitCode.UNREACHABLE,
    )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; uploads in threads wrap it in others."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _line(error: BaseException, token: str | bool | None) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    if isinstance(token, str) and token:
        text = text.replace(token, "****")
    line = text.splitlines()[0].rstrip(".: ")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
