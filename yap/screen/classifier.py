"""The screenshot-intent classifier, as the service sees it: a question, and a probability.

The model lives in a process of its own (`worker.py`), which this owns: it starts it, writes
questions to it, gives each answer to whoever waits for it, ends it when it hangs, and starts it
again when it has died. The queue in front of it is bounded, and whoever goes away before his turn
costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yap.errors import ServerError, StartupError
from yap.history import MAX_CHARS_PER_TOKEN
from yap.screen.checkpoint import Options
from yap.screen.inputs import within_reach
from yap.settings import Settings

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent.parent
# A worker that was asked and has not answered anything for so many seconds hangs.
HANGS_AFTER_S = 5.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 30.0
_LONGEST_LINE = 1 << 20


class QueueFullError(ServerError):
    """Too many texts wait for the classifier already."""


class ClassifierFailedError(ServerError):
    """The model raised on this text, or its process died or hangs."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A question that the worker has, and when it was asked."""

    answer: asyncio.Future[float]
    at: float  # seconds of the event loop's clock


class ScreenClassifier:
    """Tells how likely it is that a text asks to look at the screen."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._asked: dict[int, _Asked] = {}  # oldest first, as dicts are
        self._answered_at = 0.0
        self._loaded = False

    @property
    def ready(self) -> bool:
        """Whether `probability` may be called; stays so while a dead worker is started again."""
        return self._loaded

    async def start(self) -> None:
        """Start the worker; returns when its model is loaded. The event loop stays free.

        Raises:
            StartupError: the model cannot be served; the message says what to change.
        """
        self._process = await self._launch()
        self._loaded = True
        self._keeper = asyncio.create_task(self._keep(), name="classifier")

    async def close(self) -> None:
        """End the worker; it is gone when this returns."""
        self._loaded = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._end_worker()
        self._fail(list(self._asked), "The screen classifier was stopped.")

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float:
        """The calibrated probability, 0 to 1, that `utterance` asks to look at the screen now.

        Args:
            utterance: what the user just said. Over TOOL_MAX_LENGTH tokens its start is cut off.
            earlier: what he said before, oldest first, without the utterance. The newest lines
                that fit into TOOL_HISTORY_TOKENS together are read as context.

        Raises:
            QueueFullError: TOOL_QUEUE_MAX texts are waiting.
            ClassifierFailedError: the model failed on it, or its process is not there.
        """
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise ClassifierFailedError("The screen classifier is not running.")
        if len(self._asked) >= self._settings.tool_queue_max:
            raise QueueFullError("The screen classifier's queue is full.")
        number = next(self._ids)
        loop = asyncio.get_running_loop()
        asked = self._asked[number] = _Asked(loop.create_future(), loop.time())
        try:
            process.stdin.write(self._question(number, utterance, earlier))
            return await asked.answer
        except asyncio.CancelledError:
            if process.returncode is None:
                process.stdin.write(b'{"drop": %d}\n' % number)
            raise
        finally:
            self._asked.pop(number, None)

    def _question(self, number: int, utterance: str, earlier: Sequence[str]) -> bytes:
        settings = self._settings
        question = {
            "id": number,
            "utterance": utterance[-settings.tool_max_length * MAX_CHARS_PER_TOKEN :],
            "earlier": within_reach(earlier, settings.tool_history_tokens),
        }
        return json.dumps(question).encode() + b"\n"

    # --- the worker -----------------------------------------------------------------------

    async def _launch(self) -> asyncio.subprocess.Process:
        settings = self._settings
        arguments = {
            "options": dataclasses.asdict(worker_options(settings)),
            "logging": {"level": settings.app_log_level, "style": settings.app_log_format},
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "yap.screen.worker",
            json.dumps(arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            cwd=ROOT,
        )
        try:
            first = await _line(process)
        except BaseException:
            await _end(process)
            raise
        if first.get("ready"):
            log.info("Screen classifier %s is loaded", settings.tool_model)
            return process
        await _end(process)
        why = f'TOOL_MODEL="{settings.tool_model}" could not be loaded; the log says why.'
        raise StartupError(str(first.get("refused") or why))

    async def _end_worker(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)

    async def _keep(self) -> None:
        """Read answers while the worker lives; start another when it does not."""
        while True:
            reader = asyncio.create_task(self._read_answers(), name="classifier-answers")
            watch = asyncio.create_task(self._watch(), name="classifier-watch")
            try:
                await asyncio.wait([reader, watch], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reader, watch):
                    task.cancel()
                await asyncio.gather(reader, watch, return_exceptions=True)
            await self._end_worker()
            self._fail(list(self._asked), "The screen classifier's process has died.")
            await self._launch_again()

    async def _launch_again(self) -> None:
        pause = _FIRST_RETRY_S
        while True:
            log.error("The screen classifier is started again in %.1f s", pause)
            await asyncio.sleep(pause)
            try:
                self._process = await self._launch()
            except (StartupError, OSError) as error:
                log.error("The screen classifier did not start: %s", error)
                pause = min(2 * pause, _LAST_RETRY_S)
            else:
                return

    async def _read_answers(self) -> None:
        process = self._process
        while process is not None:
            answer = await _line(process)
            if not answer:
                return
            self._answered_at = asyncio.get_running_loop().time()
            if answer.get("failed"):
                self._fail(answer["ids"], "The screen classifier failed on it.")
                continue
            for number, probability in zip(answer["ids"], answer["probabilities"], strict=True):
                waiting = self._waiting(number)
                if waiting is not None:
                    waiting.set_result(probability)

    def _fail(self, numbers: Sequence[int], reason: str) -> None:
        for number in numbers:
            waiting = self._waiting(number)
            if waiting is not None:
                waiting.set_exception(ClassifierFailedError(reason))

    def _waiting(self, number: int) -> asyncio.Future[float] | None:
        """Where the answer to a question goes; None where nobody waits for it any more."""
        asked = self._asked.get(number)
        return None if asked is None or asked.answer.done() else asked.answer

    async def _watch(self) -> None:
        """Return when the worker hangs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HANGS_AFTER_S / 5)
            oldest = next(iter(self._asked.values()), None)
            if oldest is None:
                continue
            if loop.time() - max(oldest.at, self._answered_at) > HANGS_AFTER_S:
                log.error("The screen classifier has not answered for %.0f s", HANGS_AFTER_S)
                return


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The worker's next line; empty if it has died."""
    if process.stdout is None:
        return {}
    line = await process.stdout.readline()
    read: dict[str, Any] = json.loads(line) if line else {}
    return read


def worker_options(settings: Settings) -> Options:
    """How the settings want the checkpoint to be run."""
    return Options(
        model=settings.tool_model,
        device=settings.tool_device,
        gpu_share=settings.tool_gpu_share,
        threads=settings.tool_cpu_threads,
        max_length=settings.tool_max_length,
        history_tokens=settings.tool_history_tokens,
        batch_texts=settings.tool_microbatch_max_size,
        batch_tokens=settings.tool_microbatch_max_tokens,
        graphs=settings.tool_compile,
        int8=settings.tool_int8,
        trust_remote_code=settings.trusts_remote_code(settings.tool_model),
    )
