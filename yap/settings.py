"""All settings of the service: what each may be stands in `yap.setting_groups`.

A field's name is its variable in lower case: ``ws_idle_timeout_s`` is ``WS_IDLE_TIMEOUT_S``.
``Settings(...)`` depends on its arguments alone; ``load_settings`` fills it from an environment.
A variable set to blanks counts as unset. ``docs/configuration.md`` is generated from here.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from yap.packed import Packed
from yap.packed import read as read_packed
from yap.retired_settings import misspelling_notices, retired_notices
from yap.setting_groups.budgets import BudgetSettings
from yap.setting_groups.chat_engine import TEMPLATE_ROOM_TOKENS, ChatEngineSettings
from yap.setting_groups.group import Group
from yap.setting_groups.limits import LimitSettings
from yap.setting_groups.logs import LoggingSettings
from yap.setting_groups.models import ModelSettings
from yap.setting_groups.sampling import SamplingSettings
from yap.setting_groups.screen import ScreenSettings
from yap.setting_groups.service import ServiceSettings
from yap.setting_groups.sessions import SessionSettings
from yap.setting_groups.turn import TurnSettings
from yap.setting_groups.websocket import WebSocketSettings
from yap.setting_kinds import allowed, default_text
from yap.settings_checks import problems_together, problems_with_files

__all__ = [
    "FIELDS",
    "GROUPS",
    "TEMPLATE_ROOM_TOKENS",
    "Group",
    "Settings",
    "SettingsError",
    "load_settings",
    "variables",
]

ALIASES: Mapping[str, tuple[str, ...]] = {
    "chat_quantization": ("CHAT_QUANTIZATION", "QUANTIZATION")
}

_HUB_TOKEN = re.compile(r"hf_\w{8,}")


class SettingsError(Exception):
    """The environment cannot be served with; the message has one line for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Settings(
    ServiceSettings,
    ModelSettings,
    ChatEngineSettings,
    BudgetSettings,
    SamplingSettings,
    TurnSettings,
    ScreenSettings,
    WebSocketSettings,
    LimitSettings,
    SessionSettings,
    LoggingSettings,
):
    """All settings, flat and frozen."""

    title = "Settings"
    _notices: tuple[str, ...] = PrivateAttr(())

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about variables that are set but not read; to be logged at start."""
        return self._notices

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Keys that are let in; with none, nobody is."""
        if self.text_api_key is None:
            return ()
        return tuple(key.strip() for key in self.text_api_key.get_secret_value().split(","))

    @property
    def chat_enabled(self) -> bool:
        """Whether the chat model is deployed."""
        return self.deploy_models != "tool"

    @property
    def tool_enabled(self) -> bool:
        """Whether the screen classifier is deployed."""
        return self.deploy_models != "chat"

    @property
    def chat_gpu_share(self) -> float:
        """CHAT_GPU_FRAC, or its default for the models deployed."""
        return self.chat_gpu_frac or (0.70 if self.deploy_models == "both" else 0.90)

    @property
    def tool_gpu_share(self) -> float:
        """TOOL_GPU_FRAC, or its default for the models deployed."""
        return self.tool_gpu_frac or (0.20 if self.deploy_models == "both" else 0.90)

    @property
    def chat_max_len_wanted(self) -> int:
        """Tokens of context to ask of the chat model: CHAT_MAX_LEN, or what the budgets need."""
        return self.chat_max_len or self.chat_len_needed

    @property
    def chat_len_parts(self) -> dict[str, int]:
        """The variables that the context must hold, with their tokens."""
        return {
            "CHAT_PROMPT_MAX_TOKENS": self.chat_prompt_max_tokens,
            "HISTORY_MAX_TOKENS": self.history_max_tokens,
            "USER_UTT_MAX_TOKENS": self.user_utt_max_tokens,
            "CHAT_MAX_OUT": self.chat_max_out,
        }

    @property
    def chat_len_needed(self) -> int:
        """Tokens of context that the longest prompt with the longest reply needs."""
        return sum(self.chat_len_parts.values()) + TEMPLATE_ROOM_TOKENS

    @property
    def prompt_max_chars(self) -> int:
        """Characters of a chat_prompt before it is cleaned."""
        return self.prompt_sanitize_max_chars or 6 * self.chat_max_len_wanted

    @property
    def cancel_window_seconds(self) -> float:
        """Window of the cancel limit; 0 is no limit."""
        if self.ws_cancel_window_seconds is None:
            return self.ws_message_window_seconds
        return self.ws_cancel_window_seconds

    @property
    def max_cancels_per_window(self) -> int:
        """Count of the cancel limit; 0 is no limit."""
        if self.ws_max_cancels_per_window is None:
            return self.ws_max_messages_per_window
        return self.ws_max_cancels_per_window

    def trusts_remote_code(self, model: str) -> bool:
        """Whether the operator let this very model bring Python code."""
        return model in self.trust_remote_code_models


