"""``GET /api/events/ws``: a stream over a WebSocket, on which commands come up, for the few clients that need one."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Response, request

from ...broker.environ import SOCKETS
from ...broker.formats import Format
from ...commands.worker import Worker
from ...errors import AccessDenied, RequestError, UnsuitableServer
from ..services import Services
from ..stream import open_stream
from ..stream_query import parse_stream_request, query_of
from ..suitability import check_server
from ..urls import WEBSOCKET
from .commands import Orders
from .events import EventsHandshake, Sharing
from .serving import serve_websocket, serves_websockets

#: How many commands of clients may wait for a thread.
MAX_WAITING = 100_000


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that serves WebSockets.

    :param services: the parts that the views use.
    """
    views = Blueprint("websocket", __name__)
    worker = Worker("hakgal-hybrid-commands", MAX_WAITING, services.node.settings.threads)
    sharing = Sharing(services.node, worker.submit)

    @views.get(WEBSOCKET)
    def converse() -> Response:
        environ = request.environ
        _check_handshake(environ)
        check_server(environ, services.node.settings)
        wanted = parse_stream_request(query_of(environ), request.headers.get("Last-Event-ID"))
        if wanted.format not in (Format.JSON, Format.ENVELOPE):
            raise RequestError(f"a WebSocket carries envelopes, so format={wanted.format.value} is not for it",
                               code="bad_query")
        refusal = _refusal_of_commands(services, environ)
        stream = open_stream(services, dataclasses.replace(wanted, format=Format.ENVELOPE_FRAMES))
        stream.medium = "websocket"
        orders = Orders(services, stream.session, refusal)
        return _Accepted(services, EventsHandshake(sharing, stream, orders.answer))

    return views


class _Accepted(Response):
    """The answer to a handshake, and the WebSocket.

    :param services: has what serves it.
    :param handshake: the WebSocket.
    """

    def __init__(self, services: Services, handshake: EventsHandshake) -> None:
        super().__init__()
        self._services, self._handshake = services, handshake

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve the WebSocket.

        :param environ: the WSGI environment of the handshake.
        :param start_response: takes status and headers.
        :return: no chunks.
        """
        return serve_websocket(environ, start_response, self._handshake, self._services.node)


def _check_handshake(environ: dict[str, Any]) -> None:
    """Refuse what is no handshake (RFC 6455, section 4.2.1), and what no WebSocket can be served to.

    :raises RequestError: if something is missing.
    :raises UnsuitableServer: if the socket is nowhere, or cannot be read and written at the same time.
    """
    served, version = serves_websockets(environ), environ.get("HTTP_SEC_WEBSOCKET_VERSION")
    if not served and environ.get("SERVER_SOFTWARE") == "waitress":  # which hides what the client has asked for
        raise _no_websocket_here()
    if environ.get("HTTP_UPGRADE", "").lower() != "websocket" or version != "13":
        error = RequestError("this URL is for WebSockets (version 13); for an event stream use /api/events/stream",
                             status=426, code="upgrade_required")
        error.headers.update({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"})
        raise error
    if not environ.get("HTTP_SEC_WEBSOCKET_KEY") or not environ.get("HTTP_HOST"):
        raise RequestError("a WebSocket handshake needs Host and Sec-WebSocket-Key", status=400, code="bad_handshake")
    if any(isinstance(environ.get(key), ssl.SSLSocket) for key in SOCKETS):
        raise UnsuitableServer("WebSockets are not served over this server's TLS; let a proxy end TLS",
                               status=501, code="no_websocket_over_tls")
    if not served:
        raise _no_websocket_here()


def _no_websocket_here() -> UnsuitableServer:
    return UnsuitableServer("this server hands its socket to nobody, so that there can be no WebSocket; use "
                            "socketio.run, Werkzeug's threaded server, or gunicorn with gthread or gevent",
                            status=501, code="no_websocket_here")


def _refusal_of_commands(services: Services, environ: dict[str, Any]) -> AccessDenied | None:
    """Return why this request could not command, if it could not: the same rules as for what is posted."""
    try:
        services.check_operator(environ)
    except AccessDenied as refusal:
        return refusal
    return None
