"""Patterns of layers, as recipes and llmcompressor write them."""

from __future__ import annotations

import re


def matches(pattern: str, name: str) -> bool:
    """Whether an ignore pattern means a layer: a name, or after "re:" a regular expression."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    return name == pattern or name.endswith(f".{pattern}")


def anywhere(name: str) -> str:
    """The regular expression that matches what `matches` means by a plain name."""
    return rf"re:(.*\.)?{re.escape(name)}$"
