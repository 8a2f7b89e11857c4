"""``GET /api/events/ws``: a stream over a WebSocket, for the few clients that need one; their commands come up on it.

Down goes what a stream with envelopes carries, a text frame each: :mod:`.writer` takes it from the same
:class:`~hakgal_hybrid.broker.stream.SubscriberStream`. Up come the bodies of what others post: :mod:`.commands` carries
them out.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from flask import Blueprint, Response, request
from flask_sock import Sock  # type: ignore[import-untyped]
from wsproto.utilities import RemoteProtocolError

from ...broker.environ import SOCKETS
from ...broker.formats import Format
from ...broker.states import StreamEnd
from ...broker.stream import SubscriberStream
from ...errors import AccessDenied, RequestError, UnsuitableServer
from ..services import Services
from ..stream import open_stream
from ..stream_query import parse_stream_request, query_of
from ..suitability import check_server
from ..urls import WEBSOCKET
from .channel import Channel, Inbox
from .commands import Orders
from .writer import FAILED, NOT_TEXT, TOO_BIG, Writer


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that serves WebSockets.

    :param services: the parts that the views use.
    """
    views = Blueprint("websocket", __name__)
    accept = _accepting()

    @views.get(WEBSOCKET, websocket=True)
    def converse() -> Response:
        return _converse(services, accept)

    @views.get(WEBSOCKET)
    def explain() -> Response:
        raise _no_websocket_here() if request.environ.get("SERVER_SOFTWARE") == "waitress" else _upgrade_required()

    return views


def _accepting() -> Callable[[_Conversation], Response]:
    """Return flask-sock's view, as a function: it accepts first of all, and we refuse before it is called."""
    kept: list[Any] = []
    stand_in = SimpleNamespace(route=lambda path, **options: kept.append)
    Sock().route(WEBSOCKET, bp=stand_in)(lambda ws, conversation: conversation.hold(ws))
    view: Callable[[_Conversation], Response] = kept[0]
    return view


def _converse(services: Services, accept: Callable[[_Conversation], Response]) -> Response:
    environ = request.environ
    _check_handshake(environ)
    key = _socket_key(environ)
    check_server(environ)
    wanted = parse_stream_request(query_of(request.environ), request.headers.get("Last-Event-ID"))
    if wanted.format not in (Format.JSON, Format.ENVELOPE):
        raise RequestError(f"a WebSocket carries envelopes, so format={wanted.format.value} is not for it",
                           code="bad_query")
    wanted = dataclasses.replace(wanted, format=Format.ENVELOPE)
    refusal = _refusal_of_commands(services, environ)
    sock = environ[key]
    channel = Channel(sock, services.node.settings, lambda: services.node.stopping)
    feed, reason = open_stream(services, wanted), "failed"
    feed.medium = "websocket"
    # With compression a few bytes could become megabytes, and two threads would share its state.
    environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    environ[key] = channel
    try:
        return accept(_Conversation(services, feed, channel, Orders(services, feed.session, refusal)))
    except (RemoteProtocolError, UnicodeError) as error:
        if channel.answered:
            raise
        raise RequestError(f"this is no WebSocket handshake: {error}", status=400, code="bad_handshake") from error
    except OSError:
        reason = "gone"
        return Response()
    finally:
        environ[key] = sock
        services.node.lifecycle.stream_ended(feed, StreamEnd.of(reason))
        if channel.answered:
            channel.cut()


def _check_handshake(environ: dict[str, Any]) -> None:
    """Refuse a handshake that lacks something (RFC 6455, section 4.2.1); the upgrade headers brought it here."""
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        error = _upgrade_required()
        error.headers["Sec-WebSocket-Version"] = "13"
        raise error
    if not environ.get("HTTP_SEC_WEBSOCKET_KEY") or not environ.get("HTTP_HOST"):
        raise RequestError("a WebSocket handshake needs Host and Sec-WebSocket-Key", status=400, code="bad_handshake")


def _upgrade_required() -> RequestError:
    error = RequestError("this URL is for WebSockets (version 13); for an event stream use /api/events/stream",
                         status=426, code="upgrade_required")
    error.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return error


def _no_websocket_here() -> UnsuitableServer:
    return UnsuitableServer("this server hands its socket to nobody, so that there can be no WebSocket; use "
                            "socketio.run, Werkzeug's threaded server, or gunicorn with gthread or gevent",
                            status=501, code="no_websocket_here")


def _socket_key(environ: dict[str, Any]) -> str:
    """Return where in the environment the socket is.

    :raises UnsuitableServer: if it is nowhere, or cannot be read and written at the same time.
    """
    for key in SOCKETS:
        if isinstance(environ.get(key), ssl.SSLSocket):
            raise UnsuitableServer("WebSockets are not served over this server's TLS; let a proxy end TLS",
                                   status=501, code="no_websocket_over_tls")
        if key in environ:
            return key
    raise _no_websocket_here()


def _refusal_of_commands(services: Services, environ: dict[str, Any]) -> AccessDenied | None:
    """Return why this request could not command, if it could not: the same rules as for what is posted."""
    try:
        services.check_operator(environ)
    except AccessDenied as refusal:
        return refusal
    return None


class _Conversation:
    """One WebSocket, from its acceptance to its end.

    :param services: the parts that it uses.
    :param feed: the stream that it carries.
    :param channel: stands in for its socket.
    :param orders: carries out what comes up.
    """

    def __init__(self, services: Services, feed: SubscriberStream, channel: Channel, orders: Orders) -> None:
        self._services, self._feed, self._channel, self._orders = services, feed, channel, orders

    def hold(self, ws: Any) -> None:
        """Carry out what comes, in the calling thread and one after the other, until either side ends it.

        :param ws: flask-sock's connection, over the channel.
        """
        limit = self._services.node.settings.max_event_bytes
        inbox = Inbox(limit)
        # Nothing has been read yet.
        ws.max_message_size, ws.input_buffer = limit, inbox
        writer = Writer(self._services, self._feed, ws, self._channel, inbox)
        self._channel.listen(writer.hung_up)
        writer.start()
        try:
            while (message := inbox.take()) is not None:
                if isinstance(message, bytes):
                    writer.refuse(NOT_TEXT, "chatter")
                    break
                if len(message.encode()) > limit:  # so far its characters were counted
                    writer.refuse(TOO_BIG, "chatter")
                    break
                writer.answer(self._orders.answer(message))
        except BaseException:
            writer.refuse(FAILED, "failed")
            raise
        finally:
            writer.join()
            ws.thread.join()
