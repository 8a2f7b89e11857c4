"""What hosts reach for as ``socketio.server.manager``: who is there, and in which rooms."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import NoReturn

from ..broker.hub import Hub
from ..commands.invocation import serving
from .clients import ClientDirectory, absent, eio_sid_of


class Manager:
    """The part of python-socketio's client manager that makes sense without its connections. All of it only looks.

    Where python-socketio has the id of a connection (``eio_sid``), there is an id of the stream here, which the
    clients of one stream have in common.

    :param clients: finds the clients.
    """

    def __init__(self, clients: ClientDirectory) -> None:
        self._clients = clients

    @property
    def _hub(self) -> Hub:
        return self._clients._current().hub

    @property
    def rooms(self) -> dict[str, dict[Hashable, dict[str, str]]]:
        """A copy of everything: ``rooms[namespace][room][sid]``; the room ``None`` has everybody."""
        found: dict[str, dict[Hashable, dict[str, str]]] = {}
        for client in self._hub.clients():
            spaces = found.setdefault(client.namespace, {})
            for room in (None, *client.rooms()):
                spaces.setdefault(room, {})[client.sid] = eio_sid_of(client, self._hub.sessions)
        return found

    def get_namespaces(self) -> list[str]:
        """Return the namespaces that somebody is connected to."""
        return list(self.rooms)

    def get_participants(self, namespace: str, room: Hashable | Iterable[Hashable]) -> Iterator[tuple[str, str]]:
        """Give ``(sid, eio_sid)`` of everybody in a room, or in one of several; ``None`` means the whole namespace.

        :param namespace: the namespace.
        :param room: a room, or a list, tuple or set of them.
        """
        rooms = set(room) if isinstance(room, (list, tuple, set, frozenset)) else {room}
        for client in self._hub.clients(namespace):
            if not rooms.isdisjoint((None, *client.rooms())):
                yield client.sid, eio_sid_of(client, self._hub.sessions)

    def get_rooms(self, sid: str, namespace: str) -> list[Hashable]:
        """Return the rooms a client is in, its own among them; none for a client that is not connected.

        :param sid: the client's ``sid``.
        :param namespace: its namespace.
        :raises NotHere: a ``KeyError``, if another process that is alive has it, or had it.
        """
        client = self._clients.known(sid, namespace)
        if client is None:
            return []
        if not self._clients.is_here(client):  # this thread may have asked the client's edge to change them just now
            self._hub.broker.settled()
        return client.rooms()

    def is_connected(self, sid: str, namespace: str) -> bool:
        """True if a client has been accepted and is not over.

        :param sid: the client's ``sid``.
        :param namespace: its namespace.
        """
        current = serving()
        if current is not None and current.client.sid == sid and current.event == "connect":
            return False  # its connect handler is still running
        client = self._hub.client(sid)
        return client is not None and client.namespace == namespace

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        """Return the ``sid`` that a stream has in a namespace: the first, if it carries several.

        :param eio_sid: the id of the stream.
        :param namespace: the namespace.
        """
        hub = self._hub
        return next((client.sid for client in hub.clients(namespace)
                     if eio_sid_of(client, hub.sessions) == eio_sid), None)

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """Return the id of the stream that a client is carried by.

        :param sid: the client's ``sid``.
        :param namespace: its namespace.
        """
        client = self._clients.find(sid, namespace)
        return None if client is None else eio_sid_of(client, self._hub.sessions)

    def __getattr__(self, name: str) -> NoReturn:
        raise absent("socketio.server.manager", name)
