"""The ASGI app beside BentoML's own routes: the WebSocket, and two answers for probes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from yap import connection
from yap.access import refusal
from yap.errors import RequestError


def build_app() -> Starlette:
    """The app. Its `state.server` must be set before the first request comes."""
    return Starlette(
        routes=[
            Route("/", _root, methods=["GET"]),
            Route("/favicon.ico", _favicon, methods=["GET"]),
            WebSocketRoute("/ws", _websocket),
            Route("/ws", _not_upgraded, methods=["GET"]),
        ]
    )


async def _root(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _favicon(_request: Request) -> Response:
    return Response(status_code=204)


async def _not_upgraded(_request: Request) -> Response:
    answer = refusal(
        RequestError("This is a WebSocket endpoint: connect to it with ws:// or wss://.")
    )
    answer.status_code = 426
    answer.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return answer


async def _websocket(websocket: WebSocket) -> None:
    await connection.serve(websocket, websocket.app.state.server)
