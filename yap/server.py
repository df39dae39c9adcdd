"""What one service process holds: the two models, the doors, and the running turns.

It is built in `service.py`, which gives it to BentoML; nothing in here knows BentoML.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import time

from yap.access import KeyRing
from yap.admission import Admission, Clock, SlidingWindow
from yap.chat.engine import ChatEngine
from yap.chat.salts import CacheSalts
from yap.chat.sampling import sampling_ranges
from yap.errors import Draining, EngineUnavailable, RequestError, StartupError, YapError
from yap.history import CHARS_PER_TOKEN, MAX_CHARS_PER_TOKEN
from yap.metrics import Metrics
from yap.persona_library import DEFAULT_FOLDER as PERSONA_FOLDER
from yap.persona_library import PersonaLibrary
from yap.protocol import Envelope, ErrorCode, SamplingOptions, StartRules
from yap.screen.classifier import ScreenClassifier
from yap.screen.router import Gate, ScreenRouter
from yap.screen.rules import DEFAULT_FOLDER as RULES_FOLDER
from yap.screen.rules import load_rules
from yap.session import SessionStore
from yap.settings import Settings
from yap.text import clean_text
from yap.turn import Resources

log = logging.getLogger(__name__)

# How often sessions and persona files are looked after, in seconds.
_CHORES_S = 2.0


class Server:
    """Resources and state of one process. All methods run on its event loop."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock = time.monotonic) -> None:
        """
        Args:
            clock: seconds that never go back, for idle connections, rate limits and sessions.
        """
        self.clock = clock
        self.settings = settings
        self.metrics = metrics
        self.keys = KeyRing(settings.api_keys)
        self.admission = Admission(
            settings.max_concurrent_connections, settings.ws_handshake_acquire_timeout_s
        )
        self.start_rules = _start_rules(settings)
        self.failure: StartupError | None = None
        self._chat = (
            ChatEngine(settings, self._warm_changed_personas, metrics)
            if settings.chat_enabled
            else None
        )
        self._classifier = ScreenClassifier(settings) if settings.tool_enabled else None
        self.resources = Resources(
            settings=settings,
            metrics=metrics,
            chat=self._chat,
            router=ScreenRouter(self._classifier, settings, metrics) if self._classifier else None,
            salts=CacheSalts(self._is_of_library),
        )
        self.sessions = SessionStore(
            settings.session_idle_ttl_seconds,
            settings.max_concurrent_connections * settings.ws_max_sessions_per_connection,
            lambda: _persona_changes(settings, clock),
            clock,
        )
        self.personas = PersonaLibrary(PERSONA_FOLDER, settings.prompt_max_chars)
        self._loading: asyncio.Task[None] | None = None
        self._chores: list[asyncio.Task[None]] = []
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
            await asyncio.to_thread(self.personas.load)
            await asyncio.to_thread(clean_text, "\u00e9")  # its tables are made on first use
            if self.resources.router is not None and self._classifier is not None:
                self.resources.router.rules = await asyncio.to_thread(load_rules, RULES_FOLDER)
                if self.settings.tool_language_filter:
                    self.resources.router.gate = await asyncio.to_thread(_language_gate)
                await self._classifier.start()
            if self._chat is not None:
                await self._chat.start()
                self.start_rules = dataclasses.replace(
                    self.start_rules, samplers=self._chat.has_samplers
                )
                await self._warm_personas(self._chat)
            self._chores = [
                asyncio.create_task(self._evict_sessions(), name="evict-sessions"),
                asyncio.create_task(
                    self.personas.watch(_CHORES_S, self._warm_changed_personas),
                    name="watch-personas",
                ),
            ]
        except StartupError as error:
            self.failure = error
            raise
        except Exception as error:
            self.failure = StartupError("The models could not be loaded; the log says why.")
            raise self.failure from error
        # What is there now stays: without this, each full collection walks through all of the
        # models' libraries, and stops the event loop for most of a second.
        gc.collect()
        gc.freeze()
        log.info("Ready: %s", self.settings.deploy_models)

    async def _warm_personas(self, chat: ChatEngine) -> None:
        """Read the library's personas into the prefix cache, so that no user waits for that."""
        for persona in self.personas:
            try:
                await chat.warm(persona.prompt, (), f"warm-{persona.name}")
            except YapError as error:
                log.warning("Persona %s could not be warmed up: %s", persona.name, error.message)

    async def _warm_changed_personas(self) -> None:
        if self._chat is not None and self.ready:
            await self._warm_personas(self._chat)

    async def _evict_sessions(self) -> None:
        while True:
            await asyncio.sleep(_CHORES_S)
            self.sessions.evict()

    async def stop(self) -> None:
        """Let go of everything. Engine processes are gone when this returns."""
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, StartupError):
                await self._loading
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self._chat is not None:
            await self._chat.close()
        if self._classifier is not None:
            await self._classifier.close()
        gc.unfreeze()

    async def drain(self) -> None:
        """Refuse new work and wait for the running turns, at most DRAIN_TIMEOUT_S seconds."""
        self.admission.draining = True
        if self._turns:
            log.info("Draining: waiting for %d turns", len(self._turns))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout_s):
                while self._turns:  # what was let in before may become a turn only now
                    await asyncio.wait(set(self._turns))

    @property
    def ready(self) -> bool:
        """Whether a turn that comes now can be served."""
        if self._loading is not None and not self._loading.done():
            return False  # the personas are not in the prefix cache yet
        chat_ready = self._chat is None or self._chat.ready
        tool_ready = self._classifier is None or self._classifier.ready
        return chat_ready and tool_ready and not self.admission.draining

    @property
    def alive(self) -> bool:
        """Whether the process is worth keeping: it has not failed to start, nor lost its engine."""
        return self.failure is None and (self._chat is None or not self._chat.dead)

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

    async def admit(
        self, persona: str | None, utterance: str, options: SamplingOptions | None = None
    ) -> str:
        """Check persona and options and cut the utterance; see `ChatEngine.admit`."""
        if self._chat is not None:
            return await self._chat.admit(persona, utterance, options)
        return utterance[: self.settings.user_utt_max_tokens * CHARS_PER_TOKEN]

    def require_chat(self) -> ChatEngine:
        """
        Raises:
            RequestError: `chat_not_deployed`.
        """
        if self._chat is None:
            raise RequestError(
                "No chat model is deployed here (DEPLOY_MODELS=tool).", ErrorCode.CHAT_NOT_DEPLOYED
            )
        return self._chat

    def with_persona(self, envelope: Envelope) -> Envelope:
        """The frame with the persona that it names filled in; what the client says itself wins.

        Raises:
            RequestError: `unknown_persona`.
        """
        name = envelope.data.get("persona")
        if name is None:
            return envelope
        persona = self.personas.get(name) if isinstance(name, str) else None
        if persona is None:
            raise RequestError(
                f"persona must be one of: {', '.join(self.personas.names)}.",
                ErrorCode.UNKNOWN_PERSONA,
            )
        given = {key: value for key, value in envelope.data.items() if value is not None}
        filled: dict[str, object] = {
            "gender": persona.gender,
            "personality": persona.personality,
            "personalities": {p.personality: list(p.synonyms) for p in self.personas},
            "chat_prompt": persona.prompt,
        }
        if "persona_text" in given:  # the older name of what would be filled in
            del filled["chat_prompt"]
        return dataclasses.replace(envelope, data={**filled, **given})

    def _is_of_library(self, prompt: str) -> bool:
        """Whether this very text is a persona of the library, whoever sends it."""
        return any(persona.prompt == prompt for persona in self.personas)

    def own(self, turn: asyncio.Task[None]) -> asyncio.Task[None]:
        """Own a task on behalf of a connection; `drain` waits for it."""
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        return turn


def _language_gate() -> Gate:
    from yap.screen.language import LanguageGate

    return LanguageGate()


def _persona_changes(settings: Settings, clock: Clock) -> SlidingWindow:
    return SlidingWindow(
        settings.chat_prompt_update_max_per_window,
        settings.chat_prompt_update_window_seconds,
        ErrorCode.CHAT_PROMPT_RATE_LIMITED,
        clock,
    )


def _start_rules(settings: Settings) -> StartRules:
    return StartRules(
        chat=settings.chat_enabled,
        tool=settings.tool_enabled,
        prompt_max_chars=settings.prompt_max_chars,
        personality_max_len=settings.personality_max_len,
        max_personalities=settings.max_personalities,
        max_synonyms=settings.max_synonyms_per_personality,
        prefix_max_chars=settings.screen_prefix_max_chars,
        utterance_max_chars=settings.user_utt_max_tokens * MAX_CHARS_PER_TOKEN,
        sampling_ranges=sampling_ranges(settings),
        samplers=settings.chat_samplers is not False,
    )
