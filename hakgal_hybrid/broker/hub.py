"""Hub: who is connected, who is in which room, and who must be woken when something happens."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..errors import Overloaded
from .broker import Broker
from .client import MAX_SESSION_CLIENTS, Client, Session, bad_ticket
from .counters import DeliveryCounters
from .event import Target
from .log import EventLog
from .membership import Membership
from .sessions import SessionRegistry
from .states import ClientEvent, ClientState, SessionState, after


class Hub:
    """Clients, rooms and wake-ups around one log.

    :param broker: publishes to that log.
    :param sessions: what streams carry.
    :param max_clients: clients in total, those that may come back included.
    """

    def __init__(self, broker: Broker, sessions: SessionRegistry, *, max_clients: int) -> None:
        self.broker, self.log, self.sessions, self._max_clients = broker, broker.log, sessions, max_clients
        self._clients: dict[str, Client] = {}
        #: Those that are over, but whose stream has not said so yet.
        self._ending: dict[str, Client] = {}
        self._rooms: Membership[Client] = Membership()
        self.deliveries = DeliveryCounters()
        self._held = broker.log.held  # so a client comes, goes, joins and leaves between two events

    # -- clients ---------------------------------------------------------------------------------------------

    def new_session(self, environ: dict[str, Any], *, standalone: bool = False) -> Session:
        """Return a new session; see :meth:`~hakgal_hybrid.broker.sessions.SessionRegistry.make`.

        :param environ: the WSGI environment of the request that makes it.
        :param standalone: true if it needs no stream and never lapses.
        :return: the session.
        """
        return self.sessions.make(environ, self.log.newest, standalone=standalone)

    def admit(self, session: Session, environ: dict[str, Any], namespace: str) -> Client:
        """Register a client.

        :param session: the session that carries it.
        :param environ: the WSGI environment of the request that opens it.
        :param namespace: the namespace that it connects to.
        :return: the client.
        :raises Overloaded: if the session, or all sessions together, carry too many.
        :raises AccessDenied: if the session has ended.
        """
        while (client := self._admitted(session, environ, namespace)) is None:
            if not self.sessions.lapse_oldest():
                raise Overloaded(f"all {self._max_clients} places for clients are taken (HYBRID_MAX_CLIENTS)",
                                 code="too_many_clients", retry_after=5)
        return client

    def _admitted(self, session: Session, environ: dict[str, Any], namespace: str) -> Client | None:
        """Return a new client; nothing if there is no place for one."""
        with self._held():
            if session.state is SessionState.ENDED:
                raise bad_ticket()
            if len(session.clients) >= MAX_SESSION_CLIENTS:
                raise Overloaded(f"one stream carries at most {MAX_SESSION_CLIENTS} clients", code="too_many_clients",
                                 status=429, retry_after=5)
            if len(self._clients) >= self._max_clients:
                return None
            # The first client gets whatever its stream asks for; one that joins it, what happens from now on.
            first = not session.clients and session.state in (SessionState.WAITING, SessionState.STANDALONE)
            client = Client(environ, namespace, since=0 if first else self.log.newest, session=session,
                            rooms=self._rooms)
            self._clients[client.sid] = client
            session.change((*session.clients, client))
            return client

    def forget(self, client: Client) -> bool:
        """Take a client out of everything at once; its stream does not say so.

        :param client: the client.
        :return: true if it was there.
        """
        if not self._end(client, "", heard=False):
            return False
        self.handled(client)
        return True

    def end(self, client: Client, reason: str) -> bool:
        """Have a client be over once it has got what was emitted before.

        Its stream, if there is one, tells it so by ``hybrid_disconnect``, in its place among the events, and ends with
        the last client.

        :param client: the client.
        :param reason: why; ``hybrid_disconnect`` says so.
        :return: true the first time.
        """
        return self._end(client, reason, heard=True)

    def _end(self, client: Client, reason: str, *, heard: bool) -> bool:
        session = client.session
        with self._held():
            if client.sid not in self._clients:
                return False
            heard = heard and session is not None and session.state is SessionState.OPEN
            client.end_reason, client.ended_at = reason, self.log.newest
            client.state = after(client.state, ClientEvent.ENDED if heard else ClientEvent.ENDED_UNHEARD)
            # First: a writer that does not find it any more finds it here, or knows that its stream has changed.
            if heard:
                self._ending[client.sid] = client
            if session is not None:
                session.change(session.clients if heard else _without(session.clients, client))
            del self._clients[client.sid]
        self.broker.wake()
        return True

    def release(self, client: Client) -> None:
        """Note that the stream of a client that is over is done with it, or never will be.

        :param client: the client.
        """
        session = client.session
        with self._held():
            if session is not None and client.state in (ClientState.ENDING, ClientState.HANDLED):
                session.change(_without(session.clients, client))
                self._ending.pop(client.sid, None)
                self._move(client, ClientEvent.RELEASED)

    def handled(self, client: Client) -> None:
        """Note that the host's ``disconnect`` handler is done with a client, or will not be run.

        :param client: the client, which is over.
        """
        with self._held():
            self._move(client, ClientEvent.HANDLED)

    def _move(self, client: Client, event: ClientEvent) -> None:
        client.state = after(client.state, event)
        if client.state is ClientState.GONE:
            self._rooms.forget(client)

    def client(self, sid: object) -> Client | None:
        """Return a client by its ``sid``.

        :param sid: what somebody takes for one.
        :return: the client, or ``None``.
        """
        return self._clients.get(sid) if isinstance(sid, str) else None

    def audible(self, sid: object) -> Client | None:
        """Return a client by its ``sid``, also if it is over but its stream has not said so yet.

        :param sid: what somebody takes for one.
        :return: the client, or ``None``.
        """
        return self.client(sid) or (self._ending.get(sid) if isinstance(sid, str) else None)

    def clients(self, namespace: str | None = None) -> list[Client]:
        """Return the clients that are not over.

        :param namespace: only those of this namespace; ``None`` for all.
        :return: the clients.
        """
        clients = list(self._clients.values())
        return clients if namespace is None else [item for item in clients if item.namespace == namespace]

    # -- rooms -----------------------------------------------------------------------------------------------

    def enter_room(self, sid: str, room: Hashable) -> None:
        """Put a client in a room; it gets what is emitted to the room from now on.

        :param sid: the client's ``sid``.
        :param room: the room.
        """
        with self._held():
            client = self._clients.get(sid)
            if client is not None:
                self._rooms.join(client, room, self.log.newest)

    def leave_room(self, sid: str, room: Hashable) -> None:
        """Take a client out of a room; it still gets what was emitted to the room before.

        :param sid: the client's ``sid``.
        :param room: the room.
        """
        with self._held():
            client = self._clients.get(sid)
            if client is not None:
                self._rooms.leave(client, room, self.log.newest, self.log.known_from)

    def close_room(self, room: Hashable, namespace: str = "/") -> None:
        """Take every client of a namespace out of a room.

        :param room: the room.
        :param namespace: the namespace.
        """
        for client in self.clients(namespace):
            self.leave_room(client.sid, room)

    def audience(self, seq: int, target: Target) -> list[Client]:
        """Return whom an event for rooms is for: each client of which ``is_for`` is true, once.

        Many may be in a room: the room's table has said of each that it was there.

        :param seq: the event's number.
        :param target: for whom it is.
        :return: the clients.
        """
        rooms = target.rooms or ()
        members = [client for client in self._rooms.members_at(seq, target) if client.hears(seq, target)]
        alone = [client for client in map(self.audible, rooms) if client is not None and client.is_for(seq, target)]
        if members and (alone or len(rooms) > 1):  # a client may be in two of them
            return list(dict.fromkeys([*members, *alone]))
        return members or alone


def _without(clients: tuple[Client, ...], client: Client) -> tuple[Client, ...]:
    return tuple(item for item in clients if item is not client)


def latest_for(log: EventLog, client: Client, position: int) -> str | None:
    """Return the id of the newest retained event that is for a client.

    :param log: the log.
    :param client: the client.
    :param position: number of the event after which it must come.
    :return: the id, or ``None`` if there is no such event.
    """
    _, entries = log.since(position)
    latest = next((entry for entry in reversed(entries) if client.is_for(entry.seq, entry.event.target)), None)
    return None if latest is None else log.id_of(latest.seq)
