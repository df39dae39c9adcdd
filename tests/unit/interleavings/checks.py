"""What must hold after a program: the frames of every client, and what the server remembers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.unit.interleavings.models import Chat
from tests.unit.interleavings.programs import Mode, Program
from tests.unit.interleavings.record import Player, Record, Recorded, Said, given_history
from yap.protocol import CloseCode

_LETTER = {"ack": "A", "toolcall": "T", "token": "t", "final": "F", "error": "E", "done": "D"}


def _legal(reason: str, mode: Mode, *, routed: bool) -> re.Pattern[str]:
    """The frames of a turn that ended for this reason, a letter each."""
    tokens = "" if mode == "tool" else "t*"
    begun = f"T{tokens}" if routed and mode != "chat" else tokens
    ended = {"stop": f"{begun}F", "error": f"({begun})?E", "cancelled": f"({begun})?"}
    return re.compile(("A" if routed else "") + ended[reason] + "D")


_BEGUN = re.compile("(A(T?t*F?)?E?D?|t*F?E?D?)")


def check_frames(player: Player, record: Record, program: Program) -> None:
    """The frames that one client got are a conversation."""
    log = player.log
    codes = [frame.get("error_code") for frame in log]
    assert program.has_bugs or "internal_error" not in codes, log
    if player.client.close and player.client.close[0] == 1013:
        assert codes in (["server_at_capacity", None], ["server_draining", None]), log
        return
    assert not player.client.close or player.client.close[0] != CloseCode.INTERNAL_ERROR
    of_turn: dict[str, list[dict[str, Any]]] = {}
    speaking = None
    for frame in log:
        if (turn_id := frame.get("turn_id")) is None:
            continue
        if turn_id != speaking:
            assert turn_id not in of_turn, f"a frame of a turn after another began: {frame}"
            if speaking is not None:
                assert of_turn[speaking][-1]["type"] == "done", "a turn began before one's done"
            speaking = turn_id
        of_turn.setdefault(turn_id, []).append(frame)
    for turn_id, frames in of_turn.items():
        _check_turn(frames, record.turns[turn_id], program.mode, complete=player.complete)
    if player.complete:
        _check_answers(player, of_turn)


def _check_turn(
    frames: list[dict[str, Any]], turn: Recorded, mode: Mode, *, complete: bool
) -> None:
    letters = "".join(_LETTER[frame["type"]] for frame in frames)
    said = "".join(frame["text"] for frame in frames if frame["type"] == "token")
    for frame in frames:
        if frame["type"] == "final":
            assert frame["normalized_text"] == said
    if not complete and frames[-1]["type"] != "done":
        assert _BEGUN.fullmatch(letters), letters
        return
    assert frames[-1]["type"] == "done", f"no done: {letters}"
    reason = frames[-1]["finish_reason"]
    assert (reason == "cancelled") == turn.cancelled, f"{reason}, cancelled: {turn.cancelled}"
    legal = _legal(reason, mode, routed=turn.routed)
    assert legal.fullmatch(letters), f"{letters} of a turn that ended with {reason}"
    assert frames[-1].get("cancelled") == (True if reason == "cancelled" else None)


def _check_answers(player: Player, of_turn: dict[str, list[dict[str, Any]]]) -> None:
    """Everything that was asked was answered, once."""
    log = player.log
    dones = [frame for frame in log if frame["type"] == "done"]
    by_id = Counter(d.get("request_id") for d in dones)
    for done in dones:
        assert done.get("cancelled") or not done.get("request_id"), f"not cancelled: {done}"
    answers = sum(frame["type"] == "warmed" for frame in log)
    answers += sum(frame["type"] == "ack" and frame["for"] == "chat_prompt" for frame in log)
    errors = [frame for frame in log if frame["type"] == "error" and "turn_id" not in frame]
    unasked = ("session_taken_over", "cancel_rate_limited")
    answers += sum(error["error_code"] not in unasked for error in errors)
    limited = [error["error_code"] for error in errors].count("cancel_rate_limited")
    answers += len(of_turn)
    asked = player.requests + player.errands
    pongs = [at for at, frame in enumerate(log) if frame["type"] == "pong"]
    if not player.open:
        assert answers <= asked and len(pongs) <= player.pings
        return
    assert len(pongs) == player.pings
    for request_id in player.cancel_ids:
        assert by_id[request_id] <= 1, f"{by_id[request_id]} dones for cancel {request_id}"
    unanswered = [i for i in player.cancel_ids if not by_id[i]]
    assert len(unanswered) <= limited, f"no done for cancels {unanswered}"
    for pong, cancels in zip(pongs, player.cancels_before_ping, strict=True):
        answered = sum(
            (frame["type"] == "done" and "cancelled" in frame)
            or frame.get("error_code") == "cancel_rate_limited"
            for frame in log[:pong]
        )
        assert answered >= cancels, "a ping overtook the done of a cancel"
    least = asked - player.errands if player.cancels else asked
    assert least <= answers <= asked, f"{answers} answers to {asked} requests"


def check_sessions(everyone: Sequence[Player], record: Record, chat: Chat) -> None:
    """Each session remembers what its client said and got, and speaks as it was told to."""
    last: dict[int, Said] = {}
    for turn_id, turn in record.turns.items():
        player = next((p for p in everyone if turn.label in p.starts), None)
        frames = [f for p in everyone for f in p.log if f.get("turn_id") == turn_id]
        start = player.starts[turn.label] if player and turn.label and turn.routed else {}
        expected = given_history(start, last.get(id(turn.session), []))
        if any(p.heard for p in everyone):
            _check_heard(turn.before, expected)
        else:
            assert turn.before == expected
        assert turn.after is not None, "a turn has not ended"
        last[id(turn.session)] = turn.after
        owner = next((p for p in everyone if any(f in p.log for f in frames)), None)
        if owner is not None and owner.stayed:
            said = "".join(frame["text"] for frame in frames if frame["type"] == "token")
            new = [("user", turn.utterance), ("assistant", said)]
            assert turn.after == turn.before + [m for m in new if m[1]]
        if turn_id in chat.prompt_of and turn.persona:
            persona = f"system\n{turn.persona}<"
            assert persona in chat.prompt_of[turn_id], "a turn spoke as somebody else"


def _check_heard(kept: Said, said: Said) -> None:
    """All is kept but, at most, the end of the last reply."""
    if kept == said:
        return
    assert said[-1][0] == "assistant"
    heard = kept[len(said) - 1 :] or [("assistant", "")]
    assert kept[: len(said) - 1] == said[:-1]
    assert len(heard) == 1
    assert heard[0][0] == "assistant"
    assert said[-1][1].startswith(heard[0][1])