GROUPS = tuple(base for base in Settings.__bases__ if issubclass(base, Group))
FIELDS: dict[str, FieldInfo] = {n: f for group in GROUPS for n, f in group.model_fields.items()}


# Reading the environment.


def load_settings(
    environ: Mapping[str, str] = os.environ, *, serving: bool = True, packed: Packed | None = None
) -> Settings:
    """The settings that ``environ`` asks for; in a Bento, what it does not name is ``packed``.

    ``serving=False`` is for tools that open no port: TEXT_API_KEY may then be missing, and the
    models need not be there yet. Raises ``SettingsError`` with every problem found.
    """
    packed = packed or read_packed()
    names = _variables_set(environ)
    settings, wrong = _read(environ, names, packed)
    sentences = [wrong[field] for field in FIELDS if field in wrong]
    if serving and "text_api_key" not in names:
        sentences.insert(0, f"TEXT_API_KEY is not set: give {allowed(FIELDS['text_api_key'])}")
    problems = [*problems_together(settings)]
    lack = packed.lacks(settings.deploy_models, names.keys()) if packed and serving else ""
    if lack:
        sentences.append(lack)
    elif serving:
        problems += problems_with_files(settings)
    told = {field.upper() for field in wrong}
    sentences += [problem.sentence for problem in problems if problem.variables.isdisjoint(told)]
    if sentences:
        raise SettingsError(sentences)
    settings._notices = _notices(environ)
    return settings


def _read(
    environ: Mapping[str, str], names: Mapping[str, str], packed: Packed | None
) -> tuple[Settings, dict[str, str]]:
    """The settings with what is wrong left out, and of each field that is a sentence about it."""
    values: dict[str, Any] = packed.defaults() if packed else {}
    values |= {field: environ[name].strip() for field, name in names.items()}
    try:
        return Settings(**values), {}
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for details in error.errors():
            field = str(details["loc"][0])
            wrong[field] = _sentence(names[field], values[field], FIELDS[field], details)
    return Settings(**{field: values[field] for field in values.keys() - wrong.keys()}), wrong


def variables() -> dict[str, str]:
    """Every variable that is read, aliases included, with the field that it fills."""
    return {name: field for field in FIELDS for name in ALIASES.get(field, (field.upper(),))}


def _variables_set(environ: Mapping[str, str]) -> dict[str, str]:
    """Field -> the variable that fills it, for variables that are not blank."""
    found: dict[str, str] = {}
    for name, field in variables().items():
        if environ.get(name, "").strip():
            found.setdefault(field, name)
    return found


def _notices(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = variables()
    return (*retired_notices(environ, known), *misspelling_notices(environ, known))


def _sentence(name: str, value: str, field: FieldInfo, details: ErrorDetails) -> str:
    shown = "****" if name == "TEXT_API_KEY" else _shown(value)
    cause = str(details["ctx"]["error"]) if details["type"] == "value_error" else ""
    default = default_text(field)
    return (
        f"{name}={json.dumps(shown, ensure_ascii=False)} is not allowed: "
        f"{f'{cause}; ' if cause else ''}give {allowed(field)}"
        f"{f' (default {default})' if default else ''}"
    )


def _shown(value: str) -> str:
    """A value as a message may show it: one line, not endless, no Hub token in it."""
    text = _HUB_TOKEN.sub("hf_****", value).encode(errors="replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
