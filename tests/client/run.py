"""Runs a client to its exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from tests.client.errors import ErrorFrameError, ExitCode, KeyRefusedError, ServerRefusedError
from tests.client.show import Output, printable


def run(client: Callable[[], Coroutine[Any, Any, ExitCode]], output: Output) -> int:
    """Run `client`; what fails is told on stderr (and as JSON), and in the exit code."""
    return settle(lambda: asyncio.run(client()), output)


def settle(client: Callable[[], ExitCode], output: Output) -> int:
    """As `run`, for a client that is no coroutine."""
    try:
        code = client()
        sys.stdout.flush()
    except ServerRefusedError as error:
        return report(error, output)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # such as `| head`; Python would complain once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.CHECK_FAILED
    return code


def report(error: ServerRefusedError, output: Output) -> ExitCode:
    """Tell what went wrong; returns the exit code that says so."""
    print(f"{explain(error)}", file=sys.stderr)
    code = error.frame.error_code.value if isinstance(error, ErrorFrameError) else None
    output.result(
        {
            "ok": False,
            "error": {"code": code, "message": str(error)},
            "exit_code": int(error.exit_code),
        }
    )
    return error.exit_code


def explain(error: ServerRefusedError) -> str:
    """The error as a sentence for a terminal."""
    hint = " Set TEXT_API_KEY or --api-key." if isinstance(error, KeyRefusedError) else ""
    return printable(f"Not served: {error}{hint}")
