"""Clients: connecting before the stream is opened, tickets for streams, acknowledging events, leaving."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from ..broker.client import Client, proves
from ..broker.hub import latest_for
from ..broker.payload import restore_binary
from ..commands.invocation import host_request
from ..commands.node import Node
from ..errors import AccessDenied, RequestError
from ..logs import get_logger
from .bodies import answer, arguments_of, client_of, namespace_of, read_object, token_of_request
from .forwarding import connected_elsewhere, forwarded, leave_behind
from .services import Services
from .stream_query import parse_stream_request
from .tickets import VALID_S
from .urls import ACK, CONNECT, DISCONNECT, TICKET

logger = get_logger(__name__)

#: The keys that describe the body. ``connect`` handlers see a request without a body, like that of a WebSocket.
_OF_THE_BODY = ("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING")


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint by which clients connect and leave.

    :param services: the parts that the views use.
    """
    views, node = Blueprint("clients", __name__), services.node

    @views.post(CONNECT)
    def connect() -> Response:
        message = read_object(services)
        namespace = namespace_of(message)
        elsewhere = connected_elsewhere(services, message)
        if elsewhere is not None:
            return elsewhere
        client = _returning_client(node, message, namespace)
        resumed = client is not None
        if client is None and _comes_first(node, message):
            return answer({"ticket": services.tickets.name_session(node.hub.broker.process), "namespace": namespace,
                           "heartbeat_s": node.settings.heartbeat_s})
        if client is None:
            client = _new_client(node, message, namespace)
            leave_behind(services, message)
        session = client.session
        if session is None:
            raise RequestError("this client has no stream of its own", code="bad_sid")
        node.hub.broker.settled()
        since = max(client.since, session.start)
        return answer({
            "sid": client.sid, "token": client.token, "ticket": node.hub.sessions.ticket_of(session),
            "resumed": resumed, "namespace": namespace, "since": node.log.id_of(since),
            "after": None if resumed else latest_for(node.log, client, since),
            "heartbeat_s": node.settings.heartbeat_s})

    @views.post(TICKET)
    def ticket() -> Response:
        query = read_object(services).get("query", "")
        if not isinstance(query, str):
            raise RequestError("'query' must be the query of the stream, a text", code="bad_query")
        query = query.removeprefix("?")
        parse_stream_request(query)
        return answer({"ticket": services.tickets.issue(query), "expires_s": VALID_S})

    @views.post(DISCONNECT)
    def disconnect() -> Response:
        message = read_object(services)
        elsewhere = forwarded(services, message)
        if elsewhere is not None:
            return elsewhere
        try:
            client = client_of(services, message)
        except AccessDenied:
            # A client that has ended already may be disconnected again: by another tab, after its own has closed.
            if not proves(message.get("sid"), token_of_request()):
                raise
        else:
            node.lifecycle.end_client(client, "client disconnect")
        return answer({})

    @views.post(ACK)
    def acknowledge() -> Response:
        message = read_object(services)
        elsewhere = forwarded(services, message)
        if elsewhere is None:
            acknowledge_as(services, client_of(services, message), message)
        return elsewhere or answer({})

    return views


def acknowledge_as(services: Services, client: Client, message: dict[str, Any]) -> None:
    """Take an acknowledgement.

    :param services: has the callbacks that wait for one.
    :param client: the client that acknowledges.
    :param message: names the event by ``ack``, and carries the ``args`` of the callback.
    :raises RequestError: if the message makes no sense, or no acknowledgement is expected under this ``ack``.
    """
    args = arguments_of(message)
    try:
        with host_request(services.node.app):
            services.node.acks.answer(message.get("ack"), client, args)
    except RequestError:
        raise
    except Exception:  # the host's fault, and nothing the client could mend
        logger.exception("the callback of an acknowledged event raised")


def _returning_client(node: Node, message: dict[str, Any], namespace: str) -> Client | None:
    """Return the client that the request proves to be, if it may still come back."""
    client = node.hub.client(message.get("sid"))
    if client is None or client.namespace != namespace or not client.proves(message.get("token")):
        return None
    if client.session is not None:
        node.hub.sessions.expect(client.session)
    return client


def _comes_first(node: Node, message: dict[str, Any]) -> bool:
    """Return true if a client shall open its stream first, as that may reach another process, and connect there."""
    return (message.get("anywhere") is True and node.backplane is not None
            and node.backplane.living().others(node.backplane.process) > 0
            and node.hub.sessions.find(message.get("stream")) is None)


def _new_client(node: Node, message: dict[str, Any], namespace: str) -> Client:
    """Return a new client: on the open stream that the request names by its ticket, or with a stream to come."""
    environ = {key: value for key, value in request.environ.items() if key not in _OF_THE_BODY}
    environ["REQUEST_METHOD"] = "GET"
    auth = restore_binary(message.get("auth"))
    session = node.hub.sessions.find(message.get("stream"))
    try:
        return node.lifecycle.open_client(environ, namespace, auth, session=session)
    except AccessDenied as denied:
        if denied.code != "bad_ticket":
            raise
    return node.lifecycle.open_client(environ, namespace, auth)  # the stream ended just now
