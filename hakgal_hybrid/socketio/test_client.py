"""A client for the tests of hosts: no server, no stream, no waiting."""

from __future__ import annotations

import json
import threading
from typing import Any

from flask import Flask
from flask.testing import EnvironBuilder

from ..broker.client import Client, Session
from ..broker.entry import Entry
from ..broker.payload import restore_binary
from ..broker.states import SessionState
from ..commands.handlers import NOT_HANDLED, propagating
from ..commands.invocation import RESERVED
from ..errors import AccessDenied, EventError
from ..web.transport import Transport
from .ack_wait import as_type_error
from .clients import eio_sid_of
from .server import Reason

#: How long to wait for events that come by a backplane, in seconds. A new one takes none for two.
BACKPLANE_S = 10.0


class SocketIOTestClient:
    """A client of an app's :class:`.SocketIO`, as Flask-SocketIO's test client is.

    Handlers run in the calling thread, and their exceptions reach the caller. When a call returns everything has
    happened, the ``disconnect`` handler included. Nothing is conflated. With a backplane each
    call waits until what the app has emitted has come back.

    :param app: the Flask app.
    :param socketio: its ``SocketIO``.
    :param namespace: what to connect to, default ``/``.
    :param query_string: of the request that opens the client.
    :param headers: of that request.
    :param auth: what the client brings along.
    :param flask_test_client: a test client of the app, whose cookies, and so whose session, are sent along.
    """

    def __init__(self, app: Flask, socketio: Any, namespace: str | None = None, query_string: str | None = None,
                 headers: Any = None, auth: Any = None, flask_test_client: Any = None) -> None:
        self.app = app
        self.socketio = socketio
        self.flask_test_client = flask_test_client
        self.connected: dict[str, bool] = {}
        self._clients: dict[str, Client] = {}
        self._session: Session | None = None
        self._received: list[dict[str, Any]] = []
        self._state = Transport.of(app).state
        self._position = self._state.hub.broker.ready()
        self._missed = False
        self.connect(namespace=namespace, query_string=query_string, headers=headers, auth=auth)

    @property
    def eio_sid(self) -> str | None:
        """The id that ``socketio.server.manager`` has for this client's connection; ``None`` if it has none now."""
        client = next(iter(self._clients.values()), None)
        return None if client is None else eio_sid_of(client, self._state.hub.sessions)

    # -- coming and going ------------------------------------------------------------------------------------

    def is_connected(self, namespace: str | None = None) -> bool:
        """True if the client is connected to a namespace, by default ``/``.

        :param namespace: the namespace.
        """
        self._catch_up()
        return self.connected.get(namespace or "/", False)

    def connect(self, namespace: str | None = None, query_string: str | None = None, headers: Any = None,
                auth: Any = None) -> None:
        """Connect to a (further) namespace; :meth:`is_connected` says whether that was granted.

        Nothing happens if it is connected already.

        :param namespace: default ``/``.
        :param query_string: of the request that opens the client.
        :param headers: of that request.
        :param auth: what the client brings along.
        """
        namespace = namespace or "/"
        if self.is_connected(namespace):
            return
        environ = self._environ(query_string, headers)
        state = self._state
        if self._session is None or self._session.state is SessionState.ENDED:
            self._session = state.hub.new_session(environ, standalone=True)
        self.connected[namespace] = False
        try:
            with propagating():
                client = state.node.lifecycle.open_client(environ, namespace, self._sent(auth),
                                                              session=self._session)
        except AccessDenied:
            return
        self._clients[namespace] = client
        self.connected[namespace] = True

    def disconnect(self, namespace: str | None = None) -> None:
        """Leave a namespace, by default ``/``.

        :param namespace: default ``/``.
        :raises RuntimeError: if it is not connected.
        """
        client = self._connected(namespace)
        try:
            with propagating():
                self._state.node.lifecycle.end_client(client, Reason.CLIENT_DISCONNECT, wait=True)
        finally:
            self._catch_up()
            self.connected.pop(client.namespace, None)

    def _connected(self, namespace: str | None) -> Client:
        if not self.is_connected(namespace):
            raise RuntimeError("not connected")
        return self._clients[namespace or "/"]

    def _environ(self, query_string: str | None, headers: Any) -> dict[str, Any]:
        path = "/socket.io" + ("?" + query_string.removeprefix("?") if query_string else "")
        if self.flask_test_client is None:
            return EnvironBuilder(self.app, path=path, headers=headers).get_environ()
        request = self.flask_test_client._request_from_builder_args((), {"path": path, "headers": headers})
        environ: dict[str, Any] = request.environ
        self.flask_test_client._add_cookies_to_wsgi(environ)
        return environ

    # -- events ----------------------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any, callback: bool = False, namespace: str | None = None,
             **ignored: Any) -> Any:
        """Emit an event to the server.

        :param event: the event's name.
        :param args: its arguments.
        :param callback: true to get the handler's answer.
        :param namespace: default ``/``.
        :param ignored: other keywords mean nothing, as with Flask-SocketIO.
        :return: the answer: one value, or a list of none or several; ``None`` if nobody handles the event.
        :raises RuntimeError: if the client is not connected.
        :raises AccessDenied: if the function that authorizes does not allow it.
        """
        client, sent = self._connected(namespace), self._sent(list(args))
        node = self._state.node
        node.authorizer.check(node.app, "emit", client.namespace, event=event, data=sent, client=client)
        with propagating():
            handlers = self._state.handlers
            answer = NOT_HANDLED if event in RESERVED else handlers.trigger(self.app, client, event, tuple(sent))
        if not callback or answer is NOT_HANDLED:
            return None
        values = self._sent([] if answer is None else list(answer) if isinstance(answer, tuple) else [answer])
        return values[0] if len(values) == 1 else values

    def send(self, data: Any, json: bool = False, callback: bool = False, namespace: str | None = None) -> Any:
        """Emit the event ``message``, or ``json``; see :meth:`emit`.

        :param data: the event's argument.
        :param json: true to emit ``json``.
        :param callback: as of :meth:`emit`.
        :param namespace: as of :meth:`emit`.
        """
        return self.emit("json" if json else "message", data, callback=callback, namespace=namespace)

    def get_received(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return what came in a namespace since the last call: dicts of ``name``, ``args`` and ``namespace``.

        ``args`` is the list of arguments; of ``message`` and ``json`` it is the first one.

        :param namespace: default ``/``.
        :raises RuntimeError: if the client is not connected, or the log has dropped what it had not read.
        """
        self._connected(namespace)
        if self._missed:
            self._missed = False
            raise RuntimeError("the log has dropped events which this client had not received; raise "
                               "HYBRID_LOG_EVENTS or HYBRID_LOG_BYTES, or call get_received() more often")
        namespace = namespace or "/"
        found = [packet for packet in self._received if packet["namespace"] == namespace]
        self._received = [packet for packet in self._received if packet["namespace"] != namespace]
        return found

    def _catch_up(self) -> None:
        """Read what the log has had since the last time, and take note of clients that have ended."""
        self._settle()
        over = [client for client in self._clients.values() if client.ended]
        log = self._state.log
        first, entries = log.since(self._position)
        if first > self._position + 1:
            self._missed |= log.missed(self._position, first - 1, lambda seq, name, target: any(
                client.is_for(seq, target) for client in self._clients.values())) != 0
        for entry in entries:
            if any(client.is_for(entry.seq, entry.event.target) for client in self._clients.values()):
                self._received.append(self._packet(entry))
        self._position = entries[-1].seq if entries else max(self._position, first - 1)
        for client in over:
            del self._clients[client.namespace]
            self.connected[client.namespace] = False

    def _settle(self) -> None:
        """Wait for what was emitted here and comes back by a backplane; without one nothing has to."""
        here = threading.Event()
        with self._state.log.held():
            self._state.hub.broker.in_place(lambda newest: here.set())
        if not here.wait(BACKPLANE_S):
            raise RuntimeError("the backplane does not answer; leave message_queue and HYBRID_BACKPLANE out of the "
                               "configuration of tests, or start the Redis that they name")

    def _packet(self, entry: Entry) -> dict[str, Any]:
        event = entry.event
        args = restore_binary(self._loads(event.args_text))
        first_only = event.name in ("message", "json")
        return {"name": event.name, "args": (args[0] if args else None) if first_only else args,
                "namespace": event.target.namespace}

    def _sent(self, value: Any) -> Any:
        """Return ``value`` as it arrives on the other side."""
        try:
            text = self._state.node.encode("test", (value,))
        except EventError as error:
            raise as_type_error(error) from error.__cause__
        return restore_binary(self._loads(text))

    def _loads(self, text: str) -> Any:
        codec = self._state.node.json
        return json.loads(text) if codec is None else codec.loads(text)
