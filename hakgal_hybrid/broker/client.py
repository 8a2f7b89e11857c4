"""Client and Session: a client as the host knows it, and the clients that share a stream. Both outlive the stream."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from ..errors import AccessDenied
from .environ import OpeningRequest
from .event import EVERYWHERE, Target
from .forks import call_in_child
from .membership import Membership
from .sequencer import Sequencer
from .states import ClientState, SessionState
from .timers import TimerHandle

#: The key of a client's environment that holds its session; tests of hosts read it, as with Flask-SocketIO.
SAVED_SESSION = "saved_session"
#: The key that tokens are made with. It is new in each process: a restart forgets the clients as well.
_SECRET = secrets.token_bytes(32)
_lock = threading.RLock()  # one for all clients, because it is held for a moment only and there are many of them


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


call_in_child(_renew_lock)


def _token_of(sid: str) -> str:
    # Keyed BLAKE2b is a MAC by itself, and takes a fifth of what an HMAC by way of OpenSSL does.
    digest = hashlib.blake2b(sid.encode("utf-8", "replace"), key=_SECRET, digest_size=32).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def proves(sid: object, token: object) -> bool:
    """Say whether a token belongs to a ``sid``, in constant time. The client need not exist any more.

    :param sid: the ``sid`` that a request names.
    :param token: the token that it shows.
    :return: true if they belong together.
    """
    return isinstance(sid, str) and isinstance(token, str) and hmac.compare_digest(
        token.encode("utf-8", "replace"), _token_of(sid).encode("ascii"))


class Client(OpeningRequest):
    """One client: its identity, the rooms it is in, and the request that opened it.

    There may be tens of thousands, and most only listen. So what few of them need is made when it is needed.

    :param environ: the WSGI environment of the request that opened it.
    :param namespace: the namespace it is connected to.
    :param since: the number of the last event before it connected.
    :param session: the session that carries it, its stream open or not; ``None`` for a caller without a stream.
    :param rooms: the table of rooms that it may be put into.
    :param process: what its ``sid`` begins with: the name of this process, if there are others.
    :ivar sid: its public id, and the name of the room that it is alone in.
    :ivar state: see :class:`~hakgal_hybrid.broker.states.ClientState`.
    :ivar ended_at: the number of the last event before it ended; ``None`` until then.
    :ivar end_reason: why it ended.
    :ivar replayed_upto: the number of the last event that a replay of its own gives it, in place of its stream; 0 for
        none. See :mod:`.replay`.
    :ivar joined: the rooms that it is in, or left not long ago; kept by the table of rooms.
    :ivar opened_at: when it connected, in seconds since 1970.
    :ivar saved_session: the Flask session that its handlers share: a copy, made at first use, of the session of the
        opening request.
    """

    __slots__ = ("_environ", "_rooms", "_sequencer", "_store", "end_reason", "ended_at", "joined", "namespace",
                 "opened_at", "replayed_upto", "saved_session", "session", "sid", "since", "state")

    def __init__(self, environ: dict[str, Any], namespace: str, *, since: int = 0, session: Session | None = None,
                 rooms: Membership[Client] | None = None, process: str = "") -> None:
        super().__init__(environ)
        self.sid = process + secrets.token_urlsafe(15)
        self.namespace = namespace
        self.session = session
        self.since = since
        self.state = ClientState.CONNECTED
        self.ended_at: int | None = None
        self.replayed_upto = 0
        self.end_reason = ""
        self.opened_at = time.time()
        self.saved_session: Any = None
        self._environ: dict[str, Any] | None = None
        self._store: dict[str, Any] | None = None
        self._sequencer: Sequencer | None = None
        self._rooms = _NO_ROOMS if rooms is None else rooms
        self.joined: tuple[Hashable, ...] = ()

    @property
    def token(self) -> str:
        """Proves that a request is this client's; a secret."""
        return _token_of(self.sid)

    @property
    def environ(self) -> dict[str, Any]:
        """The WSGI environment of the request that opened it, which the host may change."""
        with _lock:
            if self._environ is None:
                self._environ = self.opening_environ()
                if self.saved_session is not None:
                    self._environ[SAVED_SESSION] = self.saved_session
            return self._environ

    def use_session(self, session: Any) -> None:
        """Set the Flask session that the client's handlers share from now on.

        :param session: the session.
        """
        with _lock:
            self.saved_session = session
            if self._environ is not None:
                self._environ[SAVED_SESSION] = session

    def shed_session(self) -> None:
        """Forget the Flask session if it is empty: it is copied again when a handler needs it."""
        with _lock:
            if not self.saved_session and self._environ is None:
                self.saved_session = None

    def request_environ(self) -> dict[str, Any]:
        """Return the WSGI environment for a request in its name, as a dict of the caller's own."""
        return self.opening_environ() if self._environ is None else dict(self._environ)

    @property
    def sequencer(self) -> Sequencer:
        """Puts its numbered events in order."""
        with _lock:
            if self._sequencer is None:
                self._sequencer = Sequencer()
            return self._sequencer

    @property
    def store(self) -> dict[str, Any]:
        """What the host keeps for it by ``save_session``."""
        with _lock:
            if self._store is None:
                self._store = {}
            return self._store

    @store.setter
    def store(self, kept: dict[str, Any]) -> None:
        self._store = kept

    @property
    def ended(self) -> bool:
        """True once it has ended: no event that is emitted from then on is for this client."""
        return self.state is not ClientState.CONNECTED

    def proves(self, token: object) -> bool:
        """Compare a token with this client's, in constant time.

        :param token: the token that a request shows.
        :return: true if it is this client's.
        """
        return proves(self.sid, token)

    def rooms(self) -> list[Hashable]:
        """Return the rooms this client is in now, with its own."""
        return self._rooms.rooms_of(self)

    def is_for_but_for_rooms(self, seq: int, target: Target) -> bool:
        """Say whether an event is for this client, its rooms left out of account.

        :param seq: the event's number.
        :param target: for whom it is.
        :return: true if the client is of its namespace, was connected when it was emitted, and is not skipped.
        """
        return ((target.namespace == self.namespace or target.namespace == EVERYWHERE)
                and self.since < seq and (self.ended_at is None or seq <= self.ended_at)
                and self.sid not in target.skip)

    def is_for(self, seq: int, target: Target) -> bool:
        """Say whether an event is for this client.

        :param seq: the event's number.
        :param target: for whom it is.
        :return: true if it is.
        """
        return self.is_for_but_for_rooms(seq, target) and (
            target.rooms is None or any(self._rooms.was_in(self, room, seq) for room in target.rooms))

    def was_connected_at(self, seq: int) -> bool:
        """Say whether this client was connected when an event was emitted.

        :param seq: the event's number.
        :return: true if it was.
        """
        return self.since < seq and (self.ended_at is None or seq <= self.ended_at)


