"""OpeningRequest: the request that opened a client, kept in as little memory as possible.

Handlers see its arguments, headers and cookies for as long as the client lives. Most clients of a server are the same
page in the same browser: what their requests have in common is kept once.
"""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Mapping
from typing import Any

#: The key of the WSGI environment under which the gate leaves the address that rules apply to: the client's, even
#: behind a proxy on this machine.
ADDRESS = "hakgal_hybrid.address"
#: The key under which our own server leaves the address of the connection's other end, for rules: unlike
#: ``REMOTE_ADDR``, no middleware changes it.
PEER = "hakgal_hybrid.peer"
#: The key under which our own server leaves the path of the request, which a mount takes its part of away from.
PATH = "hakgal_hybrid.path"
#: The key of a list to which our server's views append the stream that they have opened.
HANDOFF = "hakgal_hybrid.handoff"
#: The key of a list where our server has not read the body yet, because the request seems not to be permitted. The gate
#: appends to it if the request is permitted after all: it is made again then, with its body.
UNREAD = "hakgal_hybrid.unread"
#: Where servers leave the socket of a request: Werkzeug and our own server, gunicorn's own workers.
SOCKETS = ("werkzeug.socket", "gunicorn.socket")
#: Where a connection can be asked, as long as it is there.
CONNECTIONS = (*SOCKETS, "gunicorn.sock", "eventlet.input", "waitress.client_disconnected")
#: What leads to the connection of a request, and means nothing once the request is answered.
CONNECTION_KEYS = ("wsgi.input", "werkzeug.request", *CONNECTIONS, HANDOFF)
#: What differs from one connection to the next of the same client.
_PORT = "REMOTE_PORT"
#: What differs from one request to the next: tickets and what shall keep caches away are in there.
_QUERY = "QUERY_STRING"
#: A port. Some servers take it from a header of the client's.
_NUMBER = re.compile("[1-9][0-9]{0,4}")


def port_of(environ: Mapping[str, Any]) -> int | None:
    """Return the port of the connection's other end; ``None`` where the server does not say it, or says nonsense.

    :param environ: the WSGI environment of the request.
    """
    port = str(environ.get(_PORT, ""))
    return int(port) if _NUMBER.fullmatch(port) else None


class _Common(dict[str, Any]):
    """A WSGI environment that several clients share; nobody changes it."""

    __slots__ = ("__weakref__",)


_commons: weakref.WeakValueDictionary[tuple[tuple[str, Any], ...], _Common] = weakref.WeakValueDictionary()


class OpeningRequest:
    """Keeps one request: what it has in common with others, its port and its query.

    :param environ: the WSGI environment of the request.
    """

    __slots__ = ("_common", "_port", "_query")

    def __init__(self, environ: dict[str, Any]) -> None:
        self._port = port_of(environ)
        rest = dict(environ)
        if self._port is not None:
            del rest[_PORT]
        query = rest.pop(_QUERY, None)
        self._query: str | None = sys.intern(query) if type(query) is str else query
        try:
            key = tuple(rest.items())
            # Two threads may each make one for the same request: a little memory, no harm.
            common = _commons.get(key)
            if common is None:
                common = _commons[key] = _Common(rest)
        except TypeError:  # something in it cannot be compared
            common = _Common(rest)
        self._common = common

    @property
    def address(self) -> str:
        """The IP address that opened it."""
        return str(self._common.get("REMOTE_ADDR", ""))

    def opening_environ(self) -> dict[str, Any]:
        """Return the WSGI environment of the request, as a dict of the caller's own."""
        environ = dict(self._common)
        if self._port is not None:
            environ[_PORT] = str(self._port)
        if self._query is not None:
            environ[_QUERY] = self._query
        return environ
