"""However large a frame is, it is answered in time and holds nobody up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.bad_input.large import LARGE, TEN_MEGABYTES, Large
from tests.e2e.bad_input.literals import FRAME_BYTES
from tests.e2e.bad_input.watching import (
    ANSWER_S,
    INTERNAL,
    NO_LIMITS,
    SLOW_S,
    Bystander,
    connected,
    show,
)
from tests.e2e.conftest import running
from tests.e2e.harness import ServerProcess
from tests.e2e.talk import Talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

ROOMY_BYTES = 16 * 1024 * 1024
SERVED = ("ack", "token", "warmed")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Both models, where frames may be larger than they usually may."""
    settings = NO_LIMITS | {"WS_MAX_FRAME_BYTES": str(ROOMY_BYTES)}
    with running(tmp_path_factory.mktemp("roomy"), **settings) as process:
        yield process


async def answer_to(client: Talk, large: Large, size: int) -> None:
    """Send the frame, and see that the answer is the right one."""
    await client.send(large.text(size))
    answer = await client.receive(ANSWER_S)
    assert large.answer in (answer["type"], answer.get("error_code")), str(answer)[:300]
    assert not INTERNAL.search(str(answer.get("message", "")))
    while large.last is not None and answer["type"] != large.last:
        answer = await client.receive(ANSWER_S)
    assert answer.get("finish_reason") != "error"


async def cost(server: ServerProcess, large: Large, size: int) -> tuple[float, Bystander]:
    """Send the frame; seconds until its last answer, and what another client noticed."""
    bystander = Bystander(server)
    async with connected(server) as client:
        if large.answer in SERVED:  # a session that the frame finds
            await client.turn("Hi!", session_id="large", sampling={"temperature": 0})
        async with bystander.watching():
            begun = time.perf_counter()
            await answer_to(client, large, size)
            taken = time.perf_counter() - begun
    return taken, bystander


@pytest.mark.parametrize("name", LARGE)
async def test_a_frame_of_a_megabyte_holds_nobody_up(
    served: ServerProcess, full_turn_s: float, name: str
) -> None:
    large = LARGE[name]
    # What is served fills its budgets, and then takes what that takes.
    limit = SLOW_S + (full_turn_s if large.answer in SERVED else 0)
    # A tenth first, so that a cost that grows with the square does not take the server with it.
    for size in (FRAME_BYTES // 10, FRAME_BYTES):
        taken, bystander = await cost(served, large, size)
        show(f"{name}, {size} bytes", taken, bystander)
        assert bystander.ping_s < SLOW_S
        assert bystander.turn_s < limit
        assert taken < limit


async def test_ten_megabytes_of_history_are_read_where_such_frames_are_allowed(
    roomy: ServerProcess,
) -> None:
    taken, bystander = await cost(roomy, TEN_MEGABYTES, 9_900_000)
    show("10 MB of history", taken, bystander)
    assert bystander.ping_s < SLOW_S
