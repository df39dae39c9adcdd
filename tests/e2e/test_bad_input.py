"""Whatever a client sends, it gets a coded answer in time, and the others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import pytest
import websockets

from tests.e2e import bad_input
from tests.e2e.bad_input import ABSENT, FRAME_BYTES, Bad, Large, LargeBody, frame, start_frame, text
from tests.e2e.conftest import running
from tests.e2e.harness import API_KEY, ServerProcess
from tests.e2e.talk import Frame, Talk, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

NO_LIMITS = {
    "WS_MAX_MESSAGES_PER_WINDOW": "0",
    "CHAT_PROMPT_UPDATE_MAX_PER_WINDOW": "0",
}
ROOMY_BYTES = 16 * 1024 * 1024
ANSWER_S = 15.0
SLOW_S = 1.0  # what no single frame may cost, neither its sender nor anybody else
TURN_EVERY = 20
MOST_SHOWN = 25

# How Python puts things, and where it keeps them.
INTERNAL = re.compile(
    r"Traceback|Error\b|Exception|object has no|attribute|<class|NoneType|\bNone\b|\bdict\b"
    r"|\.py\b|site-packages|pydantic|line \d|column \d|/[a-z]+/[a-z]|0x[0-9a-f]{4}|_type=|https?:",
)
# What the server writes into its log when something went wrong that nobody foresaw.
UNFORESEEN = re.compile(
    r".*(A connection failed|An errand failed|Turn \w+ failed|classifier failed|never retrieved"
    r"|Unhandled|in ASGI application).*"
)


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Both models without rate limits; the parameter is the largest frame, if not the default."""
    settings = NO_LIMITS | {"WS_MAX_FRAME_BYTES": str(getattr(request, "param", FRAME_BYTES))}
    with running(tmp_path_factory.mktemp("bad-input"), **settings) as process:
        yield process


@pytest.fixture(scope="module")
def full_turn_s(served: ServerProcess) -> float:
    """Seconds that an honest turn takes whose history fills its budget."""
    history = [{"role": ("user", "assistant")[i % 2], "content": "we"} for i in range(1000)]

    async def turn() -> float:
        async with connected(served) as client:
            begun = time.perf_counter()
            await client.turn("Hi!", session_id="full", history=history)
            return time.perf_counter() - begun

    return asyncio.run(turn())


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Talk]:
    """A client that takes frames of any size; some answers repeat what was sent."""
    async with websockets.connect(
        f"ws://{server.address}/ws",
        additional_headers={"X-API-Key": API_KEY},
        max_size=None,
        ping_interval=None,
    ) as websocket:
        yield Talk(websocket)


