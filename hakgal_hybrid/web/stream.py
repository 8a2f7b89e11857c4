"""``GET /api/events/stream``: opening a stream, and serving it where a request holds its own thread."""

from __future__ import annotations

import dataclasses
from typing import Any

from flask import Blueprint, Response, request

from ..broker.client import Client, Session, bad_ticket
from ..broker.environ import HANDOFF, REFUSED
from ..broker.sse import STREAM_HEADERS, busy_body, wants_stream
from ..broker.stream import SubscriberStream
from ..broker.subscription import StreamRequest
from ..errors import HybridError, Overloaded, UnsuitableServer
from .gate import behind_the_gate
from .responses import problem
from .services import Services
from .stream_query import parse_stream_request
from .tickets import is_signed
from .urls import STREAM

_SINGLE_THREADED = ("this server handles one request at a time, so that a stream would block it for ever; use "
                    "socketio.run, a threaded server, or gunicorn with --worker-class gthread or gevent")
_MULTIPROCESS = ("this app runs in several processes, each of which would hold a part of the events only; "
                 "use one process (gunicorn --workers 1)")

def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that serves streams."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_stream", __name__), services.node.handlers)

    # HEAD is routed with GET; provide_automatic_options is off because the gate answers OPTIONS.
    @views.get(STREAM, provide_automatic_options=False, strict_slashes=True)
    def stream() -> Response:
        environ = request.environ
        try:
            check_server(environ)
            args = request.args.to_dict() if environ.get("QUERY_STRING") else {}
            wish = parse_stream_request(args, environ.get("HTTP_LAST_EVENT_ID"))
            if environ["REQUEST_METHOD"] == "HEAD":
                return Response(iter(()), headers=STREAM_HEADERS)
            return _open(services, wish, environ)
        except Overloaded as busy:
            environ[REFUSED] = busy.code
            if not wants_stream(environ):
                return problem(busy)
            return Response([busy_body(busy)], headers=STREAM_HEADERS)
        except HybridError as error:
            return problem(error)

    return views


def check_server(environ: dict[str, Any]) -> None:
    """Refuse to open a stream where it would block the server, or show a part of the events only.

    :raises UnsuitableServer: 503, saying what would do.
    """
    if environ.get("wsgi.multiprocess"):
        raise UnsuitableServer(_MULTIPROCESS, code="several_processes")
    # The test client says neither that it is threaded nor what server it is.
    if "SERVER_SOFTWARE" in environ and not environ.get("wsgi.multithread"):
        raise UnsuitableServer(_SINGLE_THREADED, code="single_threaded_server")


def _open(services: Services, wish: StreamRequest, environ: dict[str, Any]) -> Response:
    feed = open_feed(services, wish)
    _limit_writes(environ, services.node.settings.stall_s)
    environ[HANDOFF].append(feed)
    return Response(b"", headers=STREAM_HEADERS)


def open_feed(services: Services, wish: StreamRequest) -> SubscriberStream:
    """Return the feed of a stream: of the link that a ticket names, or of a new client, which connects now.

    :raises HybridError: if the ticket is worth nothing, the host refuses the client, or a limit is reached.
    """
    sessions = services.node.hub.sessions
    session, wish = _session_of(services, wish)
    feed = SubscriberStream(session, services.node.hub, services.node.settings, wish, services.node.lifecycle.on_gap)
    replaced = sessions.carry(session, feed)
    try:
        feed.prepare()
    except BaseException:
        services.node.lifecycle.stream_left(feed, "failed")
        raise
    if replaced:
        services.node.hub.broker.wake()
    return feed


def _session_of(services: Services, wish: StreamRequest) -> tuple[Session, StreamRequest]:
    """Return the link to be carried, and the wish of whoever opens it: with a ticket only if somebody comes back."""

    def connect() -> Client:
        services.node.authorizer.check("stream", wish.namespace)
        return services.node.lifecycle.open_client(request.environ, wish.namespace)

    if wish.ticket is None:
        return _carried(connect()), wish
    if is_signed(wish.ticket):
        client, resumed = services.tickets.redeem(wish.ticket, request.query_string.decode("latin-1"), connect)
        session = _carried(client)
        if not resumed:
            return session, dataclasses.replace(wish, ticket=None)
    else:
        found = services.node.hub.sessions.find(wish.ticket)
        if found is None:
            raise bad_ticket()
        session = found
    first = next(iter(session.living), None)
    services.node.authorizer.check("stream", wish.namespace if first is None else first.namespace, client=first)
    return session, wish


def _carried(client: Client) -> Session:
    session = client.session
    if session is None:
        raise bad_ticket()
    return session


def _limit_writes(environ: dict[str, Any], seconds: float) -> None:
    """Have a server that would wait for a stalled client for ever give up, where it shows us its socket."""
    for name in ("werkzeug.socket", "gunicorn.socket"):
        if name in environ:
            environ[name].settimeout(seconds)
    if "eventlet.input" in environ:
        environ["eventlet.input"].get_socket().settimeout(seconds)


