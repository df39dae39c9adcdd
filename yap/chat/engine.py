"""The chat engine: a narrow seam, and vLLM behind it.

The rest of the service knows `ChatEngine.prepare` (messages to a prompt) and
`ChatEngine.stream` (a prompt to text pieces). Everything that vLLM is particular about stays
in this package. vLLM itself is imported when the engine starts, in a thread, because that takes
seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from prometheus_client import CollectorRegistry

from yap.chat import guard, health
from yap.chat.background import Background
from yap.chat.bias import NOTHING, Steered, Steering, read_bias_file
from yap.chat.phrases import Phrases
from yap.chat.prompt import Prompt, PromptBuilder
from yap.chat.rewind import Rewinding, Setup
from yap.chat.samplers import install
from yap.chat.samplers.token_ids import SamplerTokens
from yap.chat.sampling import sampling_params
from yap.chat.tuning import environment, planning
from yap.chat.tuning.context import budgets
from yap.chat.tuning.engine_args import engine_config
from yap.chat.tuning.planning import Plan
from yap.chat.tuning.tokenizer import tokenizer_of
from yap.chat.warmup import warm_up
from yap.errors import EngineFailed, EngineUnavailable, RequestError, StartupError
from yap.history import Message
from yap.metrics import Metrics
from yap.protocol import SamplingOptions
from yap.settings import Settings

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)
T = TypeVar("T")

_SHUTDOWN_S = 15.0
# A core that died is built anew, so often in a row, after pauses that double.
_MOST_REBUILDS = 5
_FIRST_PAUSE_S = 0.5

FinishReason = Literal["stop", "length"]


class EngineState(Enum):
    """Where the engine is in its life."""

    NEW = "new"
    LOADING = "loading"
    READY = "ready"
    REBUILDING = "rebuilding"
    DEAD = "dead"
    CLOSED = "closed"


class Priority(IntEnum):
    """Who waits for whom; vLLM serves lower numbers first."""

    TURN = 0
    WARM_UP = 10


@dataclass(slots=True)  # not frozen: there is one for every token, and that would take it 1 µs
class Piece:
    """A piece of a reply. Counts are of the whole reply so far; the last says why it ended."""

    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None


class ChatEngine:
    """vLLM in process: tokenizer and queues here, the model in the engine core's own process."""

    def __init__(
        self,
        settings: Settings,
        on_rebuilt: Callable[[], Awaitable[None]] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """
        Args:
            on_rebuilt: awaited each time the engine serves again after its core had died.
            metrics: where it counts; without them, nobody reads what it counts.
        """
        self._settings = settings
        self._on_rebuilt = on_rebuilt
        self._metrics = metrics or Metrics(CollectorRegistry())
        self._state = EngineState.NEW
        self._llm: AsyncLLM | None = None
        self._prompts: PromptBuilder | None = None
        self._sampler_tokens: SamplerTokens | None = None
        self._steering: Steering | None = None
        self._health: asyncio.Task[None] | None = None
        self._background = Background()
        # Tokenizing releases the interpreter lock; one thread keeps turns in order and is enough.
        self._pool = ThreadPoolExecutor(1, "yap-prompt")

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether `stream` may be called; false from the moment vLLM knows that its core died."""
        return self._state is EngineState.READY and self._llm is not None and not self._llm.errored

    @property
    def has_samplers(self) -> bool:
        """Whether the engine that was built samples with DRY and XTC where it is asked to."""
        return self._sampler_tokens is not None

    @property
    def dead(self) -> bool:
        """Whether it could not start, or could not be built anew; it does not come back."""
        return self._state is EngineState.DEAD

    # --- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the model. Takes seconds to minutes; the event loop stays free.

        Raises:
            StartupError: the model cannot be served; the message says what to change.
        """
        if not guard.is_installed():
            raise StartupError(
                "The yap package is not installed in this environment, so engine processes could "
                "outlive the server; run: pip install --no-deps --no-build-isolation -e ."
            )
        self._state = EngineState.LOADING
        try:
            llm = await self._load()
        except BaseException:
            self._state = EngineState.DEAD
            raise
        self._health = asyncio.create_task(self._keep(llm), name="chat-engine-health")

    async def close(self) -> None:
        """Stop the engine core and wait until it is gone. Safe to call in any state."""
        self._state = EngineState.CLOSED
        if self._health is not None:
            self._health.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._health
        await self._let_go()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> AsyncLLM:
        """Build an engine, warm it up, and be ready.

        Raises:
            StartupError: it cannot be built, or not in time.
        """
        building = _in_daemon_thread(self._build)
        try:
            async with asyncio.timeout(self._settings.chat_start_timeout_s):
                # Shielded: the thread cannot be interrupted, and what it makes must be let go.
                llm, prompts = await asyncio.shield(building)
        except TimeoutError:
            building.add_done_callback(_discard)
            raise StartupError(
                f"The chat model did not load within CHAT_START_TIMEOUT_S="
                f"{self._settings.chat_start_timeout_s:g} seconds; raise it for a large model."
            ) from None
        except BaseException:
            building.add_done_callback(_discard)
            raise
        self._llm, self._prompts = llm, prompts
        try:
            await warm_up(llm, self._settings, self._sampling_params)
        except Exception as error:
            await self._let_go()
            raise StartupError(
                "The chat engine died while it was warmed up; the reason is in the log above."
            ) from error
        environment.look_up_once()
        self._state = EngineState.READY
        return llm

    async def _let_go(self) -> None:
        llm, self._llm = self._llm, None
        if llm is None:
            return
        try:
            async with asyncio.timeout(_SHUTDOWN_S):
                # Blocks, and on the loop it would deadlock with streams that still run.
                await asyncio.to_thread(llm.shutdown, 0)
        except TimeoutError:
            log.error("The engine core did not stop within %.0f s", _SHUTDOWN_S)

    async def _keep(self, llm: AsyncLLM) -> None:
        """Build another engine whenever this one breaks, until that cannot be done."""
        telling: asyncio.Task[None] | None = None
        try:
            while True:
                reason = await health.until_broken(llm)
                self._state = EngineState.REBUILDING
                log.error("The chat engine is built anew: %s", reason)
                await health.end_core(llm)
                await _stop(telling)
                await self._let_go()
                rebuilt = await self._rebuild()
                if rebuilt is None:
                    self._state = EngineState.DEAD
                    log.critical("The chat engine cannot be built anew; the server is of no use")
                    return
                llm = rebuilt
                log.info("The chat engine serves again")
                # Beside the watch: what it asks of this core would else wait for ever if it hangs.
                telling = asyncio.create_task(self._tell_rebuilt(), name="chat-engine-rebuilt")
        finally:
            await _stop(telling)

    async def _tell_rebuilt(self) -> None:
        try:
            if self._on_rebuilt is not None:
                await self._on_rebuilt()
        except Exception:
            log.exception("What follows the rebuilding of the chat engine failed")

    async def _rebuild(self) -> AsyncLLM | None:
        pause = _FIRST_PAUSE_S
        for _ in range(_MOST_REBUILDS):
            await asyncio.sleep(pause)
            pause *= 2
            try:
                return await self._load()
            except Exception as error:
                log.exception("The chat engine could not be built: %s", error)
        return None

    def _build(self) -> tuple[AsyncLLM, PromptBuilder]:
        """Import vLLM, load the model, make the prompt builder. Blocks; runs in a thread."""
        settings = self._settings
        bias_file = read_bias_file(settings.chat_logit_bias_file)
        model = settings.chat_model
        plan = planning.decide_here(settings)
        _tell(plan)
        environment.prepare(settings, plan.environment, compiles=not plan.hardware.cpu)
        environment.look_up_anew()
        try:
            llm = _make_llm(plan.engine_args, settings)
        except StartupError:
            raise
        except Exception as error:
            log.exception("vLLM could not load %s", model)
            raise StartupError(
                f'CHAT_MODEL="{model}" could not be loaded; the reason is in the log above.'
            ) from error
        context = llm.model_config.max_model_len
        tokenizer = tokenizer_of(
            llm, plan.facts, trust_remote_code=settings.trusts_remote_code(model)
        )
        prompts = PromptBuilder(
            tokenizer,
            budgets(settings, context),
            enable_thinking=settings.chat_template_enable_thinking,
        )
        self._sampler_tokens = install.tokens_of(llm, tokenizer, prompts)
        try:
            self._steering = Steering(
                tokenizer,
                llm.model_config.get_vocab_size(),
                bias_file,
                takes_bias=llm.vllm_config.speculative_config is None,
            )
        except StartupError:
            llm.shutdown(0)
            raise
        log.info("Chat model %s is loaded: context %d tokens", model, context)
        return llm, prompts

    # --- work -----------------------------------------------------------------------------

    async def admit(
        self, persona: str | None, utterance: str, options: SamplingOptions | None = None
    ) -> str:
        """Check the persona's length and the options against the model, and cut the utterance to
        its budget; see `PromptBuilder`.

        Raises:
            RequestError: `chat_prompt_too_long`, `invalid_logit_bias`.
            EngineUnavailable: the engine is not ready.
        """
        prompts = self._require_prompts()
        if options is not None:
            await self._steered(options)
        if prompts.is_quick(persona, (), utterance):
            return prompts.admit(persona, utterance)
        return await self._in_pool(lambda: prompts.admit(persona, utterance))

    async def prepare(self, persona: str | None, messages: Sequence[Message], user: str) -> Prompt:
        """The prompt of one turn; see `PromptBuilder.build`.

        Raises:
            RequestError: `prompt_too_long`.
            EngineUnavailable: the engine is not ready.
        """
        prompts = self._require_prompts()
        if prompts.is_quick(persona, messages, user):
            return prompts.build(persona, messages, user)
        return await self._in_pool(lambda: prompts.build(persona, messages, user))

    async def warm(
        self,
        persona: str | None,
        messages: Sequence[Message],
        request_id: str,
        cache_salt: str | None = None,
    ) -> None:
        """Read a persona and what was said into the prefix cache. Gives way to turns.

        Args:
            cache_salt: as in `Prompt`.

        Raises:
            RequestError, EngineUnavailable, EngineFailed: as `prepare` and `stream`.
            TurnTimeout: turns left no room for it within GEN_TIMEOUT_S.
        """
        prompt = await self.prepare(persona, messages, "")
        one_token = dataclasses.replace(prompt, max_tokens=1, cache_salt=cache_salt)

        async def read() -> None:
            pieces = self.stream(one_token, SamplingOptions(), request_id, Priority.WARM_UP)
            async with contextlib.aclosing(pieces):
                async for _ in pieces:
                    pass

        await self._background.run(read, self._settings.gen_timeout_s)

    async def stream(
        self,
        prompt: Prompt,
        options: SamplingOptions,
        request_id: str,
        priority: Priority = Priority.TURN,
    ) -> AsyncGenerator[Piece]:
        """The reply to `prompt`, piece by piece. Closing the generator aborts the request:
        its KV blocks are free within one engine step.

        Raises:
            EngineUnavailable: the engine is not ready, or died meanwhile.
            EngineFailed: the engine refused or lost this one request.
            RequestError: as `admit`.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self._require_llm()
        completion_tokens = 0
        try:
            params = self._sampling_params(options, prompt.max_tokens)
            steered = await self._steered(options)
            params.logit_bias = dict(steered.bias) or None
            generating = self._outputs(llm, prompt, params, steered.phrases, request_id, priority)
            first = self._background.first_token(of_turn=priority is Priority.TURN)
            async with first, contextlib.aclosing(generating) as outputs:
                async for output in outputs:
                    first.came()
                    (choice,) = output.outputs
                    completion_tokens += len(choice.token_ids)
                    yield Piece(
                        text=choice.text,
                        prompt_tokens=len(prompt.token_ids),
                        cached_tokens=output.num_cached_tokens or 0,
                        completion_tokens=completion_tokens,
                        finish_reason=_finish_reason(choice.finish_reason),
                    )
        except EngineDeadError as error:
            raise EngineUnavailable("The chat engine stopped; try again in a moment.") from error
        except (EngineFailed, RequestError):
            raise
        except Exception as error:
            raise EngineFailed("The chat engine could not finish this reply.") from error

    def _outputs(
        self,
        llm: AsyncLLM,
        prompt: Prompt,
        params: SamplingParams,
        banned: Phrases,
        request_id: str,
        priority: Priority,
    ) -> AsyncGenerator[RequestOutput]:
        """What the engine makes of a prompt, without the banned phrases."""
        from vllm.inputs import tokens_input

        def generate(token_ids: list[int], params: SamplingParams) -> AsyncGenerator[RequestOutput]:
            request = tokens_input(token_ids, cache_salt=prompt.cache_salt)
            outputs: AsyncGenerator[RequestOutput] = llm.generate(
                request, params, request_id, priority=priority
            )
            return outputs

        if not banned or priority is Priority.WARM_UP:
            return generate(prompt.token_ids, params)
        setup = Setup(
            generate=generate,
            prompt_ids=prompt.token_ids,
            params=params,
            tokenizer=self._require_prompts().tokenizer,
            takes_bias=llm.vllm_config.speculative_config is None,
            most_rewinds=self._settings.chat_max_rewinds,
            metrics=self._metrics,
        )
        return Rewinding(setup, banned).outputs()

    def _sampling_params(self, options: SamplingOptions, max_tokens: int) -> SamplingParams:
        return sampling_params(options, self._settings, max_tokens, self._sampler_tokens)

    async def _steered(self, options: SamplingOptions) -> Steered:
        """What a reply with these options is steered by.

        Raises:
            RequestError: `invalid_logit_bias`.
        """
        steering = self._steering
        if steering is None:
            return NOTHING
        if steering.is_quick(options):
            return steering.of(options)
        return await self._in_pool(lambda: steering.of(options))

    async def in_flight(self) -> int:
        """Requests that the engine has not finished."""
        return int(self._require_llm().get_num_unfinished_requests())

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _require_llm(self) -> AsyncLLM:
        if self._llm is None or not self.ready:
            raise EngineUnavailable("The chat engine is not ready; try again in a moment.")
        return self._llm

    def _require_prompts(self) -> PromptBuilder:
        if self._prompts is None or not self.ready:
            raise EngineUnavailable("The chat engine is not ready; try again in a moment.")
        return self._prompts


def _in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a thread that does not keep the process from ending.

    A pool's threads would: told to stop in the middle of loading a model, the service would
    first load it to the end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - it is the future's now
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="yap-load", daemon=True).start()
    return future


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _discard(building: asyncio.Future[tuple[AsyncLLM, PromptBuilder]]) -> None:
    """Stop an engine that came up when nobody waited for it any more."""
    if not building.cancelled() and building.exception() is None:
        llm = building.result()[0]
        _in_daemon_thread(lambda: llm.shutdown(0))


def _make_llm(args: dict[str, Any], settings: Settings) -> AsyncLLM:
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    config = engine_config(args)
    install.install(config, settings)
    with guard.sigterm_kept_off():
        return AsyncLLM.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER)


def _tell(plan: Plan) -> None:
    """Log what was decided; `python -m yap.chat.tuning` prints it with all reasons."""
    for decision in (*plan.decisions, *plan.environment):
        log.debug("%s", decision)
    for note in plan.notes:
        log.warning("%s", note)
    log.info("The chat engine runs on %s: %s", plan.hardware, plan.memory)


def _finish_reason(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    if reason == "stop":
        return "stop"
    if reason == "length":
        return "length"
    # "abort" and "error": the engine ended the request by itself.
    raise EngineFailed("The chat engine could not finish this reply.")
