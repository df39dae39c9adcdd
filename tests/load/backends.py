"""The three kinds of server: where each is found, and how a connection to it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from tests.load.dialects import OpenAiChat, YapHttp, YapSocket
from tests.load.http1 import connect_http
from tests.load.pool import Dial
from tests.load.websocket import connect_websocket

Kind = Literal["ws", "sse", "openai"]
KINDS: tuple[Kind, ...] = ("ws", "sse", "openai")


@dataclass(frozen=True, slots=True)
class Target:
    """The server to measure.

    Attributes:
        address: host:port, or a URL.
        start: what goes into every `start` frame, besides session, persona and utterance.
        sampling: sampling options by Yap's names, which are vLLM's.
        options: what else goes into an OpenAI request.
    """

    kind: Kind
    address: str
    api_key: str = ""
    model: str = ""
    start: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where requests go."""
        return url_of(self.kind, self.address)

    def dial(self, timeout: float) -> Dial:
        """What opens a connection, within `timeout` seconds."""
        if self.kind == "openai":
            headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
            chat = OpenAiChat(self.model, {**self.sampling, **self.options})
            return partial(connect_http, chat, self.url, headers, timeout)
        headers = {"X-API-Key": self.api_key}
        if self.kind == "sse":
            return partial(connect_http, YapHttp(self.sampling), self.url, headers, timeout)
        start = YapSocket({**self.start, "sampling": dict(self.sampling)})
        return partial(connect_websocket, start, self.url, headers, timeout)


def url_of(kind: Kind, address: str) -> str:
    """The URL for requests of a kind, from host:port or any URL of that server."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    secure = "s" if parts.scheme in ("https", "wss") else ""
    path, query = parts.path.rstrip("/"), ""
    if kind == "ws":
        scheme, path, query = f"ws{secure}", path or "/ws", parts.query
    elif kind == "sse":
        scheme, path = f"http{secure}", "/chat"
    else:
        scheme = f"http{secure}"
        if not path.endswith("/chat/completions"):
            path = (path or "/v1") + "/chat/completions"
    return urlunsplit((scheme, parts.netloc, path, query, ""))
