"""Whatever is posted, it is answered by code and in time, and holds nobody up."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.e2e.bad_input.bodies import (
    CHAT_BODIES,
    CLASSIFY_BODIES,
    LARGE_BODIES,
    NO_BODIES,
    USER,
    LargeBody,
)
from tests.e2e.bad_input.literals import Bad, frame
from tests.e2e.bad_input.watching import INTERNAL, SLOW_S, Bystander, listed, show
from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import Frame

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


class Poster:
    """Posts JSON over one connection that is kept."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = http.client.HTTPConnection(server.address, timeout=30)

    def post(self, path: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
        """Status and body."""
        headers = {"Content-Type": kind, "X-API-Key": API_KEY}
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def close(self) -> None:
        """Leave."""
        self._connection.close()


def coded_refusal(body: str) -> Frame:
    """The error frame that a body is, or that its only event has."""
    found = json.loads(body.removeprefix("data: "))
    return found if isinstance(found, dict) and found.get("type") == "error" else {}


def problems_with_posts(
    server: ServerProcess, path: str, posts: Iterable[tuple[str, bytes, str]]
) -> list[str]:
    """What is wrong with the answers to bodies, each given with its name and its code."""
    problems = []
    poster = Poster(server)
    for name, body, code in posts:
        begun = time.perf_counter()
        status, answer = poster.post(path, body)
        taken = time.perf_counter() - begun
        refusal = coded_refusal(answer)
        if (status, refusal.get("error_code")) != (400, code):
            problems.append(f"{name}: {status} {answer[:160]!r}, not 400 with {code}")
        elif INTERNAL.search(refusal["message"]):
            problems.append(f"{name}: {refusal['message'][:160]!r}")
        if taken > SLOW_S:
            problems.append(f"{name}: took {taken:.1f} s")
    poster.close()
    return sorted(problems, key=lambda problem: ": 400 " in problem)  # the worst ones first


def posts_with(bads: Iterable[Bad], **good: str) -> Iterator[tuple[str, bytes, str]]:
    """Bodies that are good but for one field."""
    for bad in bads:
        yield str(bad), frame({}, **good | {bad.field: bad.literal}).encode(), bad.code


def test_a_bad_body_for_chat_is_refused_by_code(served: ServerProcess) -> None:
    bodies = [(name, body, "invalid_message") for name, body in NO_BODIES.items()]
    bodies += posts_with(CHAT_BODIES, messages=f"[{USER}]")
    problems = problems_with_posts(served, "/chat", bodies)
    assert not problems, listed(problems)


def test_a_bad_body_for_classify_is_refused_by_code(served: ServerProcess) -> None:
    bodies = [(name, body, "invalid_message") for name, body in NO_BODIES.items()]
    bodies += posts_with(CLASSIFY_BODIES, utterance='"Hi!"', earlier='["Hello"]')
    problems = problems_with_posts(served, "/classify", bodies)
    assert not problems, listed(problems)


def post_large(server: ServerProcess, large: LargeBody, size: int) -> float:
    """Post the body, and see that it is served; the seconds that it took."""
    body = large.body.text(size).encode()
    poster = Poster(server)
    begun = time.perf_counter()
    status, answer = poster.post(large.path, body)
    taken = time.perf_counter() - begun
    poster.close()
    assert status == large.status, answer[:300]
    last = json.loads(answer.strip().rpartition("\n")[2].removeprefix("data: "))
    assert large.body.answer in (last.get("type"), last.get("status"))
    return taken


@pytest.mark.parametrize("name", LARGE_BODIES)
async def test_a_large_body_holds_nobody_up(
    served: ServerProcess, full_turn_s: float, name: str
) -> None:
    large = LARGE_BODIES[name]
    sizes = [large.size // 10, large.size]
    for size in sizes if large.status == http.HTTPStatus.OK else sizes[1:]:
        bystander = Bystander(served)
        async with bystander.watching():
            taken = await asyncio.to_thread(post_large, served, large, size)
        show(f"{name}, {size} bytes", taken, bystander)
        assert bystander.ping_s < SLOW_S
        assert bystander.turn_s < SLOW_S + full_turn_s
        assert taken < SLOW_S + full_turn_s
