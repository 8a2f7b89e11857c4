"""SocketIO: what a host wrote against Flask-SocketIO sees."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import flask
from flask import Flask

from ..errors import ConfigurationError, EventError
from ..extension import KEY, HybridTransport

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: Constructor keywords of Flask-SocketIO that would need a part this version does not have.
_NEEDS_MORE = ("message_queue",)
#: Keywords of ``run`` that other servers need and ours has no use for.
_MEANINGLESS = ("allow_unsafe_werkzeug", "socket_timeout", "max_size", "debug_exceptions", "keepalive", "server_side",
                "suppress_ragged_eofs", "do_handshake_on_connect")


class Rooms:
    """What ``socketio.server`` is used for: rooms, and ending a client's stream."""

    def __init__(self, transport: HybridTransport) -> None:
        self._transport = transport

    def enter_room(self, sid: str, room: Hashable, namespace: str | None = None) -> None:
        """Put a client into a room; it gets what is emitted there from now on."""
        self._transport.hub.enter_room(sid, room)

    def leave_room(self, sid: str, room: Hashable, namespace: str | None = None) -> None:
        """Take a client out of a room; it still gets what was emitted there before."""
        self._transport.hub.leave_room(sid, room)

    def close_room(self, room: Hashable, namespace: str | None = None) -> None:
        """Take everybody out of a room."""
        self._transport.hub.close_room(room, namespace or "/")

    def rooms(self, sid: str, namespace: str | None = None) -> list[Hashable]:
        """Return the rooms a client is in, its own among them; none for a client that is not connected."""
        client = self._transport.hub.client(sid)
        return [] if client is None else client.rooms()

    def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """End a client's stream."""
        self._transport.hub.end(sid)


