"""SocketIO: what a host wrote against Flask-SocketIO sees."""

from __future__ import annotations

from typing import Any

from flask import Flask

from ..web.transport import KEY, Transport
from .emitting import Emitting
from .options import apply_options, refuse_queue
from .registering import Registering
from .running import Running
from .server import Reason, Server
from .test_client import SocketIOTestClient


class SocketIO(Registering, Emitting, Running):
    """Flask-SocketIO's class, over Server-Sent Events and HTTP POST.

    :param app: the Flask app, or ``None`` to call :meth:`init_app` later; handlers may be registered before.
    :param kwargs: every keyword of Flask-SocketIO is accepted. These mean what they mean there:

        ``manage_session``
            true (default): each client has a session of its own, a copy of its opening request's. False: the app's
            session interface is asked for each event, and keeps what a handler has changed.
        ``namespaces``
            which namespaces may be connected to besides those with handlers, default ``["/"]``; ``"*"``: any.
        ``json``
            a module with ``dumps`` and ``loads``, for all that comes and goes.
        ``logger``
            true, or a logger: log events, rooms and endings at level INFO.

        Those about WebSockets, Engine.IO, asynchronous modes and queues (``async_mode``, ``async_handlers``,
        ``always_connect``, ``ping_timeout``, ``cors_allowed_origins``, ``channel``, …) are ignored; origins are
        allowed by ``HYBRID_ORIGINS`` alone. A keyword that nobody knows is named in a warning.
    :raises ConfigurationError: for ``message_queue`` or a ``client_manager``, which this version cannot honour.
    """

    #: Why a client is gone: ``SocketIO.reason.CLIENT_DISCONNECT`` and so on.
    reason = Reason

    def __init__(self, app: Flask | None = None, **kwargs: Any) -> None:
        refuse_queue(kwargs)
        self._begin(Transport(), kwargs)
        if app is not None:
            self.init_app(app)

    @classmethod
    def over(cls, transport: Transport) -> SocketIO:
        """Return the face of a transport that exists already."""
        face = cls.__new__(cls)
        face._begin(transport, {})
        transport.face = face
        transport.app.extensions["socketio"] = face
        return face

    def _begin(self, transport: Transport, options: dict[str, Any]) -> None:
        self.server_options = options
        self.server = Server(self)
        self._bind(transport)

    def _bind(self, transport: Transport) -> None:
        self.transport = transport
        self.handlers = transport.handlers
        self._running = None

    def init_app(self, app: Flask | None, **kwargs: Any) -> None:
        """Serve ``app``; takes the keywords of the constructor. Without an app they are kept for the next call."""
        refuse_queue(kwargs)
        self.server_options.update(kwargs)
        if app is None:
            return
        if not self.transport.serves(app):
            # As with Flask-SocketIO: one object, an app made anew by its factory, the same handlers.
            fresh = Transport()
            fresh.handlers.update(self.handlers)
            self._bind(fresh)
        existing = app.extensions.get(KEY)
        if existing is None:
            self.transport.init_app(app)
        elif existing is not self.transport:
            existing.handlers.update(self.handlers)
            self._bind(existing)
        apply_options(self.server_options, self.transport)
        self.transport.face = self
        app.extensions["socketio"] = self

    @property
    def async_mode(self) -> str:
        """Always ``threading``: handlers and background tasks run in native threads."""
        return "threading"

    @property
    def manage_session(self) -> bool:
        """What the keyword of this name says; may be set at any time."""
        return self.handlers.manage_session

    @manage_session.setter
    def manage_session(self, value: bool) -> None:
        self.handlers.manage_session = value

    def test_client(self, app: Flask, namespace: str | None = None, query_string: str | None = None,
                    headers: Any = None, auth: Any = None, flask_test_client: Any = None) -> SocketIOTestClient:
        """Return a client for tests, connected; see :class:`.SocketIOTestClient`."""
        return SocketIOTestClient(app, self, namespace=namespace, query_string=query_string, headers=headers,
                                  auth=auth, flask_test_client=flask_test_client)

    def _handle_event(self, handler: Any, message: str | None, namespace: str, sid: str, *args: Any) -> Any:
        """Run one function as a client: what class-based namespaces call, Flask-SocketIO's own too."""
        if namespace == "*":  # a class for all of them is told which one before the sid
            namespace, sid, args = sid, args[0], args[1:]
        client = self.server.find(sid, namespace)
        if client is None:
            return "", 400
        return self.handlers.run(self.transport.app, client, handler, message, args)
