"""Whether vLLM's engine core can still be used, and the end of one that cannot.

vLLM notices a core that has died, and sets a flag. A core that hangs it never notices: requests
wait for ever, and its health check goes on saying that all is well. So two more questions are
asked. A process that was stopped (SIGSTOP, a frozen container) is told by its state, at once. One
that runs and does not answer a call through its busy loop is given longer: a large prefill, or a
kernel that is being compiled, keeps the loop busy for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)

# Reading vLLM's flag and the state of a few processes costs some ten microseconds.
POLL_S = 0.25
# So long a process must be stopped; a debugger or a snapshot may halt it for a moment.
STOPPED_S = 1.0
# How often a call goes through the core's loop, and how long it may take to come back.
CALL_EVERY_S = 5.0
ANSWERS_WITHIN_S = 30.0
# From the death of a core to vLLM's flag, and on to its requests.
NOTICES_WITHIN_S = 3.0
TELLS_WITHIN_S = 0.2


async def until_broken(llm: AsyncLLM) -> str:
    """Return once the core cannot be used any more, and say in words why."""
    answering = asyncio.create_task(_until_silent(llm), name="chat-engine-call")
    stopped_since: float | None = None
    cores = _cores(llm)  # the same ones as long as it lives
    loop = asyncio.get_running_loop()
    try:
        while True:
            if llm.errored:
                return "its core process died"
            if answering.done():
                return f"its core has not answered for {ANSWERS_WITHIN_S:g} s"
            if not _is_stopped(cores):
                stopped_since = None
            elif stopped_since is None:
                stopped_since = loop.time()
            elif loop.time() - stopped_since >= STOPPED_S:
                return "its core process was stopped"
            await asyncio.sleep(POLL_S)
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def _until_silent(llm: AsyncLLM) -> None:
    """Return once a call through the core's loop does not come back in time."""
    while True:
        await asyncio.sleep(CALL_EVERY_S)
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await llm.is_paused()
        except TimeoutError:
            return
        except Exception:  # a core that has died; the flag says so too
            log.debug("The engine core could not be asked", exc_info=True)


def _is_stopped(cores: list[psutil.Process]) -> bool:
    for process in cores:
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
                return True
    return False


async def end_core(llm: AsyncLLM) -> None:
    """Kill the core's processes, children included, and let vLLM tell whoever waits for them."""
    await asyncio.to_thread(_kill, llm)
    # An engine that is shut down before it has noticed leaves its requests waiting for ever.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NOTICES_WITHIN_S):
            while not llm.errored:  # noqa: ASYNC110 - vLLM has a flag for this, and no event
                await asyncio.sleep(POLL_S / 10)
    await asyncio.sleep(TELLS_WITHIN_S)


def _kill(llm: AsyncLLM) -> None:
    for core in _cores(llm):
        with contextlib.suppress(psutil.Error):
            for process in [core, *core.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    process.kill()


def _cores(llm: Any) -> list[psutil.Process]:
    """The engine core's processes, as far as this vLLM names them."""
    resources = getattr(getattr(llm, "engine_core", None), "resources", None)
    started = getattr(getattr(resources, "engine_manager", None), "processes", None) or ()
    found = []
    for process in started:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(process.pid))
    return found
