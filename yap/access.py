"""API keys: who may use the server."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from yap.errors import Unauthenticated, YapError
from yap.protocol import Error

# Paths that answer without a key: probes, and the schema that BentoML's client reads first.
OPEN_PATHS = frozenset(
    {"/", "/favicon.ico", "/livez", "/healthz", "/readyz", "/metrics", "/schema.json"}
)


class KeyRing:
    """The keys that open this server. Several may be valid at once, so that they can be rotated.

    Keys are compared as digests, in constant time, so that neither their text nor their length
    can be found out by timing.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(sha256(key.encode()).digest() for key in keys)

    def check(self, key: str | None) -> bytes:
        """Let a caller with `key` through.

        Returns:
            A digest of the key: whose sessions the caller may use.

        Raises:
            Unauthenticated: there is no key, or it is not one of ours.
        """
        digest = sha256((key or "").encode("utf-8", "surrogatepass")).digest()
        # Every digest is compared, so that the time does not tell which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not key or not any(matches):
            raise Unauthenticated(
                "The API key is missing or wrong. Send it as the X-API-Key header, as "
                "Authorization: Bearer, or as the api_key query parameter of the WebSocket URL."
            )
        return digest


def key_from_websocket(query: QueryParams, headers: Mapping[str, str]) -> str | None:
    """The key of a handshake: the query parameter, else X-API-Key, else a bearer token."""
    return query.get("api_key") or key_from_headers(headers)


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """The key of a request: X-API-Key, else `Authorization: Bearer`."""
    if key := headers.get("x-api-key"):
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def refusal(error: YapError) -> Response:
    """An error frame as an HTTP response."""
    frame = Error(error_code=error.code, message=error.message)
    return Response(frame.encode(), error.http_status, media_type="application/json")


class RequireKey:
    """ASGI middleware: HTTP requests need a key, but for probes. WebSockets check their own."""

    def __init__(self, app: ASGIApp, keys: Callable[[], KeyRing]) -> None:
        """
        Args:
            keys: gives the key ring; asked at each request, since BentoML builds its middleware
                before the service exists.
        """
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                self._keys().check(key_from_headers(Headers(scope=scope)))
            except Unauthenticated as error:
                await refusal(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)
