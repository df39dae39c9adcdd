"""Where the server is, and getting a place on it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import websockets

from tests.client.errors import (
    AtCapacityError,
    CannotConnectError,
    NotReadyError,
    ServerRefusedError,
)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
# What a proxy says while the server behind it is down or full.
_GATEWAY_STATUS = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and how to reach it. Times are in seconds.

    `timeout` is the longest silence that is borne, `retry_s` how long a connection is tried for.
    `ping_interval` and `ping_timeout` are of the WebSocket's own keep-alive; None switches it off.
    """

    server: str
    api_key: str
    timeout: float = 60.0
    retry_s: float = 0.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0

    @property
    def url(self) -> str:
        """The URL of the WebSocket."""
        return websocket_url(self.server)


def websocket_url(server: str) -> str:
    """`host:port`, or a ws, wss, http or https URL with or without path, as a WebSocket's URL."""
    scheme, separator, rest = server.strip().rpartition("://")
    secure = scheme in ("wss", "https")
    if separator and not secure and scheme not in ("ws", "http"):
        raise ValueError(f"{scheme}:// is not understood; use ws://, wss:// or host:port")
    host, slash, path = rest.partition("/")
    if not host:
        raise ValueError(f"{server!r} names no host; use host:port or a ws:// URL")
    return f"{'wss' if secure else 'ws'}://{host}/{path if slash and path else 'ws'}"


def pauses() -> Iterator[float]:
    """Growing random pauses in seconds, so that many clients do not come back all at once."""
    longest = FIRST_PAUSE_S
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(longest * 2, LONGEST_PAUSE_S)


async def open_websocket(endpoint: Endpoint) -> websockets.ClientConnection:
    """One attempt.

    Raises:
        CannotConnectError: nobody answers there, or not as a WebSocket.
    """
    url = endpoint.url
    try:
        return await websockets.connect(
            url,
            additional_headers={"X-API-Key": endpoint.api_key},
            compression=None,
            open_timeout=endpoint.timeout,
            ping_interval=endpoint.ping_interval,
            ping_timeout=endpoint.ping_timeout,
        )
    except websockets.InvalidStatus as error:
        status = error.response.status_code
        hint = " (it or its proxy is not up)" if status in _GATEWAY_STATUS else ""
        raise CannotConnectError(
            f"what answers at {url} is no Yap server: HTTP status {status}{hint}"
        ) from None
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        reason = str(error) or type(error).__name__
        raise CannotConnectError(
            f"no Yap server answers at {url} ({reason}). Start one with scripts/main.sh, or name "
            "where it listens with --server."
        ) from None


def worth_another_try(error: ServerRefusedError) -> bool:
    """Whether waiting may help: the server may come up, or a place on it come free."""
    return isinstance(error, CannotConnectError | AtCapacityError | NotReadyError)


class Patience:
    """Pauses between attempts, until the time is up."""

    def __init__(self, limit_s: float) -> None:
        self._until = time.monotonic() + limit_s
        self._pauses = pauses()

    async def wait(self, error: ServerRefusedError) -> None:
        """Pause before the next attempt, or raise `error` where there is to be none."""
        left = self._until - time.monotonic()
        if left <= 0 or not worth_another_try(error):
            raise error
        await asyncio.sleep(min(next(self._pauses), left))
