"""The chat engine itself, with the demo model: who shares its cache, and who goes before whom."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from tests.e2e.talk import PERSONA
from yap.chat.engine import ChatEngine, Piece
from yap.chat.salts import CacheSalts
from yap.history import Message
from yap.protocol import SamplingOptions
from yap.settings import Settings

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]
SALTS = CacheSalts({PERSONA}.__contains__)
ONE, ANOTHER = b"one", b"another"
SAID = (
    Message("user", "hey, i'm back. the train stood still for an hour and i had nothing to read"),
    Message("assistant", "Oh no, an hour! At least you are home now. Did you get something warm?"),
    Message("user", "some soup, and now i'm on the sofa with the cat and a blanket"),
    Message("assistant", "That sounds just right. Tell the cat I said hello!"),
)
GREEDY = SamplingOptions(temperature=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[ChatEngine]:
    """One for all tests here; what it sets in the environment is taken back."""
    before = dict(os.environ)
    os.environ["HF_HUB_OFFLINE"] = "1"
    engine = ChatEngine(Settings(text_api_key="a-key-for-tests"))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()
        os.environ.clear()
        os.environ.update(before)


def long_persona(name: str) -> str:
    """A persona near its budget of 1,650 tokens, another one for each name."""
    return f"You are {name}. " + f"{name} likes tea, long walks by the sea, and good books. " * 80


async def reply(
    engine: ChatEngine,
    persona: str | None,
    salt: str | None = None,
    messages: Sequence[Message] = (),
    most: int = 2,
) -> Piece:
    """The last piece of a reply to a greeting."""
    prompt = await engine.prepare(persona, messages, "How are you?")
    prompt = dataclasses.replace(prompt, max_tokens=most, cache_salt=salt)
    pieces = [piece async for piece in engine.stream(prompt, GREEDY, "test")]
    return pieces[-1]


async def holds_no_blocks(engine: ChatEngine) -> bool:
    """Whether nothing runs and no KV block is in use; forgets the prefix cache."""
    assert engine._llm is not None
    return not await engine.in_flight() and bool(await engine._llm.reset_prefix_cache())


async def test_a_tenant_finds_what_it_has_said_and_nobody_else_does(engine: ChatEngine) -> None:
    own = "You are Nora, a calm companion who talks about the sea. Keep your answers short."
    salts = {tenant: SALTS.of(tenant, own) for tenant in (ONE, ANOTHER)}
    first = await reply(engine, own, salts[ONE], SAID)
    again = await reply(engine, own, salts[ONE], SAID)
    stranger = await reply(engine, own, salts[ANOTHER], SAID)
    nobody = await reply(engine, own, None, SAID)
    assert [first.cached_tokens, stranger.cached_tokens, nobody.cached_tokens] == [0, 0, 0]
    assert again.cached_tokens >= again.prompt_tokens - 32


async def test_without_a_persona_tenants_are_apart_too(engine: ChatEngine) -> None:
    assert (await reply(engine, None, SALTS.of(ONE, None), SAID)).cached_tokens == 0
    assert (await reply(engine, None, SALTS.of(ONE, None), SAID)).cached_tokens > 0
    assert (await reply(engine, None, SALTS.of(ANOTHER, None), SAID)).cached_tokens == 0


async def test_a_persona_of_the_library_is_read_once_for_all_tenants(engine: ChatEngine) -> None:
    persona = long_persona("Anna")
    salts = CacheSalts({persona}.__contains__)
    await engine.warm(persona, (), "warm")
    for tenant in (ONE, ANOTHER):
        piece = await reply(engine, persona, salts.of(tenant, persona), SAID[:1])
        assert piece.cached_tokens >= 0.9 * piece.prompt_tokens


async def test_what_is_warmed_for_a_tenant_is_its_own(engine: ChatEngine) -> None:
    own = long_persona("Otto")
    await engine.warm(own, SAID, "warm", SALTS.of(ONE, own))
    assert (await reply(engine, own, SALTS.of(ANOTHER, own), SAID)).cached_tokens == 0
    piece = await reply(engine, own, SALTS.of(ONE, own), SAID)
    assert piece.cached_tokens >= 0.9 * piece.prompt_tokens


async def test_background_work_gives_its_place_to_a_turn_and_is_done_afterwards(
    engine: ChatEngine,
) -> None:
    assert await holds_no_blocks(engine)
    personas = [long_persona(name) for name in ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")]
    warming = [
        asyncio.create_task(engine.warm(persona, (), f"warm-{number}"))
        for number, persona in enumerate(personas)
    ]
    async with asyncio.timeout(10):
        while not await engine.in_flight():  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(0)
    assert not all(task.done() for task in warming)

    prompt = await engine.prepare(None, (), "Hello!")
    async with contextlib.aclosing(engine.stream(prompt, GREEDY, "turn")) as pieces:
        beside = [await engine.in_flight() - 1 async for _ in pieces]
    assert beside[0] == 0, "the turn shared the engine before its first token"
    assert max(beside) <= 2

    await asyncio.gather(*warming)
    for persona in personas:
        piece = await reply(engine, persona)
        assert piece.cached_tokens >= 0.9 * piece.prompt_tokens
    assert await holds_no_blocks(engine)
