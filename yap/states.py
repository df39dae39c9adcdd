"""The states of a connection and of a turn, and what each event does in each of them.

Two tables and nothing that waits: the tables are data, so that tests can walk through all of them
without a socket, and `docs/protocol.md` shows the first one.

A connection's state follows from what it holds (see `Connection`), so the table is asked what to
do and never has to be told. A turn's state is kept here, in a `TurnLife`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from yap.protocol import ErrorCode

# --- a connection -----------------------------------------------------------------------------


class ConnectionState(StrEnum):
    """What a connection has."""

    NEW = "new"  # no session: before the first start, or after another connection took it over
    IDLE = "idle"  # a session, and no turn that runs
    TURN = "turn"  # a turn that runs
    CLOSING = "closing"  # nothing is read any more


class Does(StrEnum):
    """What a message makes the connection do. The texts are those of `docs/protocol.md`."""

    BEGIN = "begins a turn"
    REPLACE = "ends the running turn, then begins one"
    ERRAND = "runs beside, answers when it is done"
    STOP = "stops the turn and what runs beside; the turn's `done` answers"
    STOP_NOTHING = "stops what runs beside; a bare `done` answers"
    PONG = "`pong`"
    NOTHING = "nothing"
    LEAVE = "`connection_closed`, then the close"
    LEAVE_TURN = "ends the running turn, then `connection_closed` and the close"
    NO_SESSION = "refused: `no_session`"


class Limit(StrEnum):
    """Which sliding window counts a message."""

    MESSAGES = "messages"
    CANCELS = "cancels"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one type of message does, by state, and what it is refused for before that.

    The refusals are tried in this order: the limit (`message_rate_limited`,
    `cancel_rate_limited`), `accepting` (`server_draining`, `engine_unavailable`), `chat`
    (`chat_not_deployed`), the state (`no_session`), and last the content of the message. A refusal
    leaves the connection in its state.

    Args:
        limit: the window that counts the message.
        accepting: whether the server must be taking new turns.
        chat: whether the chat model must be deployed.
        does: what happens; in the state `closing`, nothing does.
    """

    limit: Limit
    accepting: bool
    chat: bool
    does: Mapping[ConnectionState, Does]


def _rule(
    new: Does, idle: Does, turn: Does, limit: Limit = Limit.MESSAGES, *, accepting: bool = False,
    chat: bool = False,
) -> Rule:  # fmt: skip
    return Rule(
        limit,
        accepting,
        chat,
        {
            ConnectionState.NEW: new,
            ConnectionState.IDLE: idle,
            ConnectionState.TURN: turn,
            ConnectionState.CLOSING: Does.NOTHING,
        },
    )


MESSAGES: Mapping[str, Rule] = {
    "start": _rule(Does.BEGIN, Does.BEGIN, Does.REPLACE, accepting=True),
    "followup": _rule(Does.NO_SESSION, Does.BEGIN, Does.REPLACE, accepting=True, chat=True),
    # Without a chat model its own ack says so, as older clients expect.
    "chat_prompt": _rule(Does.NO_SESSION, Does.ERRAND, Does.ERRAND),
    "warm_persona": _rule(Does.ERRAND, Does.ERRAND, Does.ERRAND, chat=True),
    "warm_history": _rule(Does.ERRAND, Does.ERRAND, Does.ERRAND, chat=True),
    "cancel": _rule(Does.STOP_NOTHING, Does.STOP_NOTHING, Does.STOP, Limit.CANCELS),
    "ping": _rule(Does.PONG, Does.PONG, Does.PONG, Limit.NONE),
    "pong": _rule(Does.NOTHING, Does.NOTHING, Does.NOTHING, Limit.NONE),
    "end": _rule(Does.LEAVE, Does.LEAVE, Does.LEAVE_TURN, Limit.NONE),
}
"""Every type of message. Any other is counted like `start` and refused:
`unknown_message_type`."""