#: The table of rooms of clients that are in no hub.
_NO_ROOMS: Membership[Client] = Membership()
#: How many clients one stream may carry.
MAX_SESSION_CLIENTS = 256
_USUAL = frozenset(["/"])  # one object for most sessions


class Carrier(Protocol):
    """A stream, as its session knows it."""

    def clients_changed(self) -> None:
        """Note that the clients of the session have changed. Any thread may call it."""


class Session:
    """The clients of one stream. It outlives the stream: a client that comes back finds its session.

    :param address: the IP address against whose limit its stream counts.
    :param start: the number of the last event before it was made; its first stream begins there.
    :param standalone: true if it has no stream and needs none.
    :ivar state: see :class:`~hakgal_hybrid.broker.states.SessionState`.
    :ivar ticket: opens the stream; a secret. Empty until
        :meth:`~hakgal_hybrid.broker.sessions.SessionRegistry.ticket_of` makes it.
    :ivar clients: its clients, with those that have ended but whose stream has not sent ``hybrid_disconnect`` yet.
    :ivar reserved: true while its stream is open for clients that are still to connect.
    :ivar carrier: the stream; ``None`` while there is none.
    :ivar deadline: ends it, if no stream comes in time.
    :ivar on_deserted: called when another session carries its last client, from any thread; ``None`` for nothing.
    """

    __slots__ = ("address", "carrier", "clients", "deadline", "on_deserted", "reserved", "start", "state", "ticket")

    def __init__(self, address: str, start: int, *, standalone: bool = False) -> None:
        self.ticket = ""
        self.address = address
        self.start = start
        self.state = SessionState.STANDALONE if standalone else SessionState.WAITING
        self.clients: tuple[Client, ...] = ()
        self.reserved = False
        self.carrier: Carrier | None = None
        self.deadline: TimerHandle | None = None
        self.on_deserted: Callable[[], object] | None = None

    @property
    def living(self) -> list[Client]:
        """The clients that have not ended."""
        return [client for client in self.clients if not client.ended]

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces of its clients."""
        return namespaces_of(self.clients)

    def change(self, clients: tuple[Client, ...]) -> None:
        """Set the clients, and notify the stream of it. Call this under ``EventLog.held``.

        :param clients: the clients; the same ones if only their states have changed.
        """
        self.clients, self.reserved = clients, False
        if self.carrier is not None:
            self.carrier.clients_changed()

    def await_stream(self, deadline: TimerHandle | None) -> None:
        """Set the deadline by which a stream must begin, and cancel the previous one.

        :param deadline: the deadline, or ``None``.
        """
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = deadline


def namespaces_of(clients: tuple[Client, ...]) -> frozenset[str]:
    """Return the namespaces of a session's clients.

    :param clients: the clients.
    :return: their namespaces.
    """
    found = frozenset([client.namespace for client in clients])
    return _USUAL if found == _USUAL else found


def steady(clients: tuple[Client, ...], position: int) -> bool:
    """Say whether all clients of a session were connected at a position, and none of them has ended since.

    Then every later event for everybody of their namespaces is for all of them.

    :param clients: the clients.
    :param position: the position in the log.
    :return: true if that is so.
    """
    return all(client.since <= position >= client.replayed_upto and client.ended_at is None for client in clients)


def bad_ticket() -> AccessDenied:
    """Return the error for a ticket that opens nothing."""
    return AccessDenied("this ticket opens no stream (any more); connect again", code="bad_ticket")
