"""Class-based namespaces: all handlers of a namespace in one class."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any

from .server import Server
from .socketio import SocketIO


class Namespace:
    """Base of classes whose methods ``on_connect``, ``on_disconnect``, ``on_<event>`` handle what comes.

    Register an instance by :meth:`.SocketIO.on_namespace`. A function that is registered for the same event comes
    first. A method ``error``, if the class has one, gets the exceptions of the handlers that ``on_error`` did not.

    :param namespace: default ``/``; ``"*"`` for every namespace that has no handlers of its own.
    :ivar socketio: the :class:`.SocketIO` it is registered with; ``server``: its ``server``.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self.namespace = namespace or "/"
        # Set as it is registered.
        self.server: Server = None  # type: ignore[assignment]
        self.socketio: SocketIO = None  # type: ignore[assignment]

    def _set_server(self, server: Server) -> None:
        self.server = server

    def _set_socketio(self, socketio: SocketIO) -> None:
        self.socketio = socketio

    def is_asyncio_based(self) -> bool:
        """Return false: handlers are ordinary methods."""
        return False

    def trigger_event(self, event: str, *args: Any) -> Any:
        """Handle an event: call the method for it, if there is one. May be overridden.

        :param event: the event's name.
        :param args: the ``sid``, then the arguments; for ``connect`` the WSGI environment and the client's auth, for
            ``disconnect`` the reason. In a class for all namespaces, the namespace comes before the ``sid``.
        """
        handler = getattr(self, "on_" + (event or ""), None)
        if handler is None:
            return None
        try:
            return self.socketio._handle_event(handler, event, self.namespace, *args)
        except Exception as error:
            if not hasattr(self, "error"):
                raise
            return self.error(error)

    def emit(self, event: str, data: Any = None, room: Any = None, include_self: bool = True,
             namespace: str | None = None, callback: Callable[..., object] | None = None) -> None:
        """Emit an event in this namespace; see :meth:`.SocketIO.emit`.

        :param event: the event's name.
        :param data: JSON values and ``bytes``; a tuple stands for several arguments, ``None`` for none.
        :param room: a room, a ``sid``, or several; by default everybody in the namespace.
        :param include_self: false to leave the client out whose event is being handled.
        :param namespace: by default the one of this class.
        :param callback: called with what a client acknowledges the event with.
        """
        self.socketio.emit(event, data, room=room, include_self=include_self, namespace=namespace or self.namespace,
                           callback=callback)

    def send(self, data: Any, room: Any = None, include_self: bool = True, namespace: str | None = None,
             callback: Callable[..., object] | None = None) -> None:
        """Emit the event ``message`` in this namespace.

        :param data: the event's argument.
        :param room: a room, a ``sid``, or several; by default everybody in the namespace.
        :param include_self: false to leave the client out whose event is being handled.
        :param namespace: by default the one of this class.
        :param callback: called with what a client acknowledges the event with.
        """
        self.socketio.send(data, room=room, include_self=include_self, namespace=namespace or self.namespace,
                           callback=callback)

    def call(self, event: str, data: Any = None, to: Any = None, sid: str | None = None, namespace: str | None = None,
             timeout: float | None = None, ignore_queue: bool = False) -> Any:
        """Emit an event to one client and wait for its answer, by default for ever; see :meth:`.SocketIO.call`.

        :param event: the event's name.
        :param data: JSON values and ``bytes``; a tuple stands for several arguments, ``None`` for none.
        :param to: the client's ``sid``.
        :param sid: the same as ``to``.
        :param namespace: by default the one of this class.
        :param timeout: how long to wait, in seconds; ``None`` waits for ever.
        :param ignore_queue: means nothing.
        """
        return self.server.call(event, data, to, sid, namespace or self.namespace, timeout)

    def enter_room(self, sid: str, room: Hashable, namespace: str | None = None) -> None:
        """Put a client into a room; see :meth:`.Server.enter_room`.

        :param sid: the client's ``sid``.
        :param room: the room.
        :param namespace: by default the one of this class.
        """
        self.server.enter_room(sid, room, namespace or self.namespace)

    def leave_room(self, sid: str, room: Hashable, namespace: str | None = None) -> None:
        """Take a client out of a room.

        :param sid: the client's ``sid``.
        :param room: the room.
        :param namespace: by default the one of this class.
        """
        self.server.leave_room(sid, room, namespace or self.namespace)

    def close_room(self, room: Hashable, namespace: str | None = None) -> None:
        """Take everybody out of a room.

        :param room: the room.
        :param namespace: by default the one of this class.
        """
        self.socketio.close_room(room, namespace or self.namespace)

    def rooms(self, sid: str, namespace: str | None = None) -> list[Hashable]:
        """Return the rooms a client is in, its own among them.

        :param sid: the client's ``sid``.
        :param namespace: by default the one of this class.
        """
        return self.server.rooms(sid, namespace or self.namespace)

    def get_session(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """Return what was kept for a client; see :meth:`.Server.get_session`.

        :param sid: the client's ``sid``.
        :param namespace: by default the one of this class.
        """
        return self.server.get_session(sid, namespace or self.namespace)

    def save_session(self, sid: str, session: dict[str, Any], namespace: str | None = None) -> None:
        """Keep a dict for a client.

        :param sid: the client's ``sid``.
        :param session: the dict.
        :param namespace: by default the one of this class.
        """
        self.server.save_session(sid, session, namespace or self.namespace)

    def session(self, sid: str, namespace: str | None = None) -> AbstractContextManager[dict[str, Any]]:
        """Give what was kept for a client, and keep it again with what was changed meanwhile.

        :param sid: the client's ``sid``.
        :param namespace: by default the one of this class.
        """
        return self.server.session(sid, namespace or self.namespace)

    def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """End a client.

        :param sid: the client's ``sid``.
        :param namespace: by default the one of this class.
        """
        self.server.disconnect(sid, namespace or self.namespace)