class SocketIO:
    """Flask-SocketIO's class, over Server-Sent Events and HTTP POST.

    :param app: the Flask app, or ``None`` to call :meth:`init_app` later; handlers may be registered before.
    :param kwargs: every keyword of Flask-SocketIO is accepted. Those about WebSockets, Engine.IO and asynchronous
        modes (``async_mode``, ``ping_timeout``, ``cors_allowed_origins``, …) mean nothing here and are ignored;
        origins are allowed by ``HYBRID_ORIGINS`` alone.
    :raises ConfigurationError: for ``message_queue``, which this version cannot honour.
    """

    def __init__(self, app: Flask | None = None, **kwargs: Any) -> None:
        self._bind(HybridTransport())
        self._options = kwargs
        if app is not None:
            self.init_app(app)

    @classmethod
    def over(cls, transport: HybridTransport) -> SocketIO:
        """Return the face of a transport that exists already."""
        face = cls.__new__(cls)
        face._bind(transport)
        face._options = {}
        transport.app.extensions["socketio"] = face
        return face

    def _bind(self, transport: HybridTransport) -> None:
        self.transport = transport
        self.handlers = transport.handlers
        self.server = Rooms(transport)
        self._running: Any = None

    def init_app(self, app: Flask, **kwargs: Any) -> None:
        """Serve ``app``; takes the keywords of the constructor."""
        self._options.update(kwargs)
        for name in _NEEDS_MORE:
            if self._options.get(name) is not None:
                raise ConfigurationError.bad_value(name, self._options[name], "None: this version serves one process")
        if self.transport._app is not None and self.transport._app is not app:
            # As with Flask-SocketIO: one object, an app made anew by its factory, the same handlers.
            fresh = HybridTransport()
            fresh.handlers.update(self.handlers)
            self._bind(fresh)
        existing = app.extensions.get(KEY)
        if existing is None:
            self.transport.init_app(app)
        else:
            existing.handlers.update(self.handlers)
            self._bind(existing)
        self.transport._socketio = self
        app.extensions["socketio"] = self

    @property
    def async_mode(self) -> str:
        """Always ``threading``: handlers and background tasks run in native threads."""
        return "threading"

    # -- handlers --------------------------------------------------------------------------------------------

    def on(self, message: str, namespace: str | None = None) -> Callable[[F], F]:
        """Register a handler: ``@socketio.on("message")``. The last one for an event wins."""

        def decorator(handler: F) -> F:
            self.handlers.register(message, handler, namespace or "/")
            return handler

        return decorator

    # -- events ----------------------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any, namespace: str | None = None, to: Any = None, room: Any = None,
             include_self: bool = True, skip_sid: Any = None, broadcast: bool = True, callback: Any = None,
             ignore_queue: bool = False) -> None:
        """Emit an event; may be called from any thread, inside a request or outside. Never waits for a client.

        :param args: JSON values and ``bytes``; one tuple stands for several arguments.
        :param to: (or ``room``) a room, a ``sid``, or several; ``None`` and ``"/"`` mean everybody in the namespace.
        :param include_self: false to leave the client out whose event is being handled.
        :param skip_sid: a ``sid`` or several to leave out.
        :raises EventError: for a name or payload that cannot be sent, or a ``callback``, which this version has not.
        """
        if callback is not None:
            raise EventError(f"event {event!r}: callbacks (acknowledgements by clients) are not available in this "
                             "version", code="no_callback")
        if not include_self and not skip_sid:
            skip_sid = flask.request.sid  # type: ignore[attr-defined]
        if len(args) == 1 and isinstance(args[0], tuple):
            args = args[0]
        self.transport.emit(event, *args, to=to or room, namespace=namespace, skip_sid=skip_sid)

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, app: Flask | None = None, host: str | None = None, port: int | None = None, *,
            debug: bool | None = None, use_reloader: bool | None = None, log_output: bool | None = None,
            extra_files: Any = None, reloader_options: dict[str, Any] | None = None, certfile: str | None = None,
            keyfile: str | None = None, ssl_context: Any = None, **kwargs: Any) -> None:
        """Serve the app until Ctrl-C, SIGTERM (CTRL_BREAK on Windows) or :meth:`stop`.

        :param host: a name or address, default ``127.0.0.1``; ``localhost`` listens on every loopback address the
            name resolves to.
        :param port: default the one in ``SERVER_NAME``, else 5000; 0 for any free one.
        :param debug: Flask's debug mode with Werkzeug's debugger; ``use_reloader`` follows it unless given.
        :param log_output: log every request to the logger ``hakgal_hybrid.access``; follows ``debug`` unless given.
        :param certfile: certificate chain (PEM) for TLS, with its ``keyfile``; or an ``ssl_context``: a pair of both,
            or a :class:`gevent.ssl.SSLContext`.
        :param kwargs: options that only other servers have are ignored.
        :raises ConfigurationError: if the address cannot be listened on or an option cannot be honoured.
        """
        from ..host import refuse_patched_process  # below us: only a server needs it

        transport = self.transport
        app = app if app is not None else transport.app
        for name in kwargs.keys() - set(_MEANINGLESS):
            logger.warning("run(%s=…) means nothing to this server and is ignored", name)
        debug = app.debug if debug is None else debug
        app.debug = debug
        transport.refuse_conflicts()
        refuse_patched_process()
        if host is None:
            host = "127.0.0.1"
        if port is None:
            name, _, number = (app.config["SERVER_NAME"] or "").rpartition(":")
            port = int(number) if name else 5000
        application = _with_debugger(app) if debug else app

        def serve() -> None:
            from ..serving.server import Server  # gevent is imported only where it serves

            self._running = Server(transport, application, host, port, log_output=debug if log_output is None
                                   else log_output, ssl_args=_ssl_arguments(certfile, keyfile, ssl_context))
            self._running.serve_forever()

        if debug if use_reloader is None else use_reloader:
            from werkzeug._reloader import run_with_reloader

            options = dict(reloader_options or {})
            if extra_files:
                options["extra_files"] = extra_files
            run_with_reloader(serve, **options)
        else:
            serve()

    def stop(self) -> None:
        """End :meth:`run`. May be called from any thread."""
        if self._running is not None:
            self._running.stop()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Run ``target`` in a daemon thread; return the thread, which is started."""
        thread = threading.Thread(target=target, args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def sleep(self, seconds: float = 0) -> None:
        """Sleep in the calling thread; everybody else goes on."""
        time.sleep(seconds)


def _with_debugger(app: Flask) -> Any:
    from werkzeug.debug import DebuggedApplication

    return DebuggedApplication(app, evalex=True)


def _ssl_arguments(certfile: str | None, keyfile: str | None, ssl_context: Any) -> dict[str, Any]:
    if ssl_context is None and certfile is None:
        return {}
    from gevent import ssl

    if isinstance(ssl_context, tuple):
        certfile, keyfile = ssl_context
    elif ssl_context is not None:
        if not isinstance(ssl_context, ssl.SSLContext):
            raise ConfigurationError.bad_value("ssl_context", ssl_context, "certfile= and keyfile=, a pair of both, or "
                                               "a gevent.ssl.SSLContext (the standard library's blocks the loop)")
        return {"ssl_context": ssl_context}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(certfile), keyfile)
    except OSError as error:
        raise ConfigurationError.bad_value("certfile", certfile, f"a certificate chain in PEM ({error})") from error
    return {"ssl_context": context}
