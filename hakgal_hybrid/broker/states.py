"""The state machines of streams, sessions, clients and Engine.IO, and the reasons for which a stream ends.

Each machine is a table: a state, what happens, the state after that, and whose code says so (the *owner* of the
transition). Code that moves an object along calls :func:`after`, which refuses what is not in the table; all other
code only reads ``state``. The same tables, drawn, stand in ``docs/architecture.md``.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeVar, cast


class StreamState(Enum):
    """Where a stream is in its life.

    :cvar OPENING: made; its opening has not been written.
    :cvar CATCHING_UP: reads the log by a cursor of its own.
    :cvar LIVE: has everything; is given what is new together with the other streams that have.
    :cvar BLOCKED: its socket is full; it keeps its place in the log until the socket takes bytes again.
    :cvar CLOSING: its last bytes wait for its socket.
    :cvar ENDED: nobody writes it any more.
    """

    OPENING = "opening"
    CATCHING_UP = "catching up"
    LIVE = "live"
    BLOCKED = "blocked"
    CLOSING = "closing"
    ENDED = "ended"


class StreamEvent(Enum):
    """What happens to a stream."""

    OPENED = "opened"
    CAUGHT_UP = "caught up"
    FELL_BACK = "fell back"
    SOCKET_FULL = "socket full"
    SOCKET_DRAINED = "socket drained"
    LAST_BYTES = "last bytes"
    ENDED = "ended"


class SessionState(Enum):
    """Where a session is in its life: the clients of one stream, which may go and come back.

    :cvar WAITING: made; its first stream is awaited, for which a slot is kept.
    :cvar OPEN: has a stream.
    :cvar AWAY: its stream has ended; the next one is awaited.
    :cvar STANDALONE: has no stream and needs none.
    :cvar ENDED: nobody can come back to it.
    """

    WAITING = "waiting"
    OPEN = "open"
    AWAY = "away"
    STANDALONE = "standalone"
    ENDED = "ended"


class SessionEvent(Enum):
    """What happens to a session."""

    STREAM_BEGAN = "stream began"
    STREAM_ENDED = "stream ended"
    LAPSED = "lapsed"


class ClientState(Enum):
    """Where a client is in its life.

    The rooms of an ended client are kept as long as somebody may read them: its stream until that has sent
    ``hybrid_disconnect``, the host's ``disconnect`` handler until that has returned.

    :cvar CONNECTED: events are for it.
    :cvar ENDING: has ended; neither its stream nor the host's handler is done with it.
    :cvar RELEASED: has ended; its stream is done with it, or it had none.
    :cvar HANDLED: has ended; the host's handler is done with it.
    :cvar GONE: both are done with it, and its rooms are forgotten.
    """

    CONNECTED = "connected"
    ENDING = "ending"
    RELEASED = "released"
    HANDLED = "handled"
    GONE = "gone"


class ClientEvent(Enum):
    """What happens to a client."""

    ENDED = "ended"
    ENDED_SILENTLY = "ended silently"
    RELEASED = "released"
    HANDLED = "handled"


class EngineState(Enum):
    """Where a session of Engine.IO is in its life.

    :cvar POLLING: its packets go out with the answers to requests.
    :cvar UPGRADING: the same, and a WebSocket has been probed, which the client may change over to.
    :cvar WEBSOCKET: its packets go out over a WebSocket.
    :cvar CLOSING: is over; its last packet waits to be fetched.
    :cvar ENDED: nobody knows it any more.
    """

    POLLING = "polling"
    UPGRADING = "upgrading"
    WEBSOCKET = "websocket"
    CLOSING = "closing"
    ENDED = "ended"


class EngineEvent(Enum):
    """What happens to a session of Engine.IO."""

    PROBED = "probed"
    UPGRADED = "upgraded"
    UPGRADE_FAILED = "upgrade failed"
    CLOSED = "closed"
    ENDED = "ended"


State = StreamState | SessionState | ClientState | EngineState
Happening = StreamEvent | SessionEvent | ClientEvent | EngineEvent


class Transition(NamedTuple):
    """One row of a table.

    :ivar state: the state before.
    :ivar event: what happens.
    :ivar after: the state after it.
    :ivar owner: whose code says that it has happened.
    """

    state: State
    event: Happening
    after: State
    owner: str


#: A stream. Its writer owns it: the fan-out's loop, or the thread or greenlet that serves it alone.
STREAM = (
    Transition(StreamState.OPENING, StreamEvent.OPENED, StreamState.CATCHING_UP, "writer"),
    Transition(StreamState.OPENING, StreamEvent.ENDED, StreamState.ENDED, "lifecycle"),
    Transition(StreamState.CATCHING_UP, StreamEvent.CAUGHT_UP, StreamState.LIVE, "live group"),
    Transition(StreamState.CATCHING_UP, StreamEvent.SOCKET_FULL, StreamState.BLOCKED, "writer"),
    Transition(StreamState.CATCHING_UP, StreamEvent.LAST_BYTES, StreamState.CLOSING, "writer"),
    Transition(StreamState.CATCHING_UP, StreamEvent.ENDED, StreamState.ENDED, "lifecycle"),
    Transition(StreamState.LIVE, StreamEvent.FELL_BACK, StreamState.CATCHING_UP, "live group"),
    Transition(StreamState.BLOCKED, StreamEvent.SOCKET_DRAINED, StreamState.CATCHING_UP, "writer"),
    Transition(StreamState.BLOCKED, StreamEvent.LAST_BYTES, StreamState.CLOSING, "writer"),
    Transition(StreamState.BLOCKED, StreamEvent.ENDED, StreamState.ENDED, "lifecycle"),
    Transition(StreamState.CLOSING, StreamEvent.ENDED, StreamState.ENDED, "lifecycle"),
)

#: A session. The registry of sessions owns it.
SESSION = (
    Transition(SessionState.WAITING, SessionEvent.STREAM_BEGAN, SessionState.OPEN, "request"),
    Transition(SessionState.WAITING, SessionEvent.LAPSED, SessionState.ENDED, "timer"),
    Transition(SessionState.OPEN, SessionEvent.STREAM_BEGAN, SessionState.OPEN, "request"),
    Transition(SessionState.OPEN, SessionEvent.STREAM_ENDED, SessionState.AWAY, "lifecycle"),
    Transition(SessionState.AWAY, SessionEvent.STREAM_BEGAN, SessionState.OPEN, "request"),
    Transition(SessionState.AWAY, SessionEvent.LAPSED, SessionState.ENDED, "timer"),
    Transition(SessionState.STANDALONE, SessionEvent.LAPSED, SessionState.ENDED, "lifecycle"),
)

#: A client. The hub owns it.
CLIENT = (
    Transition(ClientState.CONNECTED, ClientEvent.ENDED, ClientState.ENDING, "lifecycle"),
    Transition(ClientState.CONNECTED, ClientEvent.ENDED_SILENTLY, ClientState.RELEASED, "lifecycle"),
    Transition(ClientState.ENDING, ClientEvent.RELEASED, ClientState.RELEASED, "stream"),
    Transition(ClientState.ENDING, ClientEvent.HANDLED, ClientState.HANDLED, "handler"),
    Transition(ClientState.RELEASED, ClientEvent.HANDLED, ClientState.GONE, "handler"),
    Transition(ClientState.HANDLED, ClientEvent.RELEASED, ClientState.GONE, "stream"),
)

#: A session of Engine.IO. A request owns a change, or a timer.
ENGINE = (
    Transition(EngineState.POLLING, EngineEvent.PROBED, EngineState.UPGRADING, "request"),
    Transition(EngineState.POLLING, EngineEvent.CLOSED, EngineState.CLOSING, "any"),
    Transition(EngineState.UPGRADING, EngineEvent.UPGRADED, EngineState.WEBSOCKET, "request"),
    Transition(EngineState.UPGRADING, EngineEvent.UPGRADE_FAILED, EngineState.POLLING, "timer"),
    Transition(EngineState.UPGRADING, EngineEvent.CLOSED, EngineState.CLOSING, "any"),
    Transition(EngineState.WEBSOCKET, EngineEvent.CLOSED, EngineState.CLOSING, "any"),
    Transition(EngineState.CLOSING, EngineEvent.ENDED, EngineState.ENDED, "request"),
)

MACHINES = {"stream": STREAM, "session": SESSION, "client": CLIENT, "session of Engine.IO": ENGINE}

_AFTER = {(row.state, row.event): row.after for table in MACHINES.values() for row in table}

S = TypeVar("S", StreamState, SessionState, ClientState, EngineState)


def after(state: S, event: Happening) -> S:
    """Return the state after something has happened.

    :param state: the state before.
    :param event: what has happened.
    :return: the state after it.
    :raises RuntimeError: if that cannot happen in this state: a mistake in the code that says so.
    """
    found = _AFTER.get((state, event))
    if found is None:
        raise RuntimeError(f"{event} cannot happen in {state}")
    return cast("S", found)


class StreamEnd(str, Enum):
    """Why a stream ended: the code by which the status counts it, and what it means.

    :ivar text: what it means, for people.
    """

    text: str

    def __new__(cls, code: str, text: str) -> StreamEnd:
        """Make a member.

        :param code: by which the status counts it.
        :param text: what it means.
        """
        member = str.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member

    @classmethod
    def of(cls, code: str) -> StreamEnd:
        """Return the reason with a code.

        :param code: the code.
        :return: the reason.
        :raises StopIteration: if there is none.
        """
        return next(end for end in cls if end.value == code)

    GONE = "gone", "the client closed the connection, or it broke"
    CLOSED = "closed", "the server that carries the request closed it"
    STALLED = "stalled", "the client took no byte for HYBRID_STALL_S"
    CHATTER = "chatter", "the client sent more than a listener has to say"
    GAP = "gap", "a client of Socket.IO, which cannot be told of a gap, was too slow for the log"
    REPLACED = "replaced", "the session has a newer stream"
    DISCONNECTED = "disconnected", "its last client was ended"
    STOPPED = "stopped", "the server stops"
    REFUSED = "refused", "the host's app did not let the stream begin"
    FAILED = "failed", "an error of ours, which is logged"
