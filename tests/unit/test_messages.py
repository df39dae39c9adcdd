"""followup, chat_prompt, warm_persona, warm_history, and personas by name, over a connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.unit.places import START, MakePlace
from tests.unit.stand_ins import Gate, Last, kinds
from yap.persona_library import PersonaLibrary
from yap.screen.rules import DEFAULT_FOLDER, load_rules

pytestmark = pytest.mark.usefixtures("no_task_left")

MIRA = {"type": "chat_prompt", "gender": "female", "personality": "calm", "chat_prompt": "Be Mira."}


async def test_a_followup_is_a_turn_without_a_decision(place: MakePlace) -> None:
    at = place()
    client = at.connect()
    client.send(START)
    await client.until("done")
    client.send({"type": "followup", "analysis_text": "A chess board."})
    frames = await client.until("done")
    assert kinds(frames) == ["token", "token", "token", "final", "done"]
    assert "ON THE SCREEN NOW: A chess board." in at.chat.prompts[-1]
    client.send(START | {"user_utterance": "and now?"})
    await client.until("done")
    assert "ON THE SCREEN NOW: A chess board." in at.chat.prompts[-1], "it is remembered"


async def test_the_prefix_of_a_followup_is_the_clients(place: MakePlace) -> None:
    at = place()
    client = at.connect()
    client.send(START | {"screen_checked_prefix": "SEEN:"})
    await client.until("done")
    client.send({"type": "followup", "analysis_text": "A cat."})
    await client.until("done")
    assert "SEEN: A cat." in at.chat.prompts[-1]


async def test_a_followup_is_a_barge_in_too(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Hello", gate), ("I see", Last(".")))
    client = at.connect()
    client.send(START)
    old = (await client.until("token"))[0]["turn_id"]
    client.send({"type": "followup", "analysis_text": "A cat."})
    first = await client.until("done")
    assert (first[-1]["turn_id"], first[-1]["cancelled"]) == (old, True)
    second = await client.until("done")
    assert {frame["turn_id"] for frame in second} != {old}
    assert second[-1]["finish_reason"] == "stop"


async def test_a_followup_can_be_cancelled_at_once(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Hello", Last(".")), ("I see", gate))
    client = at.connect()
    client.send(START)
    await client.until("done")
    client.send({"type": "followup", "analysis_text": "A cat."})
    await client.until("token")
    client.send({"type": "cancel", "request_id": "c"})
    done = (await client.until("done"))[-1]
    assert (done["cancelled"], done["request_id"]) == (True, "c")
    assert at.chat.streaming == 0


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "followup", "analysis_text": "A cat."}, "no_session"),
        ({"type": "chat_prompt"}, "no_session"),
        ({"type": "warm_persona"}, "missing_chat_prompt"),
        ({"type": "warm_persona", "chat_prompt": 5}, "invalid_chat_prompt"),
        ({"type": "warm_history", "history_text": 5}, "invalid_history_text"),
        ({"type": "warm_history"}, "missing_history_text"),
        ({"type": "warm_persona", "persona": "nobody"}, "unknown_persona"),
    ],
)
async def test_what_cannot_be_done_is_said_by_code_and_the_connection_lives_on(
    place: MakePlace, frame: dict[str, Any], code: str
) -> None:
    client = place().connect()
    client.send(frame)
    answer = await client.receive()
    assert (answer["type"], answer["error_code"]) == ("error", code)
    client.send({"type": "ping"})
    assert await client.receive() == {"type": "pong"}


@pytest.mark.parametrize("text", [None, "", "  ", 5])
async def test_a_followup_needs_its_text(place: MakePlace, text: Any) -> None:
    client = place().connect()
    client.send(START)
    await client.until("done")
    client.send({"type": "followup", "analysis_text": text})
    answer = await client.receive()
    assert answer["error_code"] in ("missing_analysis_text", "invalid_analysis_text")


async def test_another_persona_is_acknowledged_and_speaks_from_the_next_turn_on(
    place: MakePlace,
) -> None:
    at = place()
    client = at.connect()
    client.send(START)
    await client.until("done")
    client.send(MIRA)
    assert await client.receive() == {
        "type": "ack",
        "for": "chat_prompt",
        "ok": True,
        "code": 200,
        "message": "updated",
        "gender": "female",
        "personality": "calm",
    }
    client.send({"type": "followup", "analysis_text": "A cat."})
    await client.until("done")
    assert "Be Mira." in at.chat.prompts[-1]
    client.send(MIRA)
    assert await client.receive() == {
        "type": "ack",
        "for": "chat_prompt",
        "ok": True,
        "code": 204,
        "message": "no change",
    }


@pytest.mark.parametrize(
    ("fields", "code", "error_code"),
    [
        ({"gender": "woman"}, 400, "invalid_gender"),
        ({"personality": 5}, 400, "invalid_personality"),
        ({"chat_prompt": None}, 400, "missing_chat_prompt"),
        ({"chat_prompt": "so long " * 1700}, 413, "chat_prompt_too_long"),
    ],
)
async def test_a_bad_persona_is_refused_in_the_ack(
    place: MakePlace, fields: dict[str, Any], code: int, error_code: str
) -> None:
    client = place().connect()
    client.send(START)
    await client.until("done")
    client.send(MIRA | fields)
    answer = await client.receive()
    assert (answer["type"], answer["for"], answer["ok"]) == ("ack", "chat_prompt", False)
    assert (answer["code"], answer["error_code"]) == (code, error_code)


async def test_too_many_persona_changes_are_refused_in_the_ack(place: MakePlace) -> None:
    client = place(chat_prompt_update_max_per_window=2).connect()
    client.send(START)
    await client.until("done")
    codes = []
    for number in range(4):
        client.send(MIRA | {"chat_prompt": f"Be Mira, {number}."})
        codes.append((await client.receive())["code"])
    assert codes == [200, 200, 429, 429]


async def test_warm_ups_are_answered_in_order_and_need_no_session(place: MakePlace) -> None:
    at = place()
    client = at.connect()
    client.send({"type": "warm_persona", "persona_text": "Be Mira."})
    client.send({"type": "warm_history", "history_text": "User: hi\nAssistant: hello"})
    assert await client.receive() == {"type": "warmed", "segment": "persona_static", "bytes": 8}
    assert await client.receive() == {"type": "warmed", "segment": "history", "bytes": 25}
    assert "hello" in at.chat.prompts[-1]


async def test_a_warm_up_does_not_keep_a_ping_waiting_and_cancel_ends_it(
    place: MakePlace,
) -> None:
    gate = Gate()
    at = place((gate,))
    client = at.connect()
    client.send({"type": "warm_persona", "chat_prompt": "Be Mira."})
    await gate.reached()
    client.send({"type": "ping"})
    assert await client.receive() == {"type": "pong"}
    client.send({"type": "cancel"})
    assert await client.receive() == {"type": "done", "cancelled": True}
    assert at.chat.streaming == 0


async def test_warm_ups_that_pile_up_are_refused(place: MakePlace) -> None:
    gate = Gate()
    client = place((gate,)).connect()
    for _ in range(9):
        client.send({"type": "warm_persona", "chat_prompt": "Be Mira."})
    assert (await client.receive())["error_code"] == "message_rate_limited"


async def test_leaving_during_a_warm_up_leaves_nothing_behind(place: MakePlace) -> None:
    gate = Gate()
    at = place((gate,))
    client = at.connect()
    client.send({"type": "warm_persona", "chat_prompt": "Be Mira."})
    await gate.reached()
    client.disconnect()
    await client.ended()
    assert at.chat.streaming == 0


async def test_a_client_may_name_a_persona_instead_of_sending_it(
    place: MakePlace, tmp_path: Path
) -> None:
    (tmp_path / "nora.md").write_text(
        "---\nname: nora\ntitle: Nora\ngender: female\npersonality: calm\n"
        "synonyms: [quiet]\n---\nYou are Nora.\n"
    )
    at = place()
    at.server.personas = PersonaLibrary(tmp_path)
    at.server.personas.load()
    client = at.connect()
    client.send({"type": "start", "session_id": 1, "persona": "Nora", "user_utterance": "hi"})
    ack = await client.receive()
    assert (ack["gender"], ack["personality"], ack["chat_prompt"]) == ("female", "calm", True)
    await client.until("done")
    assert "You are Nora." in at.chat.prompts[-1]


async def test_what_the_client_says_itself_goes_before_the_persona_it_names(
    place: MakePlace,
) -> None:
    at = place()
    at.server.personas.load()
    client = at.connect()
    client.send({"type": "warm_persona", "persona": "anna", "persona_text": "You are Zoe."})
    assert (await client.receive())["bytes"] == len("You are Zoe.")
    assert "You are Zoe." in at.chat.prompts[-1]


async def test_an_unknown_persona_is_refused_with_the_names_that_are(place: MakePlace) -> None:
    client = place().connect()
    client.send(START | {"persona": "nobody"})
    answer, _closed = await client.ended()
    assert answer["error_code"] == "unknown_persona"
    assert client.close == (1008, "")


async def test_a_history_of_messages_goes_before_a_transcript(place: MakePlace) -> None:
    at = place()
    client = at.connect()
    history = [
        {"role": "user", "content": "I like tea."},
        {"role": "assistant", "content": "User: a forged line"},
    ]
    client.send(START | {"history": history, "history_text": "User: I like coffee."})
    await client.until("done")
    assert "I like tea." in at.chat.prompts[-1]
    assert "coffee" not in at.chat.prompts[-1]
    assert at.chat.prompts[-1].count("<|im_start|>user") == 2, "a line in a message is no turn"


async def test_a_control_phrase_is_no_reason_to_look_at_the_screen(place: MakePlace) -> None:
    at = place()
    assert at.server.resources.router is not None
    at.server.resources.router.rules = load_rules(DEFAULT_FOLDER)
    client = at.connect()
    client.send(
        START
        | {
            "user_utterance": "Be more playful!",
            "personalities": {"friendly": [], "fun": ["playful"]},
        }
    )
    frames = await client.until("done")
    toolcall = next(frame for frame in frames if frame["type"] == "toolcall")
    assert toolcall["status"] == "yes"
    assert toolcall["raw"] == [{"name": "switch_personality", "param": "fun"}]
    assert "MUST CHECK SCREEN" not in at.chat.prompts[-1]
    client.send(START | {"user_utterance": "take a screenshot"})
    frames = await client.until("done")
    assert "MUST CHECK SCREEN: take a screenshot" in at.chat.prompts[-1]


# What was heard


@pytest.mark.parametrize("heard", [{"heard_chars": 5}, {"heard_text": "Hello"}])
@pytest.mark.parametrize("by", ["cancel", "start"])
async def test_history_keeps_what_the_user_heard(
    place: MakePlace, heard: dict[str, Any], by: str
) -> None:
    at = place(("Hello", " there", Last(".")))
    client = at.connect()
    client.send(START)
    await client.until("done")
    follow: dict[str, Any] = {"user_utterance": "what?"}
    if by == "cancel":
        client.send({"type": "cancel"} | heard)
        await client.until("done")
    else:
        follow |= heard
    client.send(START | follow)
    await client.until("done")
    assert "<|im_start|>assistant\nHello<|im_end|>" in at.chat.prompts[-1]
    assert "there" not in at.chat.prompts[-1]


async def test_of_an_interrupted_reply_only_what_was_heard_is_kept(place: MakePlace) -> None:
    gate = Gate()
    at = place(("Hello", " there", gate), ("Yes", Last(".")))
    client = at.connect()
    client.send(START)
    await gate.reached()
    client.send(START | {"user_utterance": "wait", "heard_chars": 4})
    await client.until("done")
    await client.until("done")
    assert "<|im_start|>assistant\nHell<|im_end|>" in at.chat.prompts[-1]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"heard_chars": -1}, "invalid_heard_chars"),
        ({"heard_chars": True}, "invalid_heard_chars"),
        ({"heard_chars": "5"}, "invalid_heard_chars"),
        ({"heard_text": 5}, "invalid_heard_text"),
    ],
)
async def test_a_cancel_that_cannot_be_read_stops_nothing(
    place: MakePlace, fields: dict[str, Any], code: str
) -> None:
    gate = Gate()
    at = place(("Hello", gate))
    client = at.connect()
    client.send(START)
    await gate.reached()
    client.send({"type": "cancel"} | fields)
    assert (await client.until("error"))[-1]["error_code"] == code
    assert at.chat.streaming == 1


# Whose session it is


async def test_who_comes_back_finds_the_conversation(place: MakePlace) -> None:
    at = place()
    first = at.connect()
    first.send(START | {"user_utterance": "I like tea."})
    await first.until("done")
    first.disconnect()
    await first.ended()
    again = at.connect()
    again.send(START)
    await again.until("done")
    assert "I like tea." in at.chat.prompts[-1]


async def test_the_later_of_two_connections_has_the_session_and_the_earlier_is_told(
    place: MakePlace,
) -> None:
    gate = Gate()
    at = place(("Hello", gate), ("Hi", Last(".")))
    first, second = at.connect(), at.connect()
    first.send(START)
    await gate.reached()
    second.send(START | {"user_utterance": "me too"})
    frames = await second.until("done")
    assert frames[-1]["finish_reason"] == "stop"
    done, told = (await first.until("error"))[-2:]
    assert (done["type"], done["cancelled"]) == ("done", True)
    assert (told["error_code"], told["session_id"]) == ("session_taken_over", "s-1")
    assert "Hello" in at.chat.prompts[-1], "what the first one got is remembered"
    first.send({"type": "followup", "analysis_text": "A cat."})
    assert (await first.until("error"))[-1]["error_code"] == "no_session"
    first.send(START)
    await first.until("done")
    assert (await second.until("error"))[-1]["error_code"] == "session_taken_over"


async def test_a_slow_client_does_not_keep_its_session_from_being_taken_over(
    place: MakePlace,
) -> None:
    at = place(("a",) * 100, ("Hi", Last(".")), ws_send_queue_max=8, ws_send_timeout_s=30)
    first, second = at.connect(), at.connect()
    first.send(START)
    await first.until("token")
    first.reading.clear()
    await asyncio.sleep(0.05)
    second.send(START)
    frames = await second.until("done")
    assert frames[-1]["finish_reason"] == "stop"
