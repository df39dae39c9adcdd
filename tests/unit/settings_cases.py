"""An environment that can be served with, and what comes of changes to it."""

from collections.abc import Mapping

import pytest

from yap.settings import Settings, SettingsError, load_settings

KEY = "a-key-for-tests"
USABLE = {"TEXT_API_KEY": KEY, "CHAT_MODEL": "org/chat", "TOOL_MODEL": "org/screen"}


def load(**variables: str) -> Settings:
    return load_settings(USABLE | variables)


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        load_settings(environ)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def problem(**variables: str) -> str:
    """The one sentence that these variables give."""
    (sentence,) = problems(USABLE | variables)
    return sentence
