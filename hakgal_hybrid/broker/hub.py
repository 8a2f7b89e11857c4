"""Hub: the register of connected clients, their sessions and their rooms."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from functools import partial
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
    """The clients and rooms of one log. They change under ``EventLog.held``, so each change stands between two events.

    :param broker: publishes to that log.
    :param sessions: the registry of sessions.
    :param max_clients: how many clients there may be, with those whose stream is away.
    :ivar deliveries: counts what streams have sent.
    """

    def __init__(self, broker: Broker, sessions: SessionRegistry, *, max_clients: int) -> None:
        self.broker, self.log, self.sessions, self._max_clients = broker, broker.log, sessions, max_clients
        self._clients: dict[str, Client] = {}
        #: Clients that have ended, but whose stream has not sent ``hybrid_disconnect`` yet.
        self._ending: dict[str, Client] = {}
        self._rooms: Membership[Client] = Membership()
        self.deliveries = DeliveryCounters()
        self._held = broker.log.held

    # -- clients ---------------------------------------------------------------------------------------------

    def new_session(self, environ: dict[str, Any], *, standalone: bool = False) -> Session:
        """Return a new session; see :meth:`~hakgal_hybrid.broker.sessions.SessionRegistry.make`.

        :param environ: the WSGI environment of the request that makes it.
        :param standalone: true if it needs no stream and never lapses.
        :return: the session.
        """
        return self.sessions.make(environ, self.broker.ready(), standalone=standalone)

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
            if not self.sessions.make_room():
                raise Overloaded(f"all {self._max_clients} places for clients are taken (HYBRID_MAX_CLIENTS)",
                                 code="too_many_clients", retry_after=5)
        return client

    def _admitted(self, session: Session, environ: dict[str, Any], namespace: str) -> Client | None:
        """Return a new client; ``None`` if there are too many."""
        with self._held():
            if session.state is SessionState.ENDED:
                raise bad_ticket()
            if len(session.clients) >= MAX_SESSION_CLIENTS:
                raise Overloaded(f"one stream carries at most {MAX_SESSION_CLIENTS} clients", code="too_many_clients",
                                 status=429, retry_after=5)
            if len(self._clients) >= self._max_clients:
                return None
            # The first client gets whatever its stream resumes from; later ones, what is emitted from now on.
            first = not session.clients and session.state in (SessionState.WAITING, SessionState.STANDALONE)
            client = Client(environ, namespace, since=0 if first else self.log.newest, session=session,
                            rooms=self._rooms, process=self.broker.process)
            self._clients[client.sid] = client
            session.change((*session.clients, client))
            return client

    def forget(self, client: Client) -> bool:
        """Take a client out of everything at once; its stream does not say so.

        :param client: the client.
        :return: true if it was there.
        """
        if not self.end(client, "", notify=False):
            return False
        self.handled(client)
        return True

    def end(self, client: Client, reason: str, *, notify: bool = True) -> bool:
        """End a client. It still gets what was emitted before.

        An open stream then sends ``hybrid_disconnect``, in its place among the events, and ends with its last client.

        :param client: the client.
        :param reason: the reason that ``hybrid_disconnect`` gives.
        :param notify: false if the stream does not say so.
        :return: true the first time.
        """
        session = client.session
        with self._held():
            if client.sid not in self._clients:
                return False
            notify = notify and session is not None and session.state is SessionState.OPEN
            client.end_reason, client.ended_at = reason, sys.maxsize if notify else self.log.newest
            if notify:
                self.broker.in_place(partial(_over, client))
            client.state = after(client.state, ClientEvent.ENDED if notify else ClientEvent.ENDED_SILENTLY)
            # Before it leaves ``_clients``: a writer that does not find it there finds it here, or a changed stream.
            if notify:
                self._ending[client.sid] = client
            if session is not None:
                session.change(session.clients if notify else _without(session.clients, client))
            del self._clients[client.sid]
        self.broker.wake()
        return True

    def release(self, client: Client) -> None:
        """Note that a client's stream has sent ``hybrid_disconnect``, or never will.

        :param client: the client; nothing happens unless it has ended.
        """
        session = client.session
        with self._held():
            if session is not None and client.state in (ClientState.ENDING, ClientState.HANDLED):
                session.change(_without(session.clients, client))
                self._ending.pop(client.sid, None)
                self._move(client, ClientEvent.RELEASED)

    def handled(self, client: Client) -> None:
        """Note that the host's ``disconnect`` handler has returned, or will not be run.

        :param client: the client, which has ended.
        """
        with self._held():
            self._move(client, ClientEvent.HANDLED)

    def _move(self, client: Client, event: ClientEvent) -> None:
        client.state = after(client.state, event)
        if client.state is ClientState.GONE:
            self._rooms.forget(client)

    def client(self, sid: object) -> Client | None:
        """Return a connected client by its ``sid``.

        :param sid: the ``sid``; a value of any other type finds nothing.
        :return: the client, or ``None``.
        """
        return self._clients.get(sid) if isinstance(sid, str) else None

    def audible(self, sid: object) -> Client | None:
        """Return a client that may still be sent events: connected, or ended without ``hybrid_disconnect`` sent yet.

        :param sid: the ``sid``; a value of any other type finds nothing.
        :return: the client, or ``None``.
        """
        return self.client(sid) or (self._ending.get(sid) if isinstance(sid, str) else None)

    def clients(self, namespace: str | None = None) -> list[Client]:
        """Return the connected clients.

        :param namespace: only those of this namespace; ``None`` for all.
        :return: the clients.
        """
        clients = list(self._clients.values())
        return clients if namespace is None else [item for item in clients if item.namespace == namespace]

    def enter_room(self, sid: str, room: Hashable) -> None:
        """Put a client in a room; it gets what is emitted to the room from now on.

        :param sid: the client's ``sid``.
        :param room: the room.
        """
        with self._held():
            client = self._clients.get(sid)
            if client is not None:
                change = self._rooms.join if room in client.rooms() else self._rooms.moved
                self._rooms.join(client, room, self.log.newest)
                self.broker.in_place(partial(change, client, room))

    def leave_room(self, sid: str, room: Hashable) -> None:
        """Take a client out of a room; it still gets what was emitted to the room before.

        :param sid: the client's ``sid``.
        :param room: the room.
        """
        with self._held():
            client = self._clients.get(sid)
            if client is not None:
                self.broker.in_place(partial(self._rooms.leave, client, room, known_from=self.log.known_from))

    def close_room(self, room: Hashable, namespace: str = "/") -> None:
        """Take every client of a namespace out of a room.

        :param room: the room.
        :param namespace: the namespace.
        """
        for client in self.clients(namespace):
            self.leave_room(client.sid, room)

    def audience(self, seq: int, target: Target) -> list[Client]:
        """Return each client that an event for rooms is for, once: those for which :meth:`.Client.is_for` is true.

        A room may have many members. They come from the room's own table, so their membership is not checked again.

        :param seq: the event's number.
        :param target: for whom it is.
        :return: the clients.
        """
        rooms = target.rooms or ()
        members = [client for client in self._rooms.members_at(seq, target) if client.is_for_but_for_rooms(seq, target)]
        by_sid = [client for client in map(self.audible, rooms) if client is not None and client.is_for(seq, target)]
        if members and (by_sid or len(rooms) > 1):  # a client may be in two of the rooms
            return list(dict.fromkeys([*members, *by_sid]))
        return members or by_sid


def reserved_session(hub: Hub, environ: dict[str, Any]) -> Session:
    """Return a session whose stream can be opened although it has no clients; they have to come soon.

    :param hub: where the clients will be.
    :param environ: the WSGI environment of the request that opens the stream.
    :return: the session.
    """
    session = hub.new_session(environ)

    def give_up() -> None:
        if session.reserved:
            with hub.log.held():
                session.change(session.clients)
            hub.broker.wake()

    hub.sessions.ticket_of(session)
    session.reserved = True
    hub.sessions.deadlines.call_later(hub.sessions.connect_s, give_up)
    return session


def _over(client: Client, newest: int) -> None:
    """Note the last event before a client has ended."""
    client.ended_at = newest
    if client.session is not None:
        client.session.change(client.session.clients)


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
