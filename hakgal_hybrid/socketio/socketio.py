"""SocketIO: what a host wrote against Flask-SocketIO sees."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

import flask
from flask import Flask

from ..web.apps import Apps
from ..web.state import AppState
from ..web.transport import KEY, Transport, renewed
from .ack_wait import in_context_of_caller
from .options import apply_options, refuse_queue, settings_of, warn_of_late_path
from .queueing import MessageQueue
from .registering import HandlerRegistrar
from .running import Runner
from .server import Reason, Server
from .test_client import SocketIOTestClient


class SocketIO(HandlerRegistrar):
    """Flask-SocketIO's class, over Server-Sent Events and HTTP POST.

    :param app: the Flask app, or ``None`` to call :meth:`init_app` later; handlers may be registered before.
    :param kwargs: every keyword of Flask-SocketIO is accepted; one that nobody knows is named in a warning. Those about
        asynchronous modes and queues (``async_mode``, ``channel``, …) are ignored. These mean what they mean there:

        ``manage_session``
            true (default): each client has a session of its own, a copy of its opening request's. False: the app's
            session interface is asked for each event, and keeps what a handler has changed.
        ``namespaces``
            which namespaces may be connected to besides those with handlers, default ``["/"]``; ``"*"``: any.
        ``cors_allowed_origins``
            the origins whose pages may be clients, unless ``HYBRID_ORIGINS`` is set.
        ``json``
            a module with ``dumps`` and ``loads``, for all that comes and goes.
        ``path``, ``resource``
            what our URLs begin with, unless ``HYBRID_PREFIX`` is set; ``/socket.io`` at the end counts for nothing.
        ``logger``
            true, or a logger: log events, rooms and endings at level INFO.
        ``ping_interval``, ``ping_timeout``, ``max_http_buffer_size``, ``transports``, ``allow_upgrades``
            how clients of Socket.IO are served.
        ``message_queue``, ``channel``
            what ``HYBRID_BACKPLANE`` and ``HYBRID_BACKPLANE_NAME`` say; without an app it can only emit.
    :raises ConfigurationError: for a ``message_queue`` or ``client_manager`` that cannot be honoured.
    """

    #: Why a client is gone: ``SocketIO.reason.CLIENT_DISCONNECT`` and so on.
    reason = Reason
    #: Handlers and background tasks run in native threads.
    async_mode = "threading"

    def __init__(self, app: Flask | None = None, **kwargs: Any) -> None:
        refuse_queue(kwargs)
        self._begin(Apps("SocketIO", newest=True), kwargs)
        self._app = app  # which the caller need not keep
        if app is not None:
            self.init_app(app)

    @classmethod
    def over(cls, apps: Apps) -> SocketIO:
        """Return a facade of apps that something else serves."""
        facade = cls.__new__(cls)
        facade._begin(apps, {})
        return facade

    def _begin(self, apps: Apps, options: dict[str, Any]) -> None:
        super().__init__(apps, Server(MessageQueue(apps, options)))
        self.server_options = options
        self._runner = Runner()

    def represent(self, state: AppState) -> None:
        """Be the ``SocketIO`` of an app that has none.

        :param state: what the app has.
        """
        if state.facade is None:
            state.facade = self
            state.app.extensions.setdefault("socketio", self)

    @property
    def transport(self) -> Transport:
        """The transport of the app that is meant."""
        return Transport.of(self.apps.current().app)

    def init_app(self, app: Flask | None, **kwargs: Any) -> None:
        """Serve an app, besides those that are served already.

        :param app: the app; without one the keywords are kept for the next call.
        :param kwargs: those of the constructor.
        :raises ConfigurationError: as the constructor does, and in profile WEBSOCKET, in which Flask-SocketIO serves.
        """
        refuse_queue(kwargs)
        self.server.queue.update(kwargs)
        if app is None:
            return
        if KEY in app.extensions:
            state = renewed(Transport.of(app).state, self, settings_of(self.server_options))
            warn_of_late_path(self.server_options, state)
            if state not in self.apps.served():
                self.apps.add(state)
        else:
            state = Transport.over(self.apps.init_app(app, settings_of(self.server_options))).state
        apply_options(self.server_options, state)
        state.facade = self
        app.extensions["socketio"] = self

    def emit(self, event: str, *args: Any, namespace: str | None = "/", to: Any = None, room: Any = None,
             include_self: bool = True, skip_sid: Any = None, callback: Callable[..., object] | None = None,
             broadcast: bool = True, ignore_queue: bool = False) -> None:
        """Emit an event. Never waits for a client. May be called from any thread, inside a request and outside.

        :param event: the event's name, a line of 1 to 256 characters.
        :param args: JSON values and ``bytes``; one tuple stands for several arguments, one ``None`` for none.
        :param namespace: the namespace.
        :param to: a room, a ``sid``, or several; ``None`` and ``"/"`` mean everybody in the namespace.
        :param room: the same as ``to``.
        :param include_self: false to leave the client out whose event is being handled.
        :param skip_sid: a ``sid`` or several to leave out.
        :param callback: called with what a client acknowledges the event with. If the event was emitted by a handler,
            it runs in a request context of the client whose event that was, with its session.
        :param broadcast: means nothing.
        :param ignore_queue: means nothing.
        :raises EventError: for a name or payload that cannot be sent.
        """
        if not include_self and not skip_sid:
            skip_sid = flask.request.sid  # type: ignore[attr-defined]
        wrapped = callback and in_context_of_caller(callback, self.server.queue.current(), self.server.find)
        self.server.emit_args(event, args, to or room, skip_sid, namespace, wrapped)

    def send(self, data: Any, json: bool = False, namespace: str | None = None, to: Any = None,
             callback: Callable[..., object] | None = None, include_self: bool = True, skip_sid: Any = None,
             **kwargs: Any) -> None:
        """Emit the event ``message``, or ``json``; the other parameters are those of :meth:`emit`.

        :param data: the event's argument.
        :param json: true to emit ``json``.
        """
        if not include_self:
            skip_sid = flask.request.sid  # type: ignore[attr-defined]
        self.emit("json" if json else "message", data, namespace=namespace, to=to, skip_sid=skip_sid,
                  callback=callback, **kwargs)

    def call(self, event: str, *args: Any, namespace: str | None = "/", to: Any = None, room: Any = None,
             sid: str | None = None, timeout: float | None = 60, ignore_queue: bool = False) -> Any:
        """Emit an event to one client and wait until it acknowledges it. The others are those of :meth:`emit`.

        :param to: the client's ``sid``.
        :param sid: the same as ``to``.
        :param timeout: how long to wait, in seconds; ``None`` waits for ever.
        :return: ``None``, the value, or a tuple of the values that the client answered with.
        :raises TimeoutError: if it does not answer in time, or is not there at all.
        :raises ValueError: if nobody is named.
        :raises EventError: inside a request, where a thread of the host would wait for somebody else's browser; unless
            ``HYBRID_ALLOW_BLOCKING_CALL`` says so.
        """
        return self.server.call(event, args[0] if len(args) == 1 else args or None, to or room or None, sid, namespace,
                                timeout)

    def close_room(self, room: Hashable, namespace: str | None = None) -> None:
        """Take everybody out of a room; see :meth:`.Server.close_room`."""
        self.server.close_room(room, namespace)

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, app: Flask | None = None, host: str | None = None, port: int | None = None, *,
            debug: bool | None = None, use_reloader: bool | None = None, log_output: bool | None = None,
            extra_files: Any = None, reloader_options: dict[str, Any] | None = None, certfile: str | None = None,
            keyfile: str | None = None, ssl_context: Any = None, **kwargs: Any) -> None:
        """Serve the app until Ctrl-C, SIGTERM (CTRL_BREAK on Windows) or :meth:`stop`.

        A handler that was set for such a signal is called first. What it raises is raised when the server has stopped.

        :param app: by default the app of this object.
        :param host: a name or address, default ``127.0.0.1``; ``localhost`` listens on every loopback address the
            name resolves to, ``::`` on ``0.0.0.0`` as well.
        :param port: default the one in ``SERVER_NAME``, else 5000; 0 for any free one.
        :param debug: true for Flask's debug mode with Werkzeug's debugger; by default what the app says.
        :param use_reloader: true to restart when code changes; follows ``debug`` unless given.
        :param log_output: log every request to the logger ``hakgal_hybrid.access``; follows ``debug`` unless given.
        :param extra_files: more files that the reloader watches.
        :param reloader_options: keywords for Werkzeug's ``run_with_reloader``.
        :param certfile: path of a certificate chain (PEM), for TLS.
        :param keyfile: path of its key.
        :param ssl_context: in place of both, a pair of them or a :class:`gevent.ssl.SSLContext`.
        :param kwargs: ``reuse_port=True`` shares the port with other processes. Options of other servers are ignored.
        :raises ConfigurationError: if the address cannot be listened on or an option cannot be honoured.
        """
        state = self.apps.of_app(app) or self.apps.current()
        self._runner.run(state, state.app if app is None else app, (host, port), debug=debug,
                         use_reloader=use_reloader, log_output=log_output, extra_files=extra_files,
                         reloader_options=reloader_options, tls=(certfile, keyfile, ssl_context), others=kwargs)

    def stop(self) -> None:
        """End :meth:`run`. May be called from any thread."""
        self._runner.stop()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Run a function in a daemon thread; return the thread. See :meth:`.Server.start_background_task`."""
        return self.server.start_background_task(target, *args, **kwargs)

    def sleep(self, seconds: float = 0) -> None:
        """Sleep in the calling thread; everybody else goes on."""
        self.server.sleep(seconds)

    def test_client(self, app: Flask, namespace: str | None = None, query_string: str | None = None,
                    headers: Any = None, auth: Any = None, flask_test_client: Any = None) -> SocketIOTestClient:
        """Return a client for tests, connected; see :class:`.SocketIOTestClient`."""
        return SocketIOTestClient(app, self, namespace=namespace, query_string=query_string, headers=headers,
                                  auth=auth, flask_test_client=flask_test_client)

    def _handle_event(self, handler: Any, message: str | None, namespace: str, sid: str, *args: Any) -> Any:
        """Run one function as a client: what class-based namespaces call, Flask-SocketIO's own too."""
        if namespace == "*":  # a class for all of them gets the namespace before the sid
            namespace, sid, args = sid, args[0], args[1:]
        client = self.server.find(sid, namespace)
        if client is None:
            return "", 400
        state = self.apps.current()
        return state.handlers.run(state.app, client, handler, message, args)
