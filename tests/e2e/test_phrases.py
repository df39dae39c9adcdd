"""Banned phrases and biases, with the real engine: what is banned is not said, the rest is."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import running
from tests.e2e.harness import ServerProcess
from tests.e2e.talk import Frame, Talk, start, talk
from tests.e2e.test_http import post
from yap.chat.phrases import fold

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

# What the demo model likes to say, and an expression.
BANNED_BY_OPERATOR = ("about you", "SOUNDS", "Oh no")
FILE = {**dict.fromkeys(BANNED_BY_OPERATOR, -100), r"/\b(nice|lovely)\b/": -100, "scarecrow": -100}
BANNED_BY_CLIENT = ["I'm", "what "]
LINES = (
    "Hi there! How are you?",
    "I had a bad day.",
    "My name is Tobias.",
    "Tell me a joke!",
    "What did you do today?",
    "I love the sea.",
    "Good night!",
    "I bought a bicycle.",
)
GREEDY = {"temperature": 0}
SAMPLED = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The chat model alone, with a file of banned phrases and no rate limits."""
    home = tmp_path_factory.mktemp("phrases")
    path = home / "phrases.json"
    path.write_text(json.dumps(FILE), encoding="utf-8")
    with running(
        home,
        DEPLOY_MODELS="chat",
        CHAT_LOGIT_BIAS_FILE=str(path),
        WS_MAX_MESSAGES_PER_WINDOW="0",
        WS_MAX_CANCELS_PER_WINDOW="0",
    ) as process:
        yield process


def check(frames: list[Frame], *banned: str) -> str:
    """A turn that ended well and says nothing banned; its text."""
    *_, final, done = frames
    text: str = final["normalized_text"]
    said = "".join(frame["text"] for frame in frames if frame["type"] == "token")
    assert said == text
    assert done["finish_reason"] == "stop"
    assert done["usage"]["completion_tokens"] > 2
    assert text[-1] in ".?!"
    found = [phrase for phrase in (*BANNED_BY_OPERATOR, *banned) if fold(phrase) in fold(text)]
    assert not found, text
    assert not {"nice", "lovely"} & {word.strip(".,!?").lower() for word in text.split()}
    return text


async def converse(server: ServerProcess, name: str, sampling: dict[str, Any]) -> None:
    async with talk(server) as client:
        for number, line in enumerate(LINES):
            session = f"{name}-{number}"
            frames = await client.turn(line, session_id=session, sampling=sampling)
            check(frames, *sampling.get("banned_strings", ()))


async def nothing_runs(server: ServerProcess) -> None:
    """Wait until no request runs and no KV block is in use."""
    names = ("vllm:num_requests_running", "vllm:kv_cache_usage_perc")
    deadline = time.monotonic() + 5
    while any(left := [await asyncio.to_thread(server.metric, name) for name in names]):
        assert time.monotonic() < deadline, dict(zip(names, left, strict=True))
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("banned", [(), BANNED_BY_CLIENT], ids=["operator", "client too"])
async def test_what_is_banned_is_not_said_and_replies_are_whole(
    strict_server: ServerProcess, sampling: dict[str, Any], banned: list[str]
) -> None:
    before = strict_server.metric("yap_phrase_rewinds_total")
    await converse(strict_server, "alone", sampling | {"banned_strings": list(banned)})
    assert strict_server.metric("yap_phrase_rewinds_total") > before
    await nothing_runs(strict_server)


async def test_eight_at_a_time_are_as_good_as_one(strict_server: ServerProcess) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            sampling = GREEDY if number % 2 else SAMPLED
            wishes = sampling | {"banned_strings": BANNED_BY_CLIENT}
            group.create_task(converse(strict_server, f"crowd-{number}", wishes))
    await nothing_runs(strict_server)


async def test_where_nothing_is_met_the_reply_is_the_same(server: ServerProcess) -> None:
    async with talk(server) as client:
        for line in LINES:
            plain = await client.turn(line, sampling=GREEDY)
            wishes = GREEDY | {"banned_strings": ["zebra crossing"], "logit_bias": {"qu": -100}}
            guarded = await client.turn(line, sampling=wishes)
            if "qu" not in plain[-2]["normalized_text"]:
                assert guarded[-2]["normalized_text"] == plain[-2]["normalized_text"]
                assert (
                    guarded[-1]["usage"]["completion_tokens"]
                    == plain[-1]["usage"]["completion_tokens"]
                )


async def test_a_bias_makes_a_token_come_or_stay_away(server: ServerProcess) -> None:
    async with talk(server) as client:
        wishes = GREEDY | {"logit_bias": {" lovely": 100}}
        liked = await client.turn("Hi there!", sampling=wishes)
        assert "lovely lovely lovely" in liked[-2]["normalized_text"]
        assert liked[-1]["finish_reason"] == "length"
        plain = await client.turn("I love the ocean.", sampling=GREEDY)
        wishes = GREEDY | {"logit_bias": {"glad": -50}}
        disliked = await client.turn("I love the ocean.", session_id="s2", sampling=wishes)
        assert "glad" in plain[-2]["normalized_text"]
        assert "glad" not in disliked[-2]["normalized_text"]


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"logit_bias": {"999999": 1}}, "invalid_logit_bias"),
        ({"logit_bias": {"a whole sentence": 1}}, "invalid_logit_bias"),
        ({"logit_bias": {"5": 101}}, "invalid_logit_bias"),
        ({"banned_strings": ["x"] * 65}, "invalid_banned_strings"),
    ],
)
async def test_what_cannot_be_wished_is_refused_before_the_turn(
    server: ServerProcess, wish: dict[str, Any], code: str
) -> None:
    async with talk(server) as client:
        await client.send(start("Hi!", sampling=wish))
        assert (await client.receive())["error_code"] == code
        assert (await client.closed())[0] == 1008
    messages = [{"role": "user", "content": "Hi!"}]
    status, body = await asyncio.to_thread(
        post, server, "/chat", {"messages": messages, "sampling": wish}
    )
    assert (status, json.loads(body.removeprefix("data: "))["error_code"]) == (400, code)


async def test_interruptions_in_the_middle_of_rewinds_leave_nothing_running(
    strict_server: ServerProcess,
) -> None:
    """Letters are banned, so that replies are taken back all the time."""
    dice = random.Random(11)

    async def interrupt(client: Talk) -> None:
        wishes = SAMPLED | {"banned_strings": ["a", "o", "you"]}
        for number in range(30):
            await client.send(start(LINES[number % len(LINES)], sampling=wishes))
            await asyncio.sleep(dice.uniform(0, 0.12))
            if dice.random() < 0.5:
                await client.send({"type": "cancel"})
        await client.send({"type": "ping"})
        await client.until("pong")

    before = strict_server.metric("yap_phrase_rewinds_total")
    async with talk(strict_server) as one, talk(strict_server) as another:
        await asyncio.gather(interrupt(one), interrupt(another))
    assert strict_server.metric("yap_phrase_rewinds_total") > before + 20
    await nothing_runs(strict_server)
