"""Speculative decoding: tokens guessed ahead, and checked by the model in one step."""

from __future__ import annotations

from typing import Any, Final

from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.hardware import Hardware
from yap.errors import StartupError
from yap.settings import Settings

_GUESSES: Final = {"ngram": 4, "draft": 4, "eagle": 3, "eagle3": 3, "mtp": 1}
_METHODS: Final = {"draft": "draft_model"}
_NEED_MODEL: Final = frozenset({"draft", "eagle", "eagle3"})
# Words that must recur for ngram to guess what follows; fewer guess wrongly too often.
_NGRAM: Final = {"prompt_lookup_max": 4, "prompt_lookup_min": 2}


def speculation(settings: Settings, hardware: Hardware) -> Decision | None:
    """vLLM's `speculative_config`; None where nothing is guessed.

    Raises:
        StartupError: the settings contradict each other, or the hardware.
    """
    method, model = settings.chat_speculation, settings.chat_speculation_model
    own = settings.chat_engine_args.get("speculative_config")
    if method != "none" and own is not None:
        raise StartupError(
            "CHAT_SPECULATION and speculative_config in CHAT_ENGINE_ARGS exclude each other: "
            "unset one."
        )
    if (model is not None) != (method in _NEED_MODEL):
        raise StartupError(
            f"CHAT_SPECULATION={method} {'needs' if model is None else 'takes no'} "
            f"CHAT_SPECULATION_MODEL: {'set' if model is None else 'unset'} it."
        )
    if method == "none" and own is None:
        return None
    if hardware.cpu:
        # vLLM 0.32 expands top_k, top_p and temperature into a copy there, and reads the original.
        raise StartupError(
            "Speculative decoding ends vLLM's engine on a CPU at the first reply that is sampled: "
            "unset CHAT_SPECULATION."
        )
    if settings.chat_min_p_max > 0:
        raise StartupError(
            "vLLM has no min_p with speculative decoding: set CHAT_MIN_P=0 and CHAT_MIN_P_MAX=0, "
            "so that clients are told, or guess nothing."
        )
    if method == "none":
        return None
    config: dict[str, Any] = {
        "method": _METHODS.get(method, method),
        "num_speculative_tokens": settings.chat_speculation_tokens or _GUESSES[method],
    }
    if method == "ngram":
        config |= _NGRAM
    if model is not None:
        config["model"] = model
    return Decision("speculative_config", config, f"Set by CHAT_SPECULATION={method}.")


def guesses(settings: Settings, decided: Decision | None) -> int:
    """Tokens that are checked beside the next one, in each reply."""
    config = decided.value if decided else settings.chat_engine_args.get("speculative_config")
    found = config.get("num_speculative_tokens") if isinstance(config, dict) else None
    return found if isinstance(found, int) else 0
