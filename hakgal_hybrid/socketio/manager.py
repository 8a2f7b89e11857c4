"""What hosts reach for as ``socketio.server.manager``: who is there, and in which rooms."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn

from ..commands import serving

if TYPE_CHECKING:
    from ..broker.client import Client
    from ..broker.sessions import SessionRegistry
    from ..web.transport import Transport
    from .server import Server


class Manager:
    """The part of python-socketio's client manager that makes sense without its connections. All of it only looks.

    Where python-socketio has the id of a connection (``eio_sid``), there is an id of the stream here, which the
    clients of one stream have in common.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def _transport(self) -> Transport:
        return self._server._transport

    @property
    def rooms(self) -> dict[str, dict[Hashable, dict[str, str]]]:
        """A copy of everything: ``rooms[namespace][room][sid]``; the room ``None`` has everybody."""
        found: dict[str, dict[Hashable, dict[str, str]]] = {}
        for client in self._transport.hub.clients():
            spaces = found.setdefault(client.namespace, {})
            for room in (None, *client.rooms()):
                spaces.setdefault(room, {})[client.sid] = eio_sid_of(client, self._transport.hub.sessions)
        return found

    def get_namespaces(self) -> list[str]:
        """Return the namespaces that somebody is connected to."""
        return list(self.rooms)

    def get_participants(self, namespace: str, room: Hashable | Iterable[Hashable]) -> Iterator[tuple[str, str]]:
        """Give ``(sid, eio_sid)`` of everybody in a room, or in one of several; ``None`` means the whole namespace."""
        rooms = set(room) if isinstance(room, (list, tuple, set, frozenset)) else {room}
        for client in self._transport.hub.clients(namespace):
            if not rooms.isdisjoint((None, *client.rooms())):
                yield client.sid, eio_sid_of(client, self._transport.hub.sessions)

    def get_rooms(self, sid: str, namespace: str) -> list[Hashable]:
        """Return the rooms a client is in, its own among them; none for a client that is not connected."""
        client = self._server.find(sid, namespace)
        return [] if client is None else client.rooms()

    def is_connected(self, sid: str, namespace: str) -> bool:
        """True if a client has been accepted and is not over."""
        current = serving()
        if current is not None and current.client.sid == sid and current.event == "connect":
            return False  # its connect handler is still running
        client = self._transport.hub.client(sid)
        return client is not None and client.namespace == namespace

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        """Return the ``sid`` that a stream has in a namespace: the first, if it carries several."""
        hub = self._transport.hub
        return next((client.sid for client in hub.clients(namespace)
                     if eio_sid_of(client, hub.sessions) == eio_sid), None)

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """Return the id of the stream that a client is carried by."""
        client = self._server.find(sid, namespace)
        return None if client is None else eio_sid_of(client, self._transport.hub.sessions)

    def __getattr__(self, name: str) -> NoReturn:
        raise absent("socketio.server.manager", name)


def eio_sid_of(client: Client, sessions: SessionRegistry) -> str:
    """Return a public name for the stream that carries a client (its ticket is a secret)."""
    secret = client.token if client.session is None else sessions.ticket_of(client.session)
    return hashlib.blake2s(secret.encode(), digest_size=10).hexdigest()


def absent(owner: str, name: str) -> AttributeError:
    """Return the error for a part of python-socketio that has no counterpart here."""
    return AttributeError(f"{owner} has no attribute {name!r}: hakgal_hybrid serves by SSE and HTTP POST, without "
                          "python-socketio's server; its docs list under 'Migrating from Flask-SocketIO' what there is")
