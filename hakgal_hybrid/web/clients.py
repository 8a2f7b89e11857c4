"""Who listens: connecting before the stream, leaving it, acknowledging what came."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request
from werkzeug.datastructures import MultiDict

from ..broker.client import Client, proves
from ..broker.payload import restore_binary
from ..errors import AccessDenied, HybridError, RequestError
from ..logs import get_logger
from .bodies import answer, arguments_of, namespace_of, read_object, speaker, token_of_request
from .gate import behind_the_gate
from .responses import problem
from .services import Services
from .stream_query import parse_stream_request
from .tickets import VALID_S
from .urls import ACK, CONNECT, DISCONNECT, TICKET

logger = get_logger(__name__)

#: What the body of the connecting request was: handlers see a request that only opens something, as with a WebSocket.
_OF_THE_BODY = ("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING")


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint by which clients come and go."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_clients", __name__), services.node.handlers)

    @views.post(CONNECT, provide_automatic_options=False, strict_slashes=True)
    def connect() -> Response:
        message = read_object(services)
        namespace = namespace_of(message)
        client = _returning(services, message, namespace)
        resumed = client is not None
        if client is None:
            client = _newcomer(services, message, namespace)
        session = client.session
        if session is None:
            raise RequestError("this client has no stream of its own", code="bad_sid")
        since = max(client.since, session.start)
        return answer({
            "sid": client.sid, "token": client.token, "ticket": services.node.hub.sessions.ticket_of(session),
            "resumed": resumed,
            "namespace": namespace, "since": services.node.log.id_of(since),
            "after": None if resumed else services.node.hub.latest_for(client, since),
            "heartbeat_s": services.node.settings.heartbeat_s})

    @views.post(TICKET, provide_automatic_options=False, strict_slashes=True)
    def ticket() -> Response:
        query = read_object(services).get("query", "")
        if not isinstance(query, str):
            raise RequestError("'query' must be the query of the stream, a text", code="bad_query")
        query = query.removeprefix("?")
        parse_stream_request(MultiDict(parse_qsl(query, keep_blank_values=True)), None)
        return answer({"ticket": services.tickets.issue(query), "expires_s": VALID_S})

    @views.post(DISCONNECT, provide_automatic_options=False, strict_slashes=True)
    def disconnect() -> Response:
        message = read_object(services)
        try:
            client = speaker(services, message)
        except AccessDenied:
            # Whoever is gone has what it asks for: a tab that closes leaves, and another may have it leave once more.
            if not proves(message.get("sid"), token_of_request()):
                raise
        else:
            services.node.lifecycle.end_client(client, "client disconnect")
        return answer({})

    @views.post(ACK, provide_automatic_options=False, strict_slashes=True)
    def acknowledge() -> Response:
        message = read_object(services)
        acknowledge_as(services, speaker(services, message), message)
        return answer({})

    @views.errorhandler(HybridError)
    def refuse(error: HybridError) -> Response:
        return problem(error)

    return views


def acknowledge_as(services: Services, client: Client, message: dict[str, Any]) -> None:
    """Take the acknowledgement that ``client`` sends.

    :raises RequestError: if it makes no sense, or none is expected.
    """
    args = arguments_of(message)
    try:
        services.node.acks.answer(message.get("ack"), client, args)
    except RequestError:
        raise
    except Exception:  # the host's fault, and nothing the client could mend
        logger.exception("the callback of an acknowledged event raised")


def _returning(services: Services, message: dict[str, Any], namespace: str) -> Client | None:
    """Return the client that the request proves to be, if it may still come back."""
    client = services.node.hub.client(message.get("sid"))
    if client is None or client.namespace != namespace or not client.proves(message.get("token")):
        return None
    if client.session is not None:
        services.node.hub.sessions.expect(client.session)
    return client


def _newcomer(services: Services, message: dict[str, Any], namespace: str) -> Client:
    environ = {key: value for key, value in request.environ.items() if key not in _OF_THE_BODY}
    environ["REQUEST_METHOD"] = "GET"
    auth = restore_binary(message.get("auth"))
    session = services.node.hub.sessions.find(message.get("stream"))
    try:
        return services.node.lifecycle.open_client(environ, namespace, auth, session=session)
    except AccessDenied as denied:
        if denied.code != "bad_ticket":
            raise
    return services.node.lifecycle.open_client(environ, namespace, auth)  # the stream ended just now
