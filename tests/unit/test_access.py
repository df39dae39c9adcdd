"""Who has a key gets in, and nobody else learns anything about it."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from yap.access import KeyRing, RequireKey, key_from_headers, key_from_websocket
from yap.errors import Unauthenticated

RING = KeyRing(["first-key", "second-key"])


# Keys


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_key_of_the_ring_opens(key: str) -> None:
    RING.check(key)


@pytest.mark.parametrize(
    "key", [None, "", " ", "first-key ", "FIRST-KEY", "first-ke", "third-key", "ключ", "\ud800"]
)
def test_anything_else_does_not(key: str | None) -> None:
    with pytest.raises(Unauthenticated) as raised:
        RING.check(key)
    assert raised.value.http_status == 401
    assert "api_key" in raised.value.message
    assert "X-API-Key" in raised.value.message
    assert "Bearer" in raised.value.message


@pytest.mark.parametrize("key", [None, "", "any"])
def test_a_ring_without_keys_opens_to_nobody(key: str | None) -> None:
    with pytest.raises(Unauthenticated):
        KeyRing([]).check(key)


@pytest.mark.parametrize("key", ["first-key", "second-key", "third-key", "x", ""])
def test_every_key_is_compared_as_a_digest_in_constant_time(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    try:
        RING.check(key)
    except Unauthenticated:
        assert key not in ("first-key", "second-key")
    assert compared == [(32, 32), (32, 32)]


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"X-API-Key": "a"}, "a"),
        ({"Authorization": "Bearer a"}, "a"),
        ({"Authorization": "bearer  a "}, "a"),
        ({"Authorization": "Basic a"}, None),
        ({"Authorization": "a"}, None),
        ({"Authorization": "Bearer"}, ""),
        ({"X-API-Key": "a", "Authorization": "Bearer b"}, "a"),
        ({"X-API-Key": "", "Authorization": "Bearer b"}, "b"),
    ],
)
def test_headers_may_carry_the_key_in_two_ways(headers: dict[str, str], key: str | None) -> None:
    assert key_from_headers(Headers(headers)) == key


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("api_key=a", "a"),
        ("", "h"),
        ("api_key=", "h"),
        ("other=a", "h"),
        ("api_key=%61%26", "a&"),
    ],
)
def test_in_a_handshake_the_query_wins_over_the_header(query: str, key: str) -> None:
    assert key_from_websocket(QueryParams(query), Headers({"x-api-key": "h"})) == key


# The middleware


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(RequireKey(hello, keys=lambda: RING))
    async with httpx.AsyncClient(transport=transport, base_url="http://yap") as opened:
        yield opened


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/livez", "/readyz", "/healthz", "/metrics", "/schema.json"]
)
async def test_probes_need_no_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).text == "hello"


@pytest.mark.parametrize(
    "path",
    ["/chat", "/classify", "/docs.json", "/ws", "/livez/", "/livez/x", "//livez", "/Metrics"],
)
async def test_other_paths_need_one(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(f"http://yap{path}", headers={"X-API-Key": "wrong"})
    assert response.status_code == 401
    frame = response.json()
    assert list(frame) == ["type", "error_code", "message"]
    assert frame["type"] == "error"
    assert frame["error_code"] == "authentication_failed"
    assert "wrong-key" not in frame["message"]
    assert (await client.post(path, headers={"X-API-Key": "second-key"})).text == "hello"
    assert (await client.post(path, headers={"Authorization": "Bearer first-key"})).text == "hello"


async def test_the_query_is_no_place_for_the_key_of_a_request(client: httpx.AsyncClient) -> None:
    assert (await client.post("/chat?api_key=first-key")).status_code == 401


async def test_other_kinds_of_connection_are_let_through_to_check_themselves() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        raise AssertionError

    async def send(_message: Message) -> None:
        raise AssertionError

    def no_keys() -> KeyRing:
        raise AssertionError("asked for keys")

    for kind in ("websocket", "lifespan"):
        await RequireKey(app, no_keys)({"type": kind, "path": "/ws"}, receive, send)
    assert seen == ["websocket", "lifespan"]