class Sweep:
    """Sends one bad frame after another, and notes whatever is not as it should be."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._count = 0
        self._client: Talk | None = None
        self.problems: list[str] = []

    async def client(self) -> Talk:
        """The connection for all that does not end it; another one if it was lost."""
        if self._client is None or self._client.websocket.close_code is not None:
            websocket = await websockets.connect(
                f"ws://{self._server.address}/ws",
                additional_headers={"X-API-Key": API_KEY},
                max_size=None,
                ping_interval=None,
            )
            self._client = Talk(websocket)
        return self._client

    async def close(self) -> None:
        """Leave."""
        if self._client is not None:
            await self._client.websocket.close()

    async def refused(self, name: str, sent: str | bytes, code: str) -> None:
        """The frame is refused with `code`, and the connection goes on."""
        async with self._watched(name):
            client = await self.client()
            await client.send(sent)
            self._check(name, await client.receive(ANSWER_S), code)

    async def refused_and_closed(self, name: str, sent: str, code: str) -> None:
        """The frame is refused with `code`, and its connection closed with 1008."""
        async with self._watched(name), connected(self._server) as client:
            await client.send(sent)
            self._check(name, await client.receive(ANSWER_S), code)
            closed = await client.closed()
            if closed != (1008, ""):
                self._note(name, f"was closed with {closed}")

    async def answered(self, name: str, sent: str, kind: str) -> None:
        """The frame is answered with frames up to one of this type, and none is an error."""
        async with self._watched(name):
            client = await self.client()
            await client.send(sent)
            frames = [await client.receive(ANSWER_S)]
            while frames[-1]["type"] not in (kind, "error"):
                frames.append(await client.receive(ANSWER_S))
            for answer in frames:
                self._check_text(name, answer)
            if frames[-1]["type"] != kind or frames[-1].get("finish_reason") == "error":
                self._note(name, f"was answered with {frames[-1]}")

    @asynccontextmanager
    async def _watched(self, name: str) -> AsyncIterator[None]:
        begun = time.perf_counter()
        try:
            yield
            taken = time.perf_counter() - begun
            if taken > SLOW_S:
                self._note(name, f"took {taken:.1f} s")
            await self._goes_on(name)
        except TimeoutError:
            self._note(name, f"was not answered within {ANSWER_S:g} s")
        except (OSError, websockets.ConnectionClosed) as error:
            self._note(name, f"lost the connection: {error}")

    async def _goes_on(self, name: str) -> None:
        client = await self.client()
        await client.send({"type": "ping"})
        if (answer := await client.receive(ANSWER_S)) != {"type": "pong"}:
            self._note(name, f"was followed by {answer}")
        self._count += 1
        if self._count % TURN_EVERY == 0:
            done = (await client.turn("Hi!", session_id="whole", sampling={"temperature": 0}))[-1]
            if done["finish_reason"] not in ("stop", "length"):
                self._note(name, f"was followed by a turn that ended with {done}")

    def _check(self, name: str, answer: Frame, code: str) -> None:
        self._check_text(name, answer)
        if answer.get("error_code") != code:
            self._note(name, f"was answered with {answer}, not {code}")

    def _check_text(self, name: str, answer: Frame) -> None:
        message = str(answer.get("message", ""))
        if INTERNAL.search(message) or len(message) > 200:
            self._note(name, f"shows what is inside: {message!r}")
        if answer["type"] == "error" and not message.endswith("."):
            self._note(name, f"has no sentence for a message: {message!r}")

    def _note(self, name: str, what: str) -> None:
        self.problems.append(f"{name} {what[:300]}")


@asynccontextmanager
async def sweeping(server: ServerProcess) -> AsyncIterator[Sweep]:
    """A sweep over the server. Nothing may be wrong in the end, in its log either."""
    logged = len(server.log.read_text(errors="replace"))
    sweep = Sweep(server)
    yield sweep
    await sweep.close()
    log = server.log.read_text(errors="replace")[logged:]
    wrong = [*sweep.problems, *(match[0] for match in UNFORESEEN.finditer(log))]
    assert not wrong, listed(wrong)


def listed(problems: list[str]) -> str:
    """Problems as pytest shows them best."""
    return "\n".join([f"{len(problems)} problems:", *problems[:MOST_SHOWN]])


async def in_a_session(sweep: Sweep, session_id: str) -> None:
    """Have a turn, so that there is a session."""
    await (await sweep.client()).turn("Hi!", session_id=session_id, sampling={"temperature": 0})


# --- frames that are no message -----------------------------------------------------------


async def test_what_is_no_message_is_refused(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for name, sent in bad_input.NO_MESSAGES.items():
            await sweep.refused(name, sent, "invalid_message")


async def test_unknown_types_are_refused(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for kind in bad_input.UNKNOWN_TYPES:
            await sweep.refused(f"type {kind[:40]}", f'{{"type":{kind}}}', "unknown_message_type")


async def test_lone_surrogates_are_refused_wherever_they_are(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for (kind, field), lone in itertools.product(
            bad_input.SURROGATE_FIELDS, bad_input.LONE_SURROGATES
        ):
            literal = f'"{lone}"'
            if kind == "start":
                sent = start_frame(**{field: literal})
            else:
                sent = frame({"type": kind}, **{field: literal})
            await sweep.refused(f"{kind} with {field}={lone}", sent, "invalid_message")


async def test_text_that_is_no_utf8_closes_the_connection(served: ServerProcess) -> None:
    for rubbish in (b"\xff", b'{"type":"ping","x":"\xc3"}', b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        async with connected(served) as client:
            await client.websocket.send(rubbish, text=True)
            code, reason = await client.closed()
            assert code == 1007
            assert not INTERNAL.search(reason)


async def test_a_frame_may_be_as_long_as_the_limit_and_no_longer(served: ServerProcess) -> None:
    async with connected(served) as client:
        await client.send('{"type":"ping"}'.rjust(FRAME_BYTES))
        assert await client.receive() == {"type": "pong"}
        await client.websocket.send([" " * 1000, '{"type":"ping"}'])
        assert await client.receive() == {"type": "pong"}
    history = start("Hi!", history=[{"role": "user", "content": "hello " * 1_700_000}])
    for too_long in ('{"type":"ping"}'.rjust(FRAME_BYTES + 1), bytes(FRAME_BYTES + 1), history):
        async with connected(served) as client:
            with contextlib.suppress(websockets.ConnectionClosed, OSError):
                await client.send(too_long)
            # Of what is very long, the rest is not read: then 1009 may be lost on the way.
            assert (await client.closed())[0] in ((1009, 1006) if too_long is history else (1009,))
    async with connected(served) as client:
        with contextlib.suppress(websockets.ConnectionClosed):  # it may come while we send
            await client.websocket.send([" " * 100_000] * 11)
        assert (await client.closed())[0] == 1009


# --- fields -------------------------------------------------------------------------------


async def test_a_start_with_a_bad_session_id_is_refused_and_the_connection_goes_on(
    served: ServerProcess,
) -> None:
    async with sweeping(served) as sweep:
        for bad in bad_input.SESSION_IDS:
            await sweep.refused(str(bad), start_frame(**{bad.field: bad.literal}), bad.code)


@pytest.mark.parametrize("group", bad_input.START_FIELDS)
async def test_a_start_with_a_bad_field_is_refused_and_closed(
    served: ServerProcess, group: str
) -> None:
    async with sweeping(served) as sweep:
        others: dict[str, str] = {}
        if group == "persona_text":
            others = {"chat_prompt": ABSENT}
        elif group.startswith("sampling"):
            others = {"sampling": ABSENT}
        for bad in bad_input.START_FIELDS[group]:
            sent = start_frame(**others | {bad.field: bad.literal})
            await sweep.refused_and_closed(f"start with {bad}", sent, bad.code)


async def test_a_start_in_which_much_is_wrong_is_refused_for_the_first_of_it(
    served: ServerProcess,
) -> None:
    async with sweeping(served) as sweep:
        wrong = {
            "gender": "5",
            "personality": "5",
            "chat_prompt": "5",
            "sampling": '"x"',
            "check_screen_prefix": "5",
            "personalities": "5",
        }
        for field in tuple(wrong):
            code = {"sampling": "sampling_payload", "personalities": "personalities_format"}
            expected = f"invalid_{code.get(field, field)}"
            await sweep.refused_and_closed(f"start from {field} on", start_frame(**wrong), expected)
            del wrong[field]


async def test_an_odd_start_is_served(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for name, fields in bad_input.ODD_STARTS.items():
            await sweep.answered(name, start_frame(**{"session_id": '"odd"'} | fields), "done")


async def test_a_bad_followup_is_refused(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        good: dict[str, object] = {"type": "followup", "analysis_text": "A cat."}
        await sweep.refused("followup too early", frame(good), "no_session")
        await in_a_session(sweep, "followup")
        for bad in bad_input.FOLLOWUP_FIELDS:
            await sweep.refused(
                f"followup with {bad}", frame(good, **{bad.field: bad.literal}), bad.code
            )


async def test_a_bad_persona_is_refused_in_the_ack(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        good: dict[str, object] = {
            "type": "chat_prompt",
            "gender": "male",
            "personality": "calm",
            "chat_prompt": "You are Bruno.",
        }
        await sweep.refused("chat_prompt too early", frame(good), "no_session")
        await in_a_session(sweep, "chat_prompt")
        for bad in (
            *bad_input.GENDERS,
            *bad_input.PERSONALITY,
            *bad_input.PROMPTS,
            *bad_input.PERSONA_TEXTS,
            *bad_input.PERSONAS,
        ):
            others = {"chat_prompt": ABSENT} if bad.field == "persona_text" else {}
            sent = frame(good, **others | {bad.field: bad.literal})
            await sweep.refused(f"chat_prompt with {bad}", sent, bad.code)
        client = await sweep.client()
        for literal, code in (("5", 400), (bad_input.MANY_TOKENS, 413)):
            await client.send(frame(good, chat_prompt=literal))
            answer = await client.receive()
            found = [answer[key] for key in ("type", "for", "ok", "code")]
            assert found == ["ack", "chat_prompt", False, code]


async def test_a_bad_warm_up_is_refused(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for bad in (*bad_input.PROMPTS, *bad_input.PERSONA_TEXTS, *bad_input.PERSONAS):
            sent = frame({"type": "warm_persona"}, **{bad.field: bad.literal})
            await sweep.refused(f"warm_persona with {bad}", sent, bad.code)
        for bad in bad_input.WARM_HISTORY_FIELDS:
            sent = frame({"type": "warm_history"}, **{bad.field: bad.literal})
            await sweep.refused(f"warm_history with {bad}", sent, bad.code)


async def test_a_bad_cancel_is_refused_and_any_request_id_is_taken(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for bad in bad_input.HEARD:
            for before in ('{"type":"cancel"', '{"cancel":true'):
                sent = f"{before},{text(bad.field)}:{bad.literal}}}"
                await sweep.refused(f"cancel with {bad}", sent, bad.code)
        for literal in bad_input.REQUEST_IDS:
            sent = frame({"type": "cancel"}, request_id=literal)
            await sweep.answered(f"cancel with request_id={literal[:40]}", sent, "done")
        for literal in (bad_input.HUGE, "0", bad_input.NULL):
            sent = frame({"type": "cancel"}, heard_chars=literal)
            await sweep.answered(f"cancel with heard_chars={literal[:40]}", sent, "done")


async def test_a_running_turn_takes_no_notice_of_what_is_refused_beside_it(
    served: ServerProcess,
) -> None:
    rubbish = [
        *(sent for sent in bad_input.NO_MESSAGES.values() if len(sent) < 1000),
        *(f'{{"type":{kind}}}' for kind in bad_input.UNKNOWN_TYPES),
        *(frame({"type": "cancel"}, **{bad.field: bad.literal}) for bad in bad_input.HEARD),
        *(start_frame(**{bad.field: bad.literal}) for bad in bad_input.SESSION_IDS),
        *(frame({"type": "followup"}, analysis_text=b.literal) for b in bad_input.FOLLOWUP_FIELDS),
    ]
    async with connected(served) as client:
        await client.send(start("Tell me about your day, please.", session_id="beside"))
        frames = await client.until("token")
        for sent in rubbish:
            await client.send(sent)
        await client.send({"type": "ping"})
        while len([f for f in frames if f["type"] in ("pong", "done")]) < 2:
            frames.append(await client.receive(ANSWER_S))
    done = next(frame for frame in frames if frame["type"] == "done")
    assert done["finish_reason"] in ("stop", "length")
    assert len([frame for frame in frames if frame["type"] == "error"]) == len(rubbish)


async def test_a_refused_start_ends_the_running_turn_with_its_done(served: ServerProcess) -> None:
    async with connected(served) as client:
        await client.send(start("Tell me about your day, please.", session_id="ended"))
        frames = await client.until("token")
        await client.send(start("Hi!", session_id="ended", gender="x"))
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                frames.append(await client.receive(ANSWER_S))
        assert (await client.closed())[0] == 1008
    (error,) = (frame for frame in frames if frame["type"] == "error")
    (done,) = (frame for frame in frames if frame["type"] == "done")
    assert error["error_code"] == "invalid_gender"
    assert done["finish_reason"] in ("cancelled", "stop")


# --- large frames -------------------------------------------------------------------------


SERVED = ("ack", "token", "warmed")


class Bystander:
    """Another client while something happens: how long its pings and its turns take at most."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.ping_s = 0.0
        self.turn_s = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch for as long as the context lasts, and until what was begun is answered."""
        over = asyncio.Event()
        async with connected(self._server) as pinging, connected(self._server) as talking:
            watches = [
                asyncio.create_task(self._ping(pinging, over)),
                asyncio.create_task(self._talk(talking, over)),
            ]
            await asyncio.sleep(0.02)
            try:
                yield
            finally:
                over.set()
                await asyncio.gather(*watches)

    async def _ping(self, client: Talk, over: asyncio.Event) -> None:
        while not over.is_set():
            sent = time.perf_counter()
            await client.send({"type": "ping"})
            with contextlib.suppress(TimeoutError):
                await client.receive(ANSWER_S)
            self.ping_s = max(self.ping_s, time.perf_counter() - sent)
            await asyncio.sleep(0.002)

    async def _talk(self, client: Talk, over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.sleep(0.05)
            sent = time.perf_counter()
            message = start("Hi!", session_id="bystander", sampling={"temperature": 0})
            await client.send(message)
            with contextlib.suppress(TimeoutError):
                while (await client.receive(ANSWER_S))["type"] != "done":
                    pass
            self.turn_s = max(self.turn_s, time.perf_counter() - sent)


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


def show(name: str, taken: float, bystander: Bystander) -> None:
    print(
        f"{name}: answered in {taken:.3f} s; another client waited for a pong "
        f"{bystander.ping_s:.3f} s, for a turn {bystander.turn_s:.3f} s"
    )


@pytest.mark.parametrize("name", bad_input.LARGE)
async def test_a_frame_of_a_megabyte_holds_nobody_up(
    served: ServerProcess, full_turn_s: float, name: str
) -> None:
    large = bad_input.LARGE[name]
    # What is served fills its budgets, and then takes what that takes.
    limit = SLOW_S + (full_turn_s if large.answer in SERVED else 0)
    # A tenth first, so that a cost that grows with the square does not take the server with it.
    for size in (FRAME_BYTES // 10, FRAME_BYTES):
        taken, bystander = await cost(served, large, size)
        show(f"{name}, {size} bytes", taken, bystander)
        assert bystander.ping_s < SLOW_S
        assert bystander.turn_s < limit
        assert taken < limit


# --- the HTTP endpoints -------------------------------------------------------------------


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
    bodies = [(name, body, "invalid_message") for name, body in bad_input.NO_BODIES.items()]
    bodies += posts_with(bad_input.CHAT_BODIES, messages=f"[{bad_input.USER}]")
    problems = problems_with_posts(served, "/chat", bodies)
    assert not problems, listed(problems)


def test_a_bad_body_for_classify_is_refused_by_code(served: ServerProcess) -> None:
    bodies = [(name, body, "invalid_message") for name, body in bad_input.NO_BODIES.items()]
    bodies += posts_with(bad_input.CLASSIFY_BODIES, utterance='"Hi!"', earlier='["Hello"]')
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


@pytest.mark.parametrize("name", bad_input.LARGE_BODIES)
async def test_a_large_body_holds_nobody_up(
    served: ServerProcess, full_turn_s: float, name: str
) -> None:
    large = bad_input.LARGE_BODIES[name]
    sizes = [large.size // 10, large.size]
    for size in sizes if large.status == http.HTTPStatus.OK else sizes[1:]:
        bystander = Bystander(served)
        async with bystander.watching():
            taken = await asyncio.to_thread(post_large, served, large, size)
        show(f"{name}, {size} bytes", taken, bystander)
        assert bystander.ping_s < SLOW_S
        assert bystander.turn_s < SLOW_S + full_turn_s
        assert taken < SLOW_S + full_turn_s


# --- another setting ------------------------------------------------------------------------


@pytest.mark.parametrize("served", [ROOMY_BYTES], indirect=True)
async def test_ten_megabytes_of_history_are_read_where_such_frames_are_allowed(
    served: ServerProcess,
) -> None:
    taken, bystander = await cost(served, bad_input.TEN_MEGABYTES, 9_900_000)
    show("10 MB of history", taken, bystander)
    assert bystander.ping_s < SLOW_S
