"""Bytes, counts and seconds as people say them."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size(count: float) -> str:
    """Bytes in a unit that suits."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"


def number(count: int) -> str:
    """A number of parameters as people say it."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def duration(seconds: float) -> str:
    """Seconds in a unit that suits; an estimate has one digit."""
    for unit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 1.5 * unit:
            return f"about {seconds / unit:.0f} {name}"
    return "about a minute"
