"""From decided arguments to vLLM's configuration, with refusals in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from yap.errors import StartupError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_LONGEST_REASON = 300


def check_names(args: Mapping[str, Any]) -> None:
    """Refuse arguments that this vLLM does not have.

    Raises:
        StartupError: names them.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    unknown = sorted(args.keys() - known)
    if unknown:
        raise StartupError(
            "CHAT_ENGINE_ARGS holds an argument that this vLLM does not know: "
            f"{', '.join(unknown)}."
        )


def engine_config(args: Mapping[str, Any]) -> VllmConfig:
    """vLLM's whole configuration.

    Raises:
        StartupError: vLLM refuses an argument, or all of them together.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    check_names(args)
    try:
        # Defaults that are not decided here are those of a server: by its own, vLLM takes smaller
        # batches when it is used as a library.
        return AsyncEngineArgs(**args).create_engine_config(UsageContext.OPENAI_API_SERVER)
    except Exception as error:
        raise StartupError(
            f'vLLM does not take CHAT_MODEL="{args.get("model")}" with these settings: '
            f"{_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """What vLLM says, in one line."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        text = f"{place}: {first['msg']}" if place else first["msg"]
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
