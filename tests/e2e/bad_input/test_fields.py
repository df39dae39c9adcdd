"""Whatever a field has, its sender gets a code in time, and the others notice nothing."""

from __future__ import annotations

import contextlib

import pytest
import websockets

from tests.e2e.bad_input.fields import (
    FOLLOWUP_FIELDS,
    GENDERS,
    HEARD,
    MANY_TOKENS,
    PERSONA_TEXTS,
    PERSONALITY,
    PERSONAS,
    PROMPTS,
    REQUEST_IDS,
    SESSION_IDS,
    START_FIELDS,
    WARM_HISTORY_FIELDS,
)
from tests.e2e.bad_input.literals import ABSENT, HUGE, NULL, frame, start_frame, text
from tests.e2e.bad_input.no_messages import NO_MESSAGES, UNKNOWN_TYPES
from tests.e2e.bad_input.odd_starts import ODD_STARTS
from tests.e2e.bad_input.sweep import in_a_session, sweeping
from tests.e2e.bad_input.watching import ANSWER_S, connected
from tests.e2e.harness import ServerProcess
from tests.e2e.talk import start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


async def test_a_start_with_a_bad_session_id_is_refused_and_the_connection_goes_on(
    served: ServerProcess,
) -> None:
    async with sweeping(served) as sweep:
        for bad in SESSION_IDS:
            await sweep.refused(str(bad), start_frame(**{bad.field: bad.literal}), bad.code)


@pytest.mark.parametrize("group", START_FIELDS)
async def test_a_start_with_a_bad_field_is_refused_and_closed(
    served: ServerProcess, group: str
) -> None:
    async with sweeping(served) as sweep:
        others: dict[str, str] = {}
        if group == "persona_text":
            others = {"chat_prompt": ABSENT}
        elif group.startswith("sampling"):
            others = {"sampling": ABSENT}
        for bad in START_FIELDS[group]:
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
        for name, fields in ODD_STARTS.items():
            await sweep.answered(name, start_frame(**{"session_id": '"odd"'} | fields), "done")


async def test_a_bad_followup_is_refused(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        good: dict[str, object] = {"type": "followup", "analysis_text": "A cat."}
        await sweep.refused("followup too early", frame(good), "no_session")
        await in_a_session(sweep, "followup")
        for bad in FOLLOWUP_FIELDS:
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
            *GENDERS,
            *PERSONALITY,
            *PROMPTS,
            *PERSONA_TEXTS,
            *PERSONAS,
        ):
            others = {"chat_prompt": ABSENT} if bad.field == "persona_text" else {}
            sent = frame(good, **others | {bad.field: bad.literal})
            await sweep.refused(f"chat_prompt with {bad}", sent, bad.code)
        client = await sweep.client()
        for literal, code in (("5", 400), (MANY_TOKENS, 413)):
            await client.send(frame(good, chat_prompt=literal))
            answer = await client.receive()
            found = [answer[key] for key in ("type", "for", "ok", "code")]
            assert found == ["ack", "chat_prompt", False, code]


async def test_a_bad_warm_up_is_refused(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for bad in (*PROMPTS, *PERSONA_TEXTS, *PERSONAS):
            sent = frame({"type": "warm_persona"}, **{bad.field: bad.literal})
            await sweep.refused(f"warm_persona with {bad}", sent, bad.code)
        for bad in WARM_HISTORY_FIELDS:
            sent = frame({"type": "warm_history"}, **{bad.field: bad.literal})
            await sweep.refused(f"warm_history with {bad}", sent, bad.code)


async def test_a_bad_cancel_is_refused_and_any_request_id_is_taken(served: ServerProcess) -> None:
    async with sweeping(served) as sweep:
        for bad in HEARD:
            for before in ('{"type":"cancel"', '{"cancel":true'):
                sent = f"{before},{text(bad.field)}:{bad.literal}}}"
                await sweep.refused(f"cancel with {bad}", sent, bad.code)
        for literal in REQUEST_IDS:
            sent = frame({"type": "cancel"}, request_id=literal)
            await sweep.answered(f"cancel with request_id={literal[:40]}", sent, "done")
        for literal in (HUGE, "0", NULL):
            sent = frame({"type": "cancel"}, heard_chars=literal)
            await sweep.answered(f"cancel with heard_chars={literal[:40]}", sent, "done")


async def test_a_running_turn_takes_no_notice_of_what_is_refused_beside_it(
    served: ServerProcess,
) -> None:
    rubbish = [
        *(sent for sent in NO_MESSAGES.values() if len(sent) < 1000),
        *(f'{{"type":{kind}}}' for kind in UNKNOWN_TYPES),
        *(frame({"type": "cancel"}, **{bad.field: bad.literal}) for bad in HEARD),
        *(start_frame(**{bad.field: bad.literal}) for bad in SESSION_IDS),
        *(frame({"type": "followup"}, analysis_text=b.literal) for b in FOLLOWUP_FIELDS),
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
