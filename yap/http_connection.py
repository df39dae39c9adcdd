"""uvicorn's HTTP protocol, of which the application may cut a client off.

A response that is left unfinished makes uvicorn close the transport, and that waits until all is
sent that was written: for a client that does not read, the socket and its buffer would stay as
long as it likes. `CuttableHttp` puts a way to end it at once under `CUT_OFF` in the scope's
extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CutOff = Callable[[], None]

CUT_OFF: Final = "yap.http_connection.cut_off"


class CuttableHttp(HttpToolsProtocol):
    """One connection."""

    def on_message_begin(self) -> None:
        """As uvicorn's, and the application finds `CUT_OFF` in its scope."""
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {CUT_OFF: self.transport.abort}


def cut_off_of(scope: Mapping[str, Any]) -> CutOff | None:
    """What ends the connection at once, if its server has it."""
    found: CutOff | None = (scope.get("extensions") or {}).get(CUT_OFF)
    return found
