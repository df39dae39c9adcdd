"""What a conversation finds in the prefix cache: its own past, and the personas of the library."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.e2e.conftest import running
from tests.e2e.harness import API_KEY, ROOT, ServerProcess
from tests.e2e.talk import Frame, talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

OTHER_KEY = "another-e2e-test-key"
HISTORY_MAX_TOKENS = 3000
OWN_PERSONA = (
    "You are Nora, a calm companion who lives by the sea and paints boats. You speak in short, "
    "warm sentences, you like to hear what people did today, and you never give advice unasked."
)
UTTERANCE = (
    "So, number {number}: today I went to the market with my sister, we bought apples and a small "
    "plant for the kitchen, and then we sat by the river until it got too cold to stay."
)
ANSWER = "That sounds like a good day. I like that you took the time to sit by the river together."


@pytest.fixture(scope="module")
def two_tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The chat model alone, with two keys and no rate limits."""
    with running(
        tmp_path_factory.mktemp("tenants"),
        DEPLOY_MODELS="chat",
        TEXT_API_KEY=f"{API_KEY},{OTHER_KEY}",
        HISTORY_MAX_TOKENS=str(HISTORY_MAX_TOKENS),
        WS_MAX_MESSAGES_PER_WINDOW="0",
        CHAT_PROMPT_UPDATE_MAX_PER_WINDOW="0",
    ) as process:
        yield process


def usage(frames: list[Frame]) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them were cached."""
    counts = frames[-1]["usage"]
    return counts["prompt_tokens"], counts["cached_tokens"]


def history_of(tokens: int) -> list[dict[str, str]]:
    """A history of nearly so many tokens, as the demo model counts them."""
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "yap-chat-demo" / "tokenizer.json"))
    messages: list[dict[str, str]] = []
    while True:
        pair = [UTTERANCE.format(number=len(messages) // 2 - 100), ANSWER]
        tokens -= sum(len(tokenizer.encode(text).ids) for text in pair)
        if tokens < 0:
            return messages
        messages += [
            {"role": "user", "content": pair[0]},
            {"role": "assistant", "content": pair[1]},
        ]


async def test_at_its_budget_a_conversation_is_cached_on_nine_turns_of_ten(
    two_tenants: ServerProcess,
) -> None:
    asks: dict[str, Any] = {"chat_prompt": OWN_PERSONA, "session_id": "long"}
    history = history_of(HISTORY_MAX_TOKENS)
    shares = []
    async with talk(two_tenants) as client:
        await client.turn("Hello again!", history=history, **asks)
        for number in range(10):
            frames = await client.turn(UTTERANCE.format(number=number), history_text=None, **asks)
            tokens, cached = usage(frames)
            assert tokens > HISTORY_MAX_TOKENS / 2
            shares.append(cached / tokens)
    print("\ncached share of each prompt:", " ".join(f"{share:.3f}" for share in shares))
    assert min(shares) < 0.5, "it was never cut, so it was not at its budget"
    assert sum(share >= 0.9 for share in shares) >= 9


async def test_tenants_share_the_librarys_personas_and_not_their_own(
    two_tenants: ServerProcess,
) -> None:
    cached: dict[str, list[int]] = {"own": [], "library": []}
    for key in (API_KEY, API_KEY, OTHER_KEY):
        async with talk(two_tenants, f"?api_key={key}") as client:
            own = await client.turn("Hi!", chat_prompt="You love tea. " + OWN_PERSONA)
            library = await client.turn("Hi!", persona="theo", chat_prompt=None)
        cached["own"].append(usage(own)[1])
        cached["library"].append(usage(library)[1])
    assert cached["own"][0] == cached["own"][2] == 0
    assert cached["own"][1] > 0
    assert min(cached["library"]) > 300  # from the first turn on: it was read at the start


def test_tenants_are_apart_over_http_too(two_tenants: ServerProcess) -> None:
    cached = [_cached_over_http(two_tenants, key) for key in (API_KEY, API_KEY, OTHER_KEY)]
    assert cached[0] == cached[2] == 0
    assert cached[1] > 0


def _cached_over_http(server: ServerProcess, key: str) -> int:
    messages = [
        {"role": "system", "content": "You love coffee. " + OWN_PERSONA},
        {"role": "user", "content": "Hi!"},
    ]
    request = urllib.request.Request(
        f"http://{server.address}/chat",
        json.dumps({"messages": messages}).encode(),
        {"Content-Type": "application/json", "X-API-Key": key},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        events = response.read().decode().split("\n\n")
    done = [json.loads(event.removeprefix("data: ")) for event in events if event][-1]
    return int(done["usage"]["cached_tokens"])
