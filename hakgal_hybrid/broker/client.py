"""Client: who somebody is to the host, and what is for them. It outlives the stream that carries it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

from ..errors import AccessDenied
from .environ import OpeningRequest
from .event import EVERYWHERE, Target
from .membership import NO_ROOMS, Membership, within
from .sequencer import Sequencer
from .timers import TimerHandle

#: Where tests of hosts look for a client's session in its environment.
SAVED_SESSION = "saved_session"
#: What tokens are made with; a restart forgets clients anyway.
_SECRET = secrets.token_bytes(32)
_lock = threading.RLock()


def _token_of(sid: str) -> str:
    # Keyed BLAKE2b is a MAC by itself, and takes a fifth of what an HMAC by way of OpenSSL does.
    digest = hashlib.blake2b(sid.encode("utf-8", "replace"), key=_SECRET, digest_size=32).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def proves(sid: object, token: object) -> bool:
    """True if ``token`` is that of the client with this ``sid``, who may be gone; compared in constant time."""
    return isinstance(sid, str) and isinstance(token, str) and hmac.compare_digest(
        token.encode("utf-8", "replace"), _token_of(sid).encode("ascii"))


class Client(OpeningRequest):
    """One client: its identity, the rooms it is in, and the request that opened it.

    There may be tens of thousands, most of which only listen: what few of them need is made when it is needed.

    :ivar sid: public name, also the room it is alone in.
    :ivar session: the session it is carried by, its stream open or not; ``None`` for a caller without a stream.
    :ivar since: number of the last event that was before its time.
    :ivar ended_at: number of the last event that was in its time, once it is over; ``end_reason``: why it is.
    :ivar joined: the rooms it has joined, or left not long ago; its own only once it has left that.
    :ivar left: true once it is over and the host's ``disconnect`` handler, which may ask for its rooms, has been run.
    :ivar saved_session: the session of the app its handlers share, forked from the one of the opening request at first
        use.
    """

    __slots__ = ("_environ", "_rooms", "_sequencer", "_store", "end_reason", "ended_at", "joined", "left",
                 "namespace", "opened_at", "saved_session", "session", "sid", "since")

    def __init__(self, environ: dict[str, Any], namespace: str, *, since: int = 0, session: Session | None = None,
                 rooms: Membership = NO_ROOMS) -> None:
        super().__init__(environ)
        self.sid = secrets.token_urlsafe(15)
        self.namespace = namespace
        self.session = session
        self.since = since
        self.ended_at: int | None = None
        self.end_reason = ""
        self.left = False
        self.opened_at = time.time()
        self.saved_session: Any = None
        self._environ: dict[str, Any] | None = None
        self._store: dict[str, Any] | None = None
        self._sequencer: Sequencer | None = None
        self._rooms = rooms
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
        """Have the client's handlers share this session from now on."""
        with _lock:
            self.saved_session = session
            if self._environ is not None:
                self._environ[SAVED_SESSION] = session

    def shed_session(self) -> None:
        """Forget a session that holds nothing: it is forked again when a handler needs it."""
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
        """True once it is over: nothing that happens now is for this client."""
        return self.ended_at is not None

    def proves(self, token: object) -> bool:
        """True if ``token`` is this client's; compared in constant time."""
        return proves(self.sid, token)

    def rooms(self) -> list[Hashable]:
        """Return the rooms this client is in now, its own among them."""
        own = () if self.sid in self.joined else (self.sid,)
        return [*own, *(room for room in self.joined if self._rooms.spells(self, room)[-1][1] is None)]

    def in_room(self, room: Hashable, seq: int) -> bool:
        """True if the client was in ``room`` when event number ``seq`` was emitted."""
        return within(self._rooms.spells(self, room), seq)

    def is_for(self, seq: int, target: Target) -> bool:
        """True if an event with this number and target is for this client."""
        if target.namespace != self.namespace and target.namespace != EVERYWHERE:
            return False
        if not self.lives_at(seq) or self.sid in target.skip:
            return False
        return target.rooms is None or any(self.in_room(room, seq) for room in target.rooms)

    def lives_at(self, seq: int) -> bool:
        """True if event number ``seq`` was emitted in this client's time."""
        return self.since < seq and (self.ended_at is None or seq <= self.ended_at)
#: How many clients one stream may carry.
MAX_SESSION_CLIENTS = 256
_USUAL = frozenset(["/"])  # once for all, not once for each
#: A number that no event reaches.
NEVER = 1 << 62


class SessionClients(NamedTuple):
    """Who is on a stream; one value, because its writer reads it while others change it.

    :ivar clients: those it carries, and those that are over but have not been told so yet.
    :ivar settled: the number from which on all are there and alive: they see the same events then, but for rooms.
    """

    clients: tuple[Client, ...]
    namespaces: frozenset[str]
    settled: int


class Carrier(Protocol):
    """What a link knows of the stream that carries it."""

    def stir(self) -> None:
        """Have the stream's writer look at it soon. May be called from any thread."""


class Session:
    """The clients of one stream.

    :ivar ticket: opens the stream; a secret. Empty until somebody asks for it: see :meth:`SessionRegistry.ticket_of`.
    :ivar start: number of the last event before it was made; a first stream begins there.
    :ivar riders: its clients.
    :ivar carrier: whatever writes the stream now; ``None`` while there is none.
    :ivar opened: true once it has had a stream.
    :ivar dead: true once nobody can come back to it.
    """

    __slots__ = ("address", "carrier", "dead", "deadline", "lasting", "opened", "riders", "start", "ticket")

    def __init__(self, address: str, start: int, *, lasting: bool) -> None:
        self.ticket = ""
        self.address = address
        self.start = start
        self.lasting = lasting
        self.riders = SessionClients((), frozenset(), 0)
        self.carrier: Carrier | None = None
        self.opened = False
        self.dead = False
        self.deadline: TimerHandle | None = None

    @property
    def clients(self) -> tuple[Client, ...]:
        """The clients it carries, and those that are over but have not been told so yet."""
        return self.riders.clients

    @property
    def living(self) -> list[Client]:
        """The clients that are not over."""
        return [client for client in self.clients if not client.ended]

    def refresh(self, clients: tuple[Client, ...]) -> None:
        """Set who is carried."""
        namespaces = frozenset([client.namespace for client in clients])
        self.riders = SessionClients(clients, _USUAL if namespaces == _USUAL else namespaces,
                             max((NEVER if client.ended else client.since for client in clients), default=0))
        self.stir()

    def stir(self) -> None:
        """Have whatever writes the stream look at it: its clients have changed, or it has been replaced."""
        if self.carrier is not None:
            self.carrier.stir()

    def await_stream(self, deadline: TimerHandle | None) -> None:
        """Take the deadline by which a stream must come, in place of the one before."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = deadline


def bad_ticket() -> AccessDenied:
    """Return the error for a ticket that opens nothing."""
    return AccessDenied("this ticket opens no stream (any more); connect again", code="bad_ticket")