REFUSED: Mapping[Does, ErrorCode] = {Does.NO_SESSION: ErrorCode.NO_SESSION}

# Where a message leads if it is not refused; what is not named leaves the state as it is.
_LEADS_TO: Mapping[Does, ConnectionState] = {
    Does.BEGIN: ConnectionState.TURN,
    Does.REPLACE: ConnectionState.TURN,
    Does.STOP: ConnectionState.IDLE,
    Does.LEAVE: ConnectionState.CLOSING,
    Does.LEAVE_TURN: ConnectionState.CLOSING,
}


def after(state: ConnectionState, does: Does) -> ConnectionState:
    """The state after a message that was not refused."""
    return _LEADS_TO.get(does, state)


# --- a turn -----------------------------------------------------------------------------------


class TurnState(StrEnum):
    """How far a turn has come."""

    WAITING = "waiting"  # its task has not run yet
    OPENING = "opening"  # its ack goes out
    DECIDING = "deciding"  # the router is asked; no token may be sent yet
    REPLYING = "replying"  # the model speaks
    STOPPING = "stopping"  # it was cancelled; what ran for it is being stopped
    ENDING = "ending"  # how it ends is settled, and cannot be changed by a cancel any more
    ENDED = "ended"  # its done is on the way, and nothing comes after it


class TurnEvent(StrEnum):
    """What happens to a turn."""

    RUN = "run"  # its task begins to run
    ROUTE = "route"  # the router is asked
    REPLY = "reply"  # the chat model is asked
    CANCEL = "cancel"  # cancel, barge-in, end, disconnect, takeover, idle timeout
    FAIL = "fail"  # a model failed, a deadline passed, a bug
    FINISH = "finish"  # everything was sent, or everything was stopped
    DONE = "done"  # its done is queued


_T, _E = TurnState, TurnEvent
TURN: Mapping[TurnState, Mapping[TurnEvent, TurnState]] = {
    _T.WAITING: {_E.RUN: _T.OPENING, _E.CANCEL: _T.STOPPING},
    _T.OPENING: {
        _E.ROUTE: _T.DECIDING,
        _E.REPLY: _T.REPLYING,
        _E.CANCEL: _T.STOPPING,
        _E.FAIL: _T.ENDING,
        _E.FINISH: _T.ENDING,
    },
    _T.DECIDING: {
        _E.REPLY: _T.REPLYING,
        _E.CANCEL: _T.STOPPING,
        _E.FAIL: _T.ENDING,
        _E.FINISH: _T.ENDING,
    },
    _T.REPLYING: {_E.CANCEL: _T.STOPPING, _E.FAIL: _T.ENDING, _E.FINISH: _T.ENDING},
    # A failure of what is being stopped is no failure of the turn.
    _T.STOPPING: {_E.FINISH: _T.ENDING},
    _T.ENDING: {_E.DONE: _T.ENDED},
    _T.ENDED: {},
}
"""Where each event leads; an event that a state does not name changes nothing there."""

SENDS: Mapping[TurnState, frozenset[str]] = {
    _T.WAITING: frozenset(),
    _T.OPENING: frozenset({"ack"}),
    _T.DECIDING: frozenset({"toolcall", "final"}),
    _T.REPLYING: frozenset({"token", "final"}),
    _T.STOPPING: frozenset({"ack"}),
    # The ack, too, of a turn that was cancelled while even that waited for room in the queue.
    _T.ENDING: frozenset({"ack", "error", "done"}),
    _T.ENDED: frozenset(),
}
"""The frames of the turn that may be sent in each state."""


class TurnLife:
    """The state of one turn."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = TurnState.WAITING

    def on(self, event: TurnEvent) -> bool:
        """Take `event`; False if it means nothing in this state, which stays then."""
        following = TURN[self.state].get(event)
        if following is None:
            return False
        self.state = following
        return True

    @property
    def stopping(self) -> bool:
        """Whether the turn was cancelled and has not settled yet."""
        return self.state is TurnState.STOPPING
