"""Which of two sides an event, a room or a ``sid`` belongs to, where a host's own clients and ours are one audience."""

from __future__ import annotations

import enum
import json
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..broker.event import Event, Target
from ..broker.payload import restore_binary
from ..commands.acks import Callback
from ..commands.invocation import serving
from ..commands.worker import Worker
from ..errors import EventError
from ..logs import get_logger
from ..web.apps import Apps
from ..web.state import AppState
from .server import unfolded
from .socketio import SocketIO

if TYPE_CHECKING:
    _Server = Any
else:
    _Server = object

logger = get_logger(__name__)

#: How many events of the transport may wait to be sent to the host's own clients.
LIMIT = 100_000


class Side(enum.Enum):
    """Who an event is for: clients of ours, of the host's own server, or of both."""

    OURS = "ours"
    THEIRS = "theirs"
    BOTH = "both"


class DualBridge:
    """What an app has of us and the host's own server, each with its clients, rooms and acknowledgements.

    :param state: what the app has.
    :param send: emits to the host's own clients: ``(event, data, to, skip, namespace, callback)``.
    :param knows: true for a ``sid`` of theirs in a namespace.
    :ivar facade: our side, with the interface of Flask-SocketIO.
    :ivar unsent: how many events could not be passed on, in either direction.
    """

    def __init__(self, state: AppState, send: Callable[..., object], knows: Callable[[str, str], bool]) -> None:
        self.state = state
        self.facade = SocketIO.over(Apps.of(state))  # the app's SocketIO stays the host's
        self.unsent = 0
        self._send, self._knows = send, knows
        # A worker of its own: whatever holds up the host's server must not hold up our disconnect handlers.
        self._worker = Worker("hakgal-hybrid-dual", LIMIT)
        self._lock = threading.RLock()  # a signal handler may emit while its thread is in here
        state.node.publisher.mirror = self

    def owns(self, sid: object) -> bool:
        """True for the ``sid`` of a client of ours, or of the one that is being served in this thread."""
        current = serving()
        return self.state.hub.client(sid) is not None or (current is not None and current.client.sid == sid)

    def side_of(self, to: object, namespace: str | None) -> Side:
        """Return whose a room is: a ``sid`` is one side's, any other room (or several, or none) may be both's."""
        if isinstance(to, str):
            if self.owns(to):
                return Side.OURS
            if self._knows(to, namespace or "/"):
                return Side.THEIRS
        return Side.BOTH

    def emit_here(self, event: str, data: Any, to: Any, skip: Any, namespace: str | None,
                  callback: Callback | None) -> None:
        """Emit to our clients what the host emits. Never raises: its own clients must not miss what ours cannot get."""
        try:
            target = Target.create(namespace, to or None, skip or None)
            self.state.node.publisher.send_here(event, unfolded((data,)), target, callback or None)
        except EventError as error:
            self._not_sent("event %r does not leave by SSE: %s", event, error.detail)
        except Exception:
            self._not_sent("event %r does not leave by SSE", event, exc_info=True)

    def mirror(self, event: Event, callback: Callback | None) -> None:
        """Pass an event of the transport on to the host's own clients, in a thread of its own."""
        rooms = event.target.rooms
        if rooms is not None and all(self.side_of(room, event.target.namespace) is Side.OURS for room in rooms):
            return
        if not self._worker.submit(partial(self._emit_there, event, callback)):
            self._not_sent("event %r does not reach the host's own clients: too many are waiting", event.name)

    def _emit_there(self, event: Event, callback: Callback | None) -> None:
        target = event.target
        try:
            args = restore_binary(json.loads(event.args_text))  # what it was when it was emitted
            self._send(event.name, args[0] if len(args) == 1 else tuple(args) or None, _rooms(target.rooms),
                       list(target.skip) or None, target.namespace, callback)
        except Exception:
            self._not_sent("event %r does not reach the host's own clients", event.name, exc_info=True)

    def _not_sent(self, text: str, *values: object, exc_info: bool = False) -> None:
        with self._lock:
            self.unsent += 1
        logger.error(text, *values, exc_info=exc_info)


