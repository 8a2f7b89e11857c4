"""``GET /api/events/stream``: opening a stream, and serving it where a request holds its own thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Response, request

from ..broker.client import Client, Session
from ..broker.environ import HANDOFF, SOCKETS
from ..broker.hub import reserved_session
from ..broker.sse import STREAM_HEADERS, busy_body, wants_stream
from ..broker.states import StreamEnd
from ..broker.stream import SubscriberStream
from ..broker.subscription import StreamRequest
from ..errors import HybridError, Overloaded
from .forwarding import is_elsewhere
from .services import Services
from .stream_body import StreamBody, can_reset, unfinished
from .stream_query import parse_stream_request, query_of
from .suitability import check_server
from .tickets import session_of
from .urls import STREAM


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that serves streams.

    :param services: the parts that the view uses.
    """
    views = Blueprint("stream", __name__)

    @views.get(STREAM)
    def stream() -> Response:
        environ = request.environ
        try:
            check_server(environ, services.node.settings)
            wanted = parse_stream_request(query_of(environ), environ.get("HTTP_LAST_EVENT_ID"))
            if environ["REQUEST_METHOD"] == "HEAD":
                return _stream_of(())
            return _open(services, wanted, environ)
        except Overloaded as busy:
            if not wants_stream(environ):
                raise
            services.node.refusals.count(busy.code)
            return _stream_of(unfinished([busy_body(busy)], environ))

    return views


def _open(services: Services, wanted: StreamRequest, environ: dict[str, Any]) -> Response:
    opened = open_stream(services, wanted)
    if HANDOFF in environ:  # our own server takes the stream out, and writes it
        environ[HANDOFF].append(opened)
        return _HANDED_OVER
    _limit_writes(environ, services.node.settings.stall_s)
    return _stream_of(StreamBody(services, opened, can_reset=can_reset(environ)))


class _HandedOver(Response):
    """The answer to a request whose stream our own server writes: nothing but its head, the same for all."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Give the head.

        :param environ: the WSGI environment of the request.
        :param start_response: takes status and headers.
        :return: no chunks.
        """
        start_response("200 OK", list(STREAM_HEADERS.items()))
        return ()


_HANDED_OVER = _HandedOver()


def _stream_of(chunks: Iterable[bytes]) -> Response:
    """Return an answer of unknown length, which Werkzeug passes on as it is."""
    return Response(iter(chunks), headers=STREAM_HEADERS, direct_passthrough=True)


def open_stream(services: Services, wanted: StreamRequest) -> SubscriberStream:
    """Return the stream of the request that is being answered, which has a place from now on.

    :param services: the parts that the stream is made of.
    :param wanted: the query of the request.
    :return: a stream of the session that a ticket names, or of a new client, which connects now.
    :raises HybridError: if the ticket opens nothing, the host refuses the client, or a limit is reached.
    """
    node, sessions = services.node, services.node.hub.sessions
    if wanted.last_event_id is not None:
        node.hub.broker.wait_for(wanted.last_event_id)
    session, wanted = _session_of(services, wanted)
    try:
        stream = SubscriberStream(session, node.hub, node.stream_options, wanted, node.lifecycle.on_gap,
                                  None if node.neighbours is None else node.neighbours.look_back)
        replaced = sessions.attach(session, stream)
    except BaseException:
        sessions.expect(session)
        raise
    try:
        stream.prepare()
    except BaseException:
        node.lifecycle.stream_ended(stream, StreamEnd.FAILED)
        raise
    if replaced:
        node.hub.broker.wake()
    return stream


def _session_of(services: Services, wanted: StreamRequest) -> tuple[Session, StreamRequest]:
    """Return the session whose stream is opened, and the query, which has a ticket only where somebody comes back."""
    node = services.node

    def connect() -> Client:
        node.authorizer.check(node.app, "stream", wanted.namespace)
        return node.lifecycle.open_client(request.environ, wanted.namespace, with_stream=True)

    if wanted.ticket is None:
        return session_of(connect()), wanted
    node.hub.broker.ready()  # or a ticket of another process, which is not known to be alive yet, opened nothing
    if is_elsewhere(services, wanted.ticket):
        if not wanted.anywhere:
            raise HybridError("another process has this client; connect again, or have the proxy send each client to "
                              "one process", code="elsewhere", status=409)
        node.authorizer.check(node.app, "stream", wanted.namespace)
        return reserved_session(node.hub, request.environ), dataclasses.replace(wanted, last_event_id=None)
    session, resumed = services.tickets.session_of(wanted.ticket, request.query_string.decode("latin-1"), connect)
    if not resumed:
        return session, dataclasses.replace(wanted, ticket=None)
    first = next(iter(session.living), None)
    node.authorizer.check(node.app, "stream", wanted.namespace if first is None else first.namespace, client=first)
    return session, wanted


def _limit_writes(environ: dict[str, Any], seconds: float) -> None:
    """Have a server that would wait for a stalled client for ever give up, where it shows us its socket."""
    for name in SOCKETS:
        if name in environ:
            environ[name].settimeout(seconds)
    if "eventlet.input" in environ:
        environ["eventlet.input"].get_socket().settimeout(seconds)
