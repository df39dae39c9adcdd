"""What one service process holds: the two models, the doors, and the running turns.

It is built in `service.py`, which gives it to BentoML; nothing in here knows BentoML.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from yap.access import KeyRing
from yap.admission import Admission
from yap.chat.engine import ChatEngine
from yap.chat.sampling import sampling_ranges
from yap.errors import Draining, EngineUnavailable, StartupError
from yap.metrics import Metrics
from yap.protocol import StartRules
from yap.screen.classifier import ScreenClassifier
from yap.screen.router import ScreenRouter
from yap.settings import Settings
from yap.turn import Resources

log = logging.getLogger(__name__)

# An utterance in tool mode has no tokenizer to count it with.
_CHARS_PER_UTTERANCE_TOKEN = 8


class Server:
    """Resources and state of one process. All methods run on its event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.keys = KeyRing(settings.api_keys)
        self.admission = Admission(
            settings.max_concurrent_connections, settings.ws_handshake_acquire_timeout_s
        )
        self.start_rules = _start_rules(settings)
        self.failure: StartupError | None = None
        self._chat = ChatEngine(settings) if settings.chat_enabled else None
        self._classifier = ScreenClassifier(settings) if settings.tool_enabled else None
        self.resources = Resources(
            settings=settings,
            metrics=metrics,
            chat=self._chat,
            router=ScreenRouter(self._classifier, settings, metrics) if self._classifier else None,
        )
        self._loading: asyncio.Task[None] | None = None
        self._turns: set[asyncio.Task[None]] = set()

    # --- life -----------------------------------------------------------------------------

    def start(self) -> asyncio.Task[None]:
        """Begin to load the models; the task ends when they are ready.

        The task raises `StartupError` where a model cannot be served; `failure` then holds it.
        """
        self._loading = asyncio.create_task(self._load(), name="load-models")
        return self._loading

    async def _load(self) -> None:
        try:
            # One after the other: side by side their imports only fight for the same cores.
            if self._classifier is not None:
                await self._classifier.start()
            if self._chat is not None:
                await self._chat.start()
        except StartupError as error:
            self.failure = error
            raise
        except Exception as error:
            self.failure = StartupError("The models could not be loaded; the log says why.")
            raise self.failure from error
        log.info("Ready: %s", self.settings.deploy_models)

    async def stop(self) -> None:
        """Let go of everything. Engine processes are gone when this returns."""
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, StartupError):
                await self._loading
        if self._chat is not None:
            await self._chat.close()
        if self._classifier is not None:
            await self._classifier.close()

    async def drain(self) -> None:
        """Refuse new work and wait for the running turns, at most DRAIN_TIMEOUT_S seconds."""
        self.admission.draining = True
        turns = set(self._turns)
        if turns:
            log.info("Draining: waiting for %d turns", len(turns))
            await asyncio.wait(turns, timeout=self.settings.drain_timeout_s)

    @property
    def ready(self) -> bool:
        """Whether a turn that comes now can be served."""
        chat_ready = self._chat is None or self._chat.ready
        tool_ready = self._classifier is None or self._classifier.ready
        return chat_ready and tool_ready and not self.admission.draining

    @property
    def alive(self) -> bool:
        """Whether the process is worth keeping: it has not failed to start."""
        return self.failure is None

    # --- work -----------------------------------------------------------------------------

    def check_accepting(self) -> None:
        """
        Raises:
            Draining: the server is about to stop.
            EngineUnavailable: the models are loading, or the engine has died.
        """
        if self.admission.draining:
            raise Draining
        if not self.ready:
            raise EngineUnavailable("The models are not ready; try again in a moment.")

    async def admit(self, persona: str | None, utterance: str) -> str:
        """Check the persona's length and cut the utterance; see `ChatEngine.admit`."""
        if self._chat is not None:
            return await self._chat.admit(persona, utterance)
        return utterance[: self.settings.user_utt_max_tokens * _CHARS_PER_UTTERANCE_TOKEN]

    def own(self, turn: asyncio.Task[None]) -> asyncio.Task[None]:
        """Keep track of a running turn, for `drain`."""
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        return turn


def _start_rules(settings: Settings) -> StartRules:
    return StartRules(
        chat=settings.chat_enabled,
        tool=settings.tool_enabled,
        prompt_max_chars=settings.prompt_max_chars,
        personality_max_len=settings.personality_max_len,
        max_personalities=settings.max_personalities,
        max_synonyms=settings.max_synonyms_per_personality,
        prefix_max_chars=settings.screen_prefix_max_chars,
        sampling_ranges=sampling_ranges(settings),
    )
