"""The BentoML service: one process that holds the chat engine and the screen classifier.

    bentoml serve                 in this folder

The class is thin on purpose: it hands BentoML's life cycle to `yap.server.Server`, mounts the
WebSocket, and declares the two typed HTTP endpoints. Nothing heavy is imported here, since
BentoML imports this module in its supervisor and at build time too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import bentoml
from pydantic import Field

from yap import http, packed, process
from yap.access import RequireKey, key_from_headers, refusal
from yap.app import build_app
from yap.errors import StartupError, YapError
from yap.http import ChatMessage, ScreenDecision
from yap.logs import configure_logging
from yap.metrics import Metrics
from yap.middleware import CodedRefusals, SendDeadline
from yap.preflight import check_bias_file, check_models, check_port
from yap.server import Server
from yap.settings import Settings, SettingsError, load_settings


def _settings_at_import() -> Settings:
    """BentoML reads host, port and limits when it imports this module, at build time too, when
    the settings may be incomplete. What is wrong with them is told by `Yap.check`.
    """
    try:
        return load_settings(serving=False)
    except SettingsError:
        return Settings()


log = logging.getLogger("yap.service")
app = build_app()
defaults = _settings_at_import()
process.bound_connections(defaults)


@bentoml.service(
    name="yap",
    workers=1,  # one engine owns the accelerator
    traffic={"timeout": 3600},  # a turn has deadlines of its own
    tracing={"excluded_urls": "/ws$"},  # it would make a span of every frame
    http={"host": defaults.host, "port": defaults.port},
    envs=packed.environment(),
)
@bentoml.asgi_app(app, path="/")
class Yap:
    """Screenshot intent and in-persona chat over one WebSocket."""

    def __init__(self) -> None:
        settings = load_settings()
        configure_logging(settings.app_log_level, settings.app_log_format)
        for notice in settings.notices:
            log.warning("%s", notice)
        self.server = Server(settings, Metrics())
        app.state.server = self.server
        self._startup: asyncio.Task[None] | None = None

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """In the supervisor, before anything starts: refuse bad settings in one message."""
        try:
            settings = load_settings()
            check_models(settings)
            check_bias_file(settings)
            check_port(*process.bind_address(settings))
        except (SettingsError, StartupError) as error:
            process.refuse_to_start(str(error))
        process.introduce_arbiter()
        process.expect_startup_failures()

    @bentoml.on_startup
    async def startup(self) -> None:
        """Begin to load the models; the port answers meanwhile, and readiness says not yet."""
        process.end_with_arbiter()
        process.drain_on_sigterm(self.server.drain)
        self._startup = asyncio.create_task(self._load(), name="startup")

    async def _load(self) -> None:
        try:
            await self.server.start()
        except StartupError as error:
            process.report_startup_failure(str(error))

    @bentoml.on_shutdown
    async def shutdown(self) -> None:
        """Stop the engine; its processes are gone when this returns."""
        await self.server.stop()
        if self._startup is not None:
            await asyncio.gather(self._startup, return_exceptions=True)

    async def __is_ready__(self) -> bool:
        return self.server.ready

    async def __is_alive__(self) -> bool:
        return self.server.alive

    @bentoml.api
    async def chat(
        self,
        ctx: bentoml.Context,
        messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)],
        sampling: dict[str, Any] | None = None,
    ) -> AsyncGenerator[str, None]:
        """One turn over HTTP: server-sent events whose data are the frames of the WebSocket."""

        def set_status(status: int) -> None:
            ctx.response.status_code = status

        tenant = self.server.keys.check(key_from_headers(ctx.request.headers))
        events = http.stream_turn(self.server, messages, sampling, set_status, tenant)
        async with aclosing(events):
            async for event in events:
                yield event

    @bentoml.api
    async def classify(
        self,
        utterance: Annotated[str, Field(max_length=100_000)],
        earlier: Annotated[list[str] | None, Field(max_length=1000)] = None,
    ) -> ScreenDecision:
        """Whether the client should capture the screen."""
        try:
            return await http.classify(self.server, utterance, earlier or ())
        except YapError as error:
            answer: Any = refusal(error)  # BentoML sends a response as it is
            return answer  # type: ignore[no-any-return]


service: Any = Yap  # what the decorator made of it: a bentoml.Service
service.add_asgi_middleware(
    SendDeadline, seconds=lambda: app.state.server.settings.ws_send_timeout_s
)
service.add_asgi_middleware(
    CodedRefusals, most_bytes=lambda: app.state.server.settings.http_max_body_bytes
)
service.add_asgi_middleware(RequireKey, keys=lambda: app.state.server.keys)
