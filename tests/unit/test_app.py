"""The app answers probes, and hands WebSockets to the connection."""

from __future__ import annotations

import httpx
import pytest

from yap.app import build_app


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/", 200, '{"status":"ok"}'),
        ("HEAD", "/", 200, ""),
        ("GET", "/favicon.ico", 204, ""),
        ("POST", "/", 405, None),
        ("POST", "/ws", 405, None),
        ("GET", "/docs", 404, None),
        ("GET", "/openapi.json", 404, None),
    ],
)
async def test_a_route_answers(method: str, path: str, status: int, body: str | None) -> None:
    transport = httpx.ASGITransport(build_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://yap") as client:
        response = await client.request(method, path)
    assert response.status_code == status
    assert body is None or response.text == body


async def test_who_does_not_ask_for_a_websocket_is_told_that_it_is_one() -> None:
    transport = httpx.ASGITransport(build_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://yap") as client:
        response = await client.get("/ws")
    assert response.status_code == 426
    assert response.headers["upgrade"] == "websocket"
    assert response.json() == {
        "type": "error",
        "error_code": "invalid_message",
        "message": "This is a WebSocket endpoint: connect to it with ws:// or wss://.",
    }
