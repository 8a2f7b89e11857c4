"""Profile DUAL: the host's own ``SocketIO`` stays, and serves our clients as well.

Its class gets one of the mixins here in front: as the host's name for it is swapped, or on the finished object.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import flask
from flask import Flask

from ..errors import ConfigurationError
from ..logs import get_logger
from ..monitoring.patching import eventlet_patched, gevent_patched
from ..settings import Profile
from ..web.apps import Apps
from ..web.state import AppState
from ..web.transport import KEY, Transport
from .bridge import DualBridge, DualServer, Side
from .options import HONOURED, apply_options, prefix_of, warn_of_late_path
from .socketio import SocketIO

if TYPE_CHECKING:
    _SocketIO = Any
else:
    _SocketIO = object

logger = get_logger(__name__)

#: What is said of each ``SocketIO`` that was swapped, once it serves an app.
SWAPPED = "the SocketIO of app %r is swapped: its events leave by Server-Sent Events (APP_PROFILE=%s)"


def dual_class(original: type) -> type:
    """Return a subclass of a host's ``SocketIO`` whose objects serve our clients too."""
    mixin = DualSocketIO if _is_flask_socketio(original) else DualBroadcaster
    names = {"__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__}
    return type(original)(original.__name__, (mixin, original), names)


def serve_both(state: AppState) -> None:
    """Have the Flask-SocketIO object of an app serve both kinds of clients, now or when it is made."""
    app = state.app
    app.extensions = _Extensions(app.extensions, partial(_adopt, state))
    existing: Any = app.extensions.get("socketio")
    if _adopt(state, existing):
        existing.server = existing.server  # its clients and handlers are there already


def _adopt(state: AppState, socketio: Any) -> bool:
    """Make an object serve both from now on, if it is one of Flask-SocketIO's."""
    if not _is_flask_socketio(type(socketio)):
        return False
    if not isinstance(socketio, DualSocketIO):
        socketio.__class__ = dual_class(type(socketio))
    socketio._hybrid = state
    _unite(state, socketio)
    return True


def _unite(state: AppState, socketio: Any) -> None:
    state.facade = socketio
    state.mode = "dual"


def _state_of(app: Flask, options: Mapping[str, Any]) -> AppState:
    if KEY not in app.extensions:
        serve_both(Transport.over(Apps("HybridTransport").init_app(app, prefix_of(options))).state)
    state = Transport.of(app).state
    warn_of_late_path(options, state)
    if state.settings.profile is not Profile.DUAL:
        raise ConfigurationError.bad_value("HYBRID_PROFILE", state.settings.profile.value, "APP_PROFILE in the "
                                           "environment for a host whose SocketIO was swapped")
    return state


class _Extensions(dict[str, Any]):
    """The extensions of an app. A function is called with its ``SocketIO``, which may be made after the transport."""

    def __init__(self, values: Mapping[str, Any], on_socketio: Callable[[Any], object]) -> None:
        super().__init__(values)
        self._on_socketio = on_socketio

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if name == "socketio":
            self._on_socketio(value)


class DualSocketIO(_SocketIO):  # type: ignore[misc]
    """Mixin of Flask-SocketIO's ``SocketIO``. Its ``server`` chooses between the sides: see :class:`.DualServer`."""

    _hybrid: AppState | None = None

    def init_app(self, app: Flask | None, **kwargs: Any) -> None:
        """Serve ``app``, which gets a transport if it has none."""
        if app is not None:
            _state_of(app, {**self.server_options, **kwargs})
        wanted = kwargs.get("async_mode") or self.server_options.get("async_mode")
        if wanted == "eventlet" and importlib.util.find_spec("eventlet") is None:
            kwargs["async_mode"] = "threading"
        super().init_app(app, **kwargs)  # registers with the app's extensions, so ``_adopt`` runs; then sets ``server``
        if app is not None:
            logger.info(SWAPPED, app.import_name, Profile.DUAL.value)

    @property
    def server(self) -> Any:
        """Python-socketio's server, which knows of our clients too."""
        return self.__dict__.get("server")

    @server.setter
    def server(self, server: Any) -> None:
        self.__dict__["server"] = server
        if server is None or self._hybrid is None:
            return
        _avoid_blocking_mode(self, server)
        options = {name: self.server_options[name] for name in HONOURED & self.server_options.keys()}
        apply_options({**options, "manage_session": self.manage_session}, self._hybrid)
        early = [(space, *item) for space, functions in self._hybrid.handlers.functions.items()
                 for item in functions.items()]
        DualServer.take(server, self._hybrid)
        for namespace, event, handler in early:  # which a transport registered before this object was there
            self.on(event, namespace=namespace)(handler)
        self._hybrid.handlers.on_error = self.exception_handlers
        self._hybrid.handlers.on_any_error = self.default_exception_handler
        if self.server_options.get("message_queue"):
            logger.warning("message_queue: what other processes emit reaches Socket.IO clients only, not those of SSE")

    def on_error_default(self, exception_handler: Any) -> Any:
        """Register the function that gets the exceptions of handlers, on both sides."""
        super().on_error_default(exception_handler)
        if self._hybrid is not None:
            self._hybrid.handlers.on_any_error = exception_handler
        return exception_handler

    def _handle_event(self, handler: Any, message: str | None, namespace: str, sid: str, *args: Any) -> Any:
        """Run one function of the host for a client, by the rules of its side."""
        if self._hybrid is not None and self.server._bridge.owns(args[0] if namespace == "*" and args else sid):
            return self.server._bridge.facade._handle_event(handler, message, namespace, sid, *args)
        return super()._handle_event(handler, message, namespace, sid, *args)

    def run(self, app: Flask, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
        """Serve by the host's own server."""
        if self._hybrid is not None:
            self._hybrid.refuse_conflicts()
        mode = self.server.eio.async_mode
        if mode == "threading":
            kwargs = werkzeug_options(kwargs)
        elif mode == "eventlet":
            kwargs.setdefault("minimum_chunk_size", 1)  # eventlet would gather 16 KB of a stream before it sends any
        super().run(app, host, port, **kwargs)


class DualBroadcaster(_SocketIO):  # type: ignore[misc]
    """Mixin of a host's own ``SocketIO`` class, which has ``emit``, ``on`` and, for rooms, itself as its ``server``."""

    _bridge: DualBridge | None = None

    def __init__(self, app: Flask | None = None, *args: Any, **options: Any) -> None:
        if isinstance(app, Flask):
            state = _state_of(app, options)
            self._bridge = DualBridge(state, self._emit_there, lambda sid, namespace: False)
            _unite(state, self)
        super().__init__(app, *args, **options)

    def on(self, event: str, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Register a handler, for both."""
        register = super().on(event, *args, **kwargs)
        namespace = (args[0] if args else kwargs.get("namespace")) or "/"

        def decorator(handler: Any) -> Any:
            if self._bridge is not None:
                self._bridge.state.handlers.register(event, handler, namespace)
            return register(handler)

        return decorator

    def emit(self, event: str, *args: Any, **kwargs: Any) -> Any:
        """Emit to the clients of both; to a ``sid`` of ours, to us only."""
        if self._bridge is None:
            return super().emit(event, *args, **kwargs)
        to, skip, namespace = kwargs.get("to") or kwargs.get("room"), kwargs.get("skip_sid"), kwargs.get("namespace")
        if not kwargs.get("include_self", True) and not skip:
            skip = flask.request.sid  # type: ignore[attr-defined]
        side = self._bridge.side_of(to, namespace)
        try:
            return None if side is Side.OURS else super().emit(event, *args, **kwargs)
        finally:
            data = args[0] if len(args) == 1 else args or None
            self._bridge.emit_here(event, data, to, skip, namespace, kwargs.get("callback"))

    def _emit_there(self, event: str, data: Any, to: Any, skip: Any, namespace: str, callback: Any) -> None:
        given = {"to": to, "skip_sid": skip, "namespace": None if namespace == "/" else namespace, "callback": callback}
        args = data if isinstance(data, tuple) else () if data is None else (data,)
        super().emit(event, *args, **{name: value for name, value in given.items() if value is not None})

    def enter_room(self, sid: str, room: Any, *args: Any, **kwargs: Any) -> None:
        """Put a client into a room of its side."""
        self._side(sid).enter_room(sid, room, *args, **kwargs)

    def leave_room(self, sid: str, room: Any, *args: Any, **kwargs: Any) -> None:
        """Take a client out of a room of its side."""
        self._side(sid).leave_room(sid, room, *args, **kwargs)

    def _side(self, sid: object) -> Any:
        return self._bridge.facade.server if self._bridge is not None and self._bridge.owns(sid) else super()


class EventletSocketIO(SocketIO):
    """Our facade, for a host without a WebSocket whose process eventlet may have patched: gevent cannot serve there."""

    def run(self, app: Flask | None = None, host: str | None = None, port: int | None = None,
            **options: Any) -> None:
        """Serve by eventlet where it has patched the process, otherwise by our own server; see :meth:`.SocketIO.run`.

        :raises ConfigurationError: under eventlet, for TLS and the reloader.
        """
        if not eventlet_patched("thread"):
            super().run(app, host, port, **options)  # which refuses a process that is patched in part
            return
        for name in ("certfile", "keyfile", "ssl_context", "use_reloader"):
            if options.get(name):
                raise ConfigurationError.bad_value(name, options[name], "APP_PROFILE=HYBRID: here eventlet serves")
        import eventlet
        import eventlet.wsgi

        state = self.apps.of_app(app) or self.apps.current()
        app = state.app if app is None else app
        app.debug = bool(options.get("debug", app.debug))
        state.refuse_conflicts()
        _, _, number = (app.config["SERVER_NAME"] or "").rpartition(":")
        listener = eventlet.listen((host or "127.0.0.1", int(number or 5000) if port is None else port))
        eventlet.wsgi.server(listener, app, log_output=bool(options.get("log_output", app.debug)),
                             minimum_chunk_size=1)


def werkzeug_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of ``run`` that Werkzeug's server takes, and that it may serve."""
    from werkzeug.serving import run_simple

    known = {"debug", "use_reloader", "log_output", "reloader_options", "extra_files",
             *inspect.signature(run_simple).parameters}
    return {**{name: value for name, value in options.items() if name in known}, "allow_unsafe_werkzeug": True}


def _avoid_blocking_mode(socketio: Any, server: Any) -> None:
    """Have native threads serve where one waiting stream would hold up all: under a hub that has patched nothing.

    (Engine.IO takes eventlet or gevent, if it is installed, unless ``async_mode`` is given.)
    """
    mode = server.async_mode
    if mode not in ("eventlet", "gevent") or (eventlet_patched("thread") if mode == "eventlet" else gevent_patched()):
        return
    logger.info("async_mode=%r has not patched this process, where a waiting stream would block everybody; "
                "'threading' is used instead", mode)
    server.eio._async = importlib.import_module("engineio.async_drivers.threading")._async
    server.eio.async_mode = server.async_mode = socketio.async_mode = "threading"


def _is_flask_socketio(cls: type) -> bool:
    # Not isinstance: a facade says that it is one, and what the module calls SocketIO may be swapped just now.
    return any(base.__name__ == "SocketIO" and base.__module__ == "flask_socketio" for base in cls.__mro__)