class DualServer(_Server):  # type: ignore[misc]
    """Mixin of python-socketio's ``Server``: calls with a ``sid`` of ours go to our side.

    Everything else is the server's own, so that Flask-SocketIO's middleware, namespaces and test client work on it.
    """

    _bridge: DualBridge

    @classmethod
    def take(cls, server: Any, state: AppState) -> DualBridge:
        """Make ``server`` a routed one, by changing its class, and give what is registered with it to an app."""
        if not isinstance(server, cls):
            original = type(server)
            server.__class__ = type(original.__name__, (cls, original), {"__module__": original.__module__})
        server._bridge = bridge = DualBridge(state, server._emit_there, server._is_there)
        for namespace, handlers in server.handlers.items():
            for event, handler in handlers.items():
                server._share(event, handler, namespace)
        state.handlers.classes.update(server.namespace_handlers)
        return bridge

    def _is_there(self, sid: str, namespace: str) -> bool:
        try:
            return self.manager.eio_sid_from_sid(sid, namespace) is not None
        except KeyError:  # the last one of this namespace is just leaving
            return False

    # -- what is registered ----------------------------------------------------------------------------------

    def on(self, event: str, handler: Callable[..., Any] | None = None, namespace: str | None = None) -> Any:
        """Register a handler; those of Flask-SocketIO serve our clients too."""
        if handler is None:
            return partial(self._on, event, namespace=namespace)
        super().on(event, handler, namespace)
        self._share(event, handler, namespace or "/")
        return None

    def _on(self, event: str, handler: Callable[..., Any], *, namespace: str | None) -> Callable[..., Any]:
        self.on(event, handler, namespace)
        return handler

    def _share(self, event: str, handler: Callable[..., Any], namespace: str) -> None:
        # Flask-SocketIO wraps what it registers here: it makes the request context, as ours does in its own way.
        if getattr(handler, "__globals__", {}).get("__name__") == "flask_socketio" and hasattr(handler, "__wrapped__"):
            self._bridge.state.handlers.register(event, handler.__wrapped__, namespace)

    def register_namespace(self, namespace_handler: Any) -> None:
        """Register a class-based namespace, for both."""
        super().register_namespace(namespace_handler)
        self._bridge.state.handlers.classes[namespace_handler.namespace] = namespace_handler

    # -- events ----------------------------------------------------------------------------------------------

    def emit(self, event: str, data: Any = None, to: Any = None, room: Any = None, skip_sid: Any = None,
             namespace: str | None = None, callback: Callback | None = None, **kwargs: Any) -> None:
        """Emit to the clients of both; to a ``sid``, to its side. The server's errors are the host's."""
        rooms = to or room
        side = self._bridge.side_of(rooms, namespace)
        try:
            if side is not Side.OURS:
                super().emit(event, data, to=None if _means_everybody(rooms) else rooms, skip_sid=skip_sid,
                             namespace=namespace, callback=callback, **kwargs)
        finally:
            if side is not Side.THEIRS:
                self._bridge.emit_here(event, data, rooms, skip_sid, namespace, callback)

    def _emit_there(self, event: str, data: Any, to: Any, skip: Any, namespace: str, callback: Callback | None) -> None:
        super().emit(event, data, to=to, skip_sid=skip, namespace=namespace, callback=callback)

    def call(self, event: str, data: Any = None, to: Any = None, sid: str | None = None, namespace: str | None = None,
             timeout: float | None = 60, **kwargs: Any) -> Any:
        """Emit to one client and wait for its answer, by the rules of the side it belongs to."""
        if self._bridge.side_of(to or sid, namespace) is Side.OURS:
            return self._bridge.facade.server.call(event, data, to, sid, namespace, timeout)
        return super().call(event, data, to=to, sid=sid, namespace=namespace, timeout=timeout, **kwargs)

    # -- clients and rooms -----------------------------------------------------------------------------------

    def _side(self, sid: object) -> Any:
        return self._bridge.facade.server if self._bridge.owns(sid) else super()

    def enter_room(self, sid: str, room: Any, namespace: str | None = None) -> None:
        """Put a client into a room of its side."""
        self._side(sid).enter_room(sid, room, namespace)

    def leave_room(self, sid: str, room: Any, namespace: str | None = None) -> None:
        """Take a client out of a room of its side."""
        self._side(sid).leave_room(sid, room, namespace)

    def close_room(self, room: Any, namespace: str | None = None) -> None:
        """Take everybody out of a room, on both sides."""
        try:
            super().close_room(room, namespace)
        finally:
            self._bridge.facade.server.close_room(room, namespace)

    def rooms(self, sid: str, namespace: str | None = None) -> list[Any]:
        """Return the rooms a client is in."""
        found: list[Any] = self._side(sid).rooms(sid, namespace)
        return found

    def get_session(self, sid: str, namespace: str | None = None) -> Any:
        """Return what was kept for a client."""
        return self._side(sid).get_session(sid, namespace)

    def save_session(self, sid: str, session: Any, namespace: str | None = None) -> None:
        """Keep a dict for a client."""
        self._side(sid).save_session(sid, session, namespace)

    def get_environ(self, sid: str, namespace: str | None = None) -> Any:
        """Return the WSGI environment of the request that opened a client."""
        return self._side(sid).get_environ(sid, namespace)

    def transport(self, sid: str, *args: Any, **kwargs: Any) -> Any:
        """Return how a client gets its events: ``sse``, ``websocket`` or ``polling``."""
        return self._side(sid).transport(sid, *args, **kwargs)

    def disconnect(self, sid: str, namespace: str | None = None, **kwargs: Any) -> None:
        """End a client."""
        self._side(sid).disconnect(sid, namespace, **kwargs)


def _means_everybody(rooms: Any) -> bool:
    """True for ``"/"``, which hosts emit to and mean everybody; python-socketio takes it for a room nobody is in."""
    return rooms == "/" or (isinstance(rooms, (list, tuple, set, frozenset)) and "/" in rooms)


def _rooms(rooms: frozenset[Any] | None) -> Any:
    """Return rooms as python-socketio takes them: one as itself, several as a list."""
    return None if rooms is None else next(iter(rooms)) if len(rooms) == 1 else list(rooms)
