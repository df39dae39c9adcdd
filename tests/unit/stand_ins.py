"""Stand-ins that make a fault, or one exact interleaving, happen on purpose.

Everything around the scripted part is real: the scripted engine has a real tokenizer and prompt
builder, the scripted socket speaks ASGI to the real connection.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry
from starlette.websockets import WebSocket

from yap import connection
from yap.chat.engine import ChatEngine, Piece, Priority
from yap.chat.prompt import Budgets, Prompt, PromptBuilder
from yap.history import Message
from yap.metrics import Metrics
from yap.protocol import SamplingOptions
from yap.screen.classifier import ScreenClassifier
from yap.screen.router import ScreenRouter
from yap.server import Server
from yap.settings import Settings
from yap.websocket import WRITE_TEXT

KEY = "a-key-for-tests"
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CORPUS = (
    "the quick brown fox jumps over the lazy dog and says hello there my friend",
    "how are you today? it is a warm and sunny morning, is it not?",
    "user assistant system message reply screen look picture",
)


# --- the chat engine --------------------------------------------------------------------------


def make_tokenizer(chat_template: str | None, *, more_tokens: Iterable[str] = ()) -> Any:
    """A small byte-level BPE tokenizer, trained here; `more_tokens` are added, but not special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    raw.train_from_iterator(_CORPUS, trainer)
    raw.add_tokens([AddedToken(token, special=False, normalized=False) for token in more_tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template,
    )


class Gate:
    """A step of a script: tells that it was reached, and holds the script until it is opened."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def hold(self) -> None:
        """For the script: wait here."""
        self._reached.set()
        await self._opened.wait()

    async def reached(self) -> None:
        """Wait until the script is here."""
        async with asyncio.timeout(5):
            await self._reached.wait()

    def open(self) -> None:
        """Let the script go on."""
        self._opened.set()


@dataclass(frozen=True, slots=True)
class Last:
    """The last step of a script: a piece of text and why the reply ends with it."""

    text: str
    reason: Literal["stop", "length"] = "stop"


Step = str | Gate | Last | float | BaseException
REPLY: Sequence[Step] = ("Hello", " there", Last("."))


async def _play(step: Step) -> str | None:
    """Do one step; the text that it gives, if it gives any."""
    match step:
        case str():
            return step
        case Last():
            return step.text
        case Gate():
            await step.hold()
        case BaseException():
            raise step
        case _:
            await asyncio.sleep(step)
    return None


class ScriptedChat(ChatEngine):
    """The chat engine with real prompts and scripted replies.

    A reply is a list of steps: a text is a piece, a number sleeps so many seconds, a `Gate`
    waits, an exception is raised. Each stream plays the next of `replies`, the last one again.
    """

    def __init__(self, settings: Settings, tokenizer: Any, *replies: Sequence[Step]) -> None:
        super().__init__(settings)
        self.replies = list(replies) or [("Hello", " there", Last("."))]
        self.cached_tokens = 2
        self.prompts: list[str] = []
        self.options: list[SamplingOptions] = []
        self.streaming = 0
        self.closed_streams = 0
        self._tokenizer = tokenizer
        self._prompts = PromptBuilder(
            tokenizer,
            Budgets(
                context=settings.chat_max_len_wanted,
                prompt=settings.chat_prompt_max_tokens,
                history=settings.history_max_tokens,
                utterance=settings.user_utt_max_tokens,
                output=settings.chat_max_out,
            ),
            enable_thinking=False,
        )
        self.alive = True

    @property
    def ready(self) -> bool:
        return self.alive

    async def prepare(self, persona: str | None, messages: Sequence[Message], user: str) -> Prompt:
        prompt = await super().prepare(persona, messages, user)
        self.prompts.append(self._tokenizer.decode(prompt.token_ids))
        return prompt

    async def stream(
        self,
        prompt: Prompt,
        options: SamplingOptions,
        request_id: str,
        priority: Priority = Priority.TURN,
    ) -> AsyncGenerator[Piece]:
        steps = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.options.append(options)
        self.streaming += 1
        completion_tokens = 0
        try:
            for step in steps:
                text = await _play(step)
                if text is None:
                    continue
                completion_tokens += 1
                yield Piece(
                    text=text,
                    prompt_tokens=len(prompt.token_ids),
                    cached_tokens=self.cached_tokens,
                    completion_tokens=completion_tokens,
                    finish_reason=step.reason if isinstance(step, Last) else None,
                )
        finally:
            self.streaming -= 1
            self.closed_streams += 1


# --- the classifier ---------------------------------------------------------------------------


class ScriptedClassifier(ScreenClassifier):
    """A classifier that answers what it is told, or plays a fault first."""

    def __init__(self, settings: Settings, answer: float = 0.0, steps: Sequence[Step] = ()) -> None:
        super().__init__(settings)
        self.answer = answer
        self.steps = steps
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    @property
    def ready(self) -> bool:
        return True

    async def probability(self, utterance: str, earlier: Sequence[str]) -> float:
        self.asked.append((utterance, tuple(earlier)))
        for step in self.steps:
            await _play(step)
        return self.answer


class ScriptedModels:
    """The models that turns work with; a test that asks for one that is not there fails."""

    def __init__(self, chat: ScriptedChat | None, classifier: ScriptedClassifier | None) -> None:
        self._chat = chat
        self._classifier = classifier

    @property
    def chat(self) -> ScriptedChat:
        assert self._chat is not None
        return self._chat

    @property
    def classifier(self) -> ScriptedClassifier:
        assert self._classifier is not None
        return self._classifier


def server_with(
    settings: Settings,
    chat: ChatEngine | None,
    classifier: ScreenClassifier | None,
    clock: Callable[[], float] = time.monotonic,
) -> Server:
    """The real server around these two."""
    metrics = Metrics(CollectorRegistry())
    server = Server(settings, metrics, clock)
    server._chat, server._classifier = chat, classifier
    server.resources = replace(
        server.resources,
        chat=chat,
        router=ScreenRouter(classifier, settings, metrics) if classifier else None,
    )
    return server


# --- the socket -------------------------------------------------------------------------------


class Clock:
    """A clock that stands still until it is driven."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Client:
    """A WebSocket client as the server's ASGI interface sees one.

    `reading` can be cleared: then what the server sends is not taken, as with a full TCP window.
    """

    def __init__(
        self,
        server: Server,
        *,
        query: str | None = None,
        headers: dict[str, str] | None = None,
        direct: bool = False,
    ) -> None:
        """
        Args:
            direct: whether the ASGI server has the short way out of `yap.websocket`.
        """
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._to_client: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._to_server.put_nowait({"type": "websocket.connect"})
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = False
        self.accepted = False
        self.close: tuple[int, str] | None = None
        scope = {
            "type": "websocket",
            "path": "/ws",
            "query_string": (urlencode({"api_key": KEY}) if query is None else query).encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
            "subprotocols": [],
            "extensions": {WRITE_TEXT: self._write} if direct else {},
        }
        websocket = WebSocket(scope, self._to_server.get, self._send)
        self.serving = asyncio.create_task(connection.serve(websocket, server), name="serve")

    def _write(self, text: bytes) -> bool:
        if not self.reading.is_set() or self.gone or self.close is not None:
            return False
        self._to_client.put_nowait(json.loads(text))
        return True

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        if self.gone:
            raise OSError("the client is gone")
        match message["type"]:
            case "websocket.accept":
                self.accepted = True
            case "websocket.send":
                self._to_client.put_nowait(json.loads(message["text"]))
            case "websocket.close":
                self.close = (message["code"], message.get("reason") or "")
                self._to_client.put_nowait({"type": "closed"})

    def send(self, frame: Any) -> None:
        """Send a frame: an object as JSON, bytes as a binary frame, a str as it is."""
        message: dict[str, Any] = {"type": "websocket.receive"}
        if isinstance(frame, bytes):
            message["bytes"] = frame
        else:
            message["text"] = frame if isinstance(frame, str) else json.dumps(frame)
        self._to_server.put_nowait(message)

    def disconnect(self) -> None:
        """Go without a word."""
        self.gone = True
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def receive(self, seconds: float = 5.0) -> dict[str, Any]:
        """The next frame; `{"type": "closed"}` once the server has closed."""
        async with asyncio.timeout(seconds):
            return await self._to_client.get()

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All frames up to the first of this type, that one included."""
        frames = [await self.receive()]
        while frames[-1]["type"] != kind:
            frames.append(await self.receive())
        return frames

    async def ended(self, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Wait until the server has let go of the connection; what it sent meanwhile."""
        async with asyncio.timeout(seconds):
            await self.serving
        frames = []
        while not self._to_client.empty():
            frames.append(self._to_client.get_nowait())
        return frames


def kinds(frames: Iterable[dict[str, Any]]) -> list[str]:
    """The types of frames."""
    return [frame["type"] for frame in frames]
