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

from yap.chat import guard, health, tuning
from yap.chat.prompt import Budgets, Prompt, PromptBuilder
from yap.chat.sampling import sampling_params
from yap.errors import EngineFailed, EngineUnavailable, StartupError
from yap.history import Message
from yap.protocol import SamplingOptions
from yap.settings import Settings

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
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
        self, settings: Settings, on_rebuilt: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """
        Args:
            on_rebuilt: awaited each time the engine serves again after its core had died.
        """
        self._settings = settings
        self._on_rebuilt = on_rebuilt
        self._state = EngineState.NEW
        self._llm: AsyncLLM | None = None
        self._prompts: PromptBuilder | None = None
        self._health: asyncio.Task[None] | None = None
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
        """Build an engine and be ready.

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
        while True:
            reason = await health.until_broken(llm)
            self._state = EngineState.REBUILDING
            log.error("The chat engine is built anew: %s", reason)
            await health.end_core(llm)
            await self._let_go()
            rebuilt = await self._rebuild()
            if rebuilt is None:
                self._state = EngineState.DEAD
                log.critical("The chat engine cannot be built anew; the server is of no use")
                return
            llm = rebuilt
            log.info("The chat engine serves again")
            if self._on_rebuilt is not None:
                await self._on_rebuilt()

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
        from transformers import AutoConfig
        from vllm.platforms import current_platform

        cpu = current_platform.is_cpu()
        model = settings.chat_model
        try:
            config = AutoConfig.from_pretrained(
                model, trust_remote_code=settings.trusts_remote_code(model)
            )
        except (OSError, ValueError) as error:
            raise StartupError(
                f'CHAT_MODEL="{model}" cannot be read: there is no such folder, or no such model '
                "on the Hugging Face Hub that this machine can reach."
            ) from error
        context = _context_length(settings, config)
        tuning.prepare_environment(settings, cpu=cpu, parameters=_parameter_estimate(config))
        try:
            llm = _make_llm(tuning.engine_args(settings, cpu=cpu, context=context))
        except StartupError:
            raise
        except Exception as error:
            raise StartupError(
                f'CHAT_MODEL="{model}" could not be loaded; the reason is in the log above.'
            ) from error
        context = llm.model_config.max_model_len
        prompts = PromptBuilder(
            llm.get_tokenizer(),
            _budgets(settings, context),
            enable_thinking=settings.chat_template_enable_thinking,
        )
        log.info("Chat model %s is loaded: context %d tokens", model, context)
        return llm, prompts

    # --- work -----------------------------------------------------------------------------

    async def admit(self, persona: str | None, utterance: str) -> str:
        """Check the persona's length, and cut the utterance to its budget; see `PromptBuilder`.

        Raises:
            RequestError: `chat_prompt_too_long`.
            EngineUnavailable: the engine is not ready.
        """
        prompts = self._require_prompts()
        return await self._in_pool(lambda: prompts.admit(persona, utterance))

    async def prepare(self, persona: str | None, messages: Sequence[Message], user: str) -> Prompt:
        """The prompt of one turn; see `PromptBuilder.build`.

        Raises:
            RequestError: `prompt_too_long`.
            EngineUnavailable: the engine is not ready.
        """
        prompts = self._require_prompts()
        return await self._in_pool(lambda: prompts.build(persona, messages, user))

    async def warm(self, persona: str | None, messages: Sequence[Message], request_id: str) -> None:
        """Read a persona and what was said into the prefix cache. Yields to turns.

        Raises:
            RequestError, EngineUnavailable, EngineFailed: as `prepare` and `stream`.
        """
        prompt = await self.prepare(persona, messages, "")
        one_token = dataclasses.replace(prompt, max_tokens=1)
        pieces = self.stream(one_token, SamplingOptions(), request_id, Priority.WARM_UP)
        async with contextlib.aclosing(pieces):
            async for _ in pieces:
                pass

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
        """
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self._require_llm()
        completion_tokens = 0
        try:
            params = sampling_params(options, self._settings, prompt.max_tokens)
            request = tokens_input(prompt.token_ids)
            generating = llm.generate(request, params, request_id, priority=priority)
            async with contextlib.aclosing(generating) as outputs:
                async for output in outputs:
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
        except EngineFailed:
            raise
        except Exception as error:
            raise EngineFailed("The chat engine could not finish this reply.") from error

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


def _discard(building: asyncio.Future[tuple[AsyncLLM, PromptBuilder]]) -> None:
    """Stop an engine that came up when nobody waited for it any more."""
    if not building.cancelled() and building.exception() is None:
        llm = building.result()[0]
        _in_daemon_thread(lambda: llm.shutdown(0))


def _make_llm(args: dict[str, Any]) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        parsed = AsyncEngineArgs(**args)
    except TypeError as error:
        raise StartupError(
            "CHAT_ENGINE_ARGS holds an argument that this vLLM does not know: "
            f"{', '.join(sorted(_unknown_engine_args(args)))}."
        ) from error
    # The usage context decides vLLM's defaults: this one gives a server's batch sizes.
    config = parsed.create_engine_config(UsageContext.OPENAI_API_SERVER)
    return AsyncLLM.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER)


def _unknown_engine_args(args: dict[str, Any]) -> set[str]:
    from vllm.engine.arg_utils import AsyncEngineArgs

    return set(args) - {field.name for field in dataclasses.fields(AsyncEngineArgs)}


def _context_length(settings: Settings, config: Any) -> int:
    """The context to ask for: what the settings want, as far as the model goes."""
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    wanted = settings.chat_max_len_wanted
    if longest is None or wanted <= longest:
        return wanted
    if settings.chat_max_len is not None:
        raise StartupError(
            f"CHAT_MAX_LEN={wanted} is more than the {longest} tokens that the chat model was "
            "made for."
        )
    log.warning("The chat model's context of %d tokens limits history and persona", longest)
    return int(longest)


def _budgets(settings: Settings, context: int) -> Budgets:
    """The settings' budgets; those for input are scaled down where the context is smaller."""
    share = min(1.0, context / settings.chat_max_len_wanted)
    return Budgets(
        context=context,
        prompt=int(settings.chat_prompt_max_tokens * share),
        history=int(settings.history_max_tokens * share),
        utterance=int(settings.user_utt_max_tokens * share),
        output=settings.chat_max_out,
    )


def _parameter_estimate(config: Any) -> int | None:
    """Roughly how many parameters a decoder of this config has; None if it cannot be told."""
    text = config.get_text_config()
    try:
        hidden, layers = int(text.hidden_size), int(text.num_hidden_layers)
        wide = int(getattr(text, "intermediate_size", None) or 4 * hidden)
        return int(text.vocab_size) * hidden + layers * (4 * hidden * hidden + 3 * hidden * wide)
    except (AttributeError, TypeError, ValueError):
        return None


def _finish_reason(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    if reason == "stop":
        return "stop"
    if reason == "length":
        return "length"
    # "abort" and "error": the engine ended the request by itself.
    raise EngineFailed("The chat engine could not finish this reply.")
