"""Clients by their ``sid``: what hosts may ask about them, and keep for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..broker.broker import process_of
from ..broker.client import Client
from ..broker.sessions import SessionRegistry
from ..broker.stream import SubscriberStream
from ..commands.invocation import serving
from ..errors import NotHere
from ..web.state import AppState
from .ack_wait import NotConnected


class ClientDirectory:
    """Finds the clients of an app.

    :param current: returns the state of the app that is meant, and says what is missing before there is one.
    """

    def __init__(self, current: Callable[[], AppState]) -> None:
        self._current = current

    def find(self, sid: object, namespace: str | None = None) -> Client | None:
        """Return a client that is connected, or the one that is being served in this thread.

        :param sid: its ``sid``.
        :param namespace: its namespace, by default ``/``.
        :return: the client; ``None`` if there is none.
        """
        client, current = self._current().hub.client(sid), serving()
        if client is None and current is not None and current.client.sid == sid:
            client = current.client
        return client if client is not None and client.namespace == (namespace or "/") else None

    def known(self, sid: str, namespace: str | None = None) -> Client | None:
        """Return a client of which everything is known in this process.

        :param sid: its ``sid``.
        :param namespace: its namespace, by default ``/``.
        :return: the client; ``None`` if there is none.
        :raises NotHere: a ``KeyError``, if another process that is alive has it, or had it.
        """
        client, backplane, there = self.find(sid, namespace), self._current().node.backplane, process_of(sid)
        if client is None and backplane is not None and there not in ("", backplane.process):
            peer = backplane.living().get(there)
            if peer is not None:
                raise NotHere(sid, there, peer.host, peer.pid)
        return client

    def is_here(self, client: Client) -> bool:
        """Return false for a client of an edge, whose handler is running here.

        :param client: a client.
        """
        return process_of(client.sid) in ("", self._current().hub.broker.process)

    def connected(self, sid: str, namespace: str | None) -> Client:
        """Return a client.

        :param sid: its ``sid``.
        :param namespace: its namespace, by default ``/``.
        :return: the client.
        :raises NotConnected: a ``KeyError`` and a ``ValueError``, if there is none.
        :raises NotHere: a ``KeyError``, if another process that is alive has it, or had it.
        """
        client = self.known(sid, namespace)
        if client is None:
            raise NotConnected(sid, namespace)
        return client

    def get_session(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """Return what was kept for a client: a dict that has nothing to do with ``flask.session``.

        :param sid: the client's ``sid``.
        :param namespace: its namespace, by default ``/``.
        :return: the dict that :meth:`save_session` was given; an empty one before.
        :raises KeyError: if the client is not connected.
        """
        return self.connected(sid, namespace).store

    def save_session(self, sid: str, session: dict[str, Any], namespace: str | None = None) -> None:
        """Keep a dict for a client.

        :param sid: the client's ``sid``.
        :param session: the dict.
        :param namespace: the client's namespace, by default ``/``.
        :raises KeyError: if the client is not connected.
        """
        self.connected(sid, namespace).store = session

    @contextmanager
    def session(self, sid: str, namespace: str | None = None) -> Iterator[dict[str, Any]]:
        """Give what was kept for a client, and keep it again with what was changed in the ``with`` block.

        :param sid: the client's ``sid``.
        :param namespace: its namespace, by default ``/``.
        :raises KeyError: if the client is not connected.
        """
        session = self.get_session(sid, namespace)
        try:
            yield session
        finally:
            self.save_session(sid, session, namespace)

    def get_environ(self, sid: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return the WSGI environment of the request that opened a client.

        :param sid: the client's ``sid``.
        :param namespace: its namespace, by default ``/``.
        :return: the environment; ``None`` if the client is not connected.
        :raises NotHere: a ``KeyError``, if another process that is alive has it, or had it.
        """
        client = self.known(sid, namespace)
        return None if client is None else client.environ

    @property
    def environ(self) -> dict[str, dict[str, Any]]:
        """The WSGI environments of all clients, by the id of their stream."""
        hub = self._current().hub
        return {eio_sid_of(client, hub.sessions): client.environ for client in hub.clients()}

    def transport(self, sid: str, namespace: str | None = None) -> str:
        """Return how a client gets its events.

        :param sid: the client's ``sid``.
        :param namespace: its namespace, by default ``/``.
        :return: ``sse``; ``polling`` or ``websocket`` for a client of Socket.IO itself.
        :raises KeyError: if the client is not connected.
        """
        session = self.connected(sid, namespace).session
        stream = None if session is None else session.carrier
        framing = stream.request.format.framing if isinstance(stream, SubscriberStream) else None
        return "sse" if framing is None else framing.value


def eio_sid_of(client: Client, sessions: SessionRegistry) -> str:
    """Return a public name for the stream that carries a client (its ticket is a secret).

    :param client: the client.
    :param sessions: the sessions of its hub.
    """
    secret = client.token if client.session is None else sessions.ticket_of(client.session)
    return hashlib.blake2s(secret.encode(), digest_size=10).hexdigest()


def absent(owner: str, name: str) -> AttributeError:
    """Return the error for a part of python-socketio that has no counterpart here.

    :param owner: the object that was asked, as hosts write it.
    :param name: the attribute.
    """
    return AttributeError(f"{owner} has no attribute {name!r}: hakgal_hybrid serves by SSE and HTTP POST, without "
                          "python-socketio's server; its docs list under 'Migrating from Flask-SocketIO' what there is")
