"""Hub: who is connected, who is in which room, and who must be woken when something happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from ..errors import Overloaded
from .broker import Broker
from .client import MAX_SESSION_CLIENTS, NEVER, Client, Session, bad_ticket
from .counters import DeliveryStatistics
from .event import Target
from .membership import Membership
from .sessions import SessionRegistry


class Hub:
    """Clients, rooms and wake-ups around one log.

    :param broker: publishes to that log.
    :param sessions: what streams carry.
    :param max_clients: clients in total, those that may come back included.
    """

    def __init__(self, broker: Broker, sessions: SessionRegistry, *, max_clients: int) -> None:
        self.broker = broker
        self.log = broker.log
        self.sessions = sessions
        self._max_clients = max_clients
        self._clients: dict[str, Client] = {}
        #: Those that are over and still have to be told so: what was emitted before is for them.
        self._parting: dict[str, Client] = {}
        self._rooms = Membership()
        self._delivered = self._bytes = 0
        self._ended: Counter[str] = Counter()
        self._lock = sessions.lock

    # -- clients ---------------------------------------------------------------------------------------------

    def new_session(self, environ: dict[str, Any], *, lasting: bool = False) -> Session:
        """Return a new link; see :meth:`~hakgal_hybrid.broker.sessions.SessionRegistry.make`."""
        return self.sessions.make(environ, self.log.newest, lasting=lasting)

    def admit(self, session: Session, environ: dict[str, Any], namespace: str) -> Client:
        """Register a client that ``link`` carries.

        :raises Overloaded: if the link, or all links together, carry too many.
        :raises AccessDenied: if the link is gone.
        """
        while (client := self._admitted(session, environ, namespace)) is None:
            if not self.sessions.lapse_oldest():
                raise Overloaded(f"all {self._max_clients} places for clients are taken (HYBRID_MAX_CLIENTS)",
                                 code="too_many_clients", retry_after=5)
        return client

    def _admitted(self, session: Session, environ: dict[str, Any], namespace: str) -> Client | None:
        """Return a new client; nothing if there is no place for one."""
        with self._lock:
            if session.dead:
                raise bad_ticket()
            if len(session.clients) >= MAX_SESSION_CLIENTS:
                raise Overloaded(f"one stream carries at most {MAX_SESSION_CLIENTS} clients", code="too_many_clients",
                                 status=429, retry_after=5)
            if len(self._clients) >= self._max_clients:
                return None
            # Whoever comes first gets whatever its stream asks for; whoever joins it, what happens from now on. "Now"
            # is read when the stream's writer can see the newcomer: what it took up before was before that one's time.
            first = not session.clients and not session.opened
            client = Client(environ, namespace, since=0 if first else NEVER, session=session, rooms=self._rooms)
            self._clients[client.sid] = client
            session.refresh((*session.clients, client))
            if not first:
                client.since = self.log.newest
                session.refresh(session.clients)
            return client

    def forget(self, client: Client) -> bool:
        """Take a client out of everything at once; true the first time."""
        first = self._end(client, "", told=False)
        if first:
            self.leave_all(client)
        return first

    def end(self, client: Client, reason: str) -> bool:
        """Have a client be over once it has got what was emitted before; true the first time.

        Its stream, if there is one, tells it so by ``hybrid_disconnect``, in its place among the events, and ends with
        the last client.
        """
        return self._end(client, reason, told=True)

    def _end(self, client: Client, reason: str, *, told: bool) -> bool:
        session = client.session
        with self._lock:
            if client.sid not in self._clients:
                return False
            told = told and session is not None and session.carrier is not None
            if told:
                self._parting[client.sid] = client  # first: at no time can its stream's writer not find it
            client.end_reason, client.ended_at = reason, NEVER
            if session is not None:
                session.stir()  # before: a writer that does not find it any more is to know that somebody has gone
            del self._clients[client.sid]
            client.ended_at = self.log.newest  # read when the stream's writer knows, as in _admitted
            if session is not None and told:
                session.refresh(session.clients)
            else:
                self._let_go(session, [client])
        self.broker.wake()
        return True

    def prune(self, session: Session, gone: Sequence[Client]) -> None:
        """Take clients out of a link that are over and have been told so, or never will be."""
        with self._lock:
            self._let_go(session, gone)

    def leave_all(self, client: Client) -> None:
        """Nobody asks any more which rooms a client is in that is over: forget them, once it has been told as well."""
        with self._lock:
            client.left = True
            if client.session is None or client not in client.session.clients:
                self._rooms.leave_all(client)

    def _let_go(self, session: Session | None, gone: Sequence[Client]) -> None:
        if session is not None:
            session.refresh(tuple(client for client in session.clients if client not in gone))
        for client in gone:
            self._parting.pop(client.sid, None)
            if client.left:
                self._rooms.leave_all(client)

    def client(self, sid: object) -> Client | None:
        """Return the client with this ``sid``."""
        return self._clients.get(sid) if isinstance(sid, str) else None

    def carried(self, sid: object) -> Client | None:
        """Return the client with this ``sid``, also if it is over but has not been told so."""
        return self.client(sid) or (self._parting.get(sid) if isinstance(sid, str) else None)

    def latest_for(self, client: Client, position: int) -> str | None:
        """Return the id of the newest retained event after number ``position`` that is for a client."""
        _, entries = self.log.since(position)
        latest = next((entry for entry in reversed(entries) if client.is_for(entry.seq, entry.event.target)), None)
        return None if latest is None else self.log.id_of(latest.seq)

    def clients(self, namespace: str | None = None) -> list[Client]:
        """Return the clients of a namespace, or all."""
        clients = list(self._clients.values())
        return clients if namespace is None else [item for item in clients if item.namespace == namespace]

    # -- rooms -----------------------------------------------------------------------------------------------

    def enter_room(self, sid: str, room: Hashable) -> None:
        """Put a client in a room; it gets what is emitted to the room from now on."""
        with self._lock:
            client = self._clients.get(sid)
            if client is not None:
                self._rooms.join(client, room, lambda: self.log.newest)

    def leave_room(self, sid: str, room: Hashable) -> None:
        """Take a client out of a room; it still gets what was emitted to the room before."""
        known_from = self.log.known_from  # not under our lock: a finalizer may want that one while it holds the log's
        with self._lock:
            client = self._clients.get(sid)
            if client is not None:
                self._rooms.leave(client, room, self.log.newest, known_from)

    def close_room(self, room: Hashable, namespace: str = "/") -> None:
        """Take every client of a namespace out of a room."""
        for client in self.clients(namespace):
            self.leave_room(client.sid, room)

    def in_rooms(self, seq: int, target: Target) -> list[Client]:
        """Return whom an event for rooms is for: each of whom :meth:`~hakgal_hybrid.broker.client.Client.is_for` is
        true.

        Many may be in a room, so who is in one is not asked that; who is alone in its own is.
        """
        rooms, skip = target.rooms or (), target.skip
        there = [client for client in self._rooms.there(seq, target)
                 if client.since < seq and (client.ended_at is None or seq <= client.ended_at)
                 and not (skip and client.sid in skip)]
        alone = [client for client in map(self.carried, rooms) if client is not None and client.is_for(seq, target)]
        if there and (alone or len(rooms) > 1):  # somebody may be in two of them
            return list(dict.fromkeys([*there, *alone]))
        return there or alone

    # -- statistics ------------------------------------------------------------------------------------------

    def count_delivery(self, delivered: int, size: int) -> None:
        """Add what was written to streams."""
        with self._lock:
            self._delivered += delivered
            self._bytes += size

    def count_end(self, reason: str) -> None:
        """Count one ended stream."""
        with self._lock:
            self._ended[reason] += 1

    def traffic(self) -> DeliveryStatistics:
        """Return a snapshot of what went out."""
        with self._lock:
            return DeliveryStatistics(self._delivered, self._bytes, dict(self._ended))
