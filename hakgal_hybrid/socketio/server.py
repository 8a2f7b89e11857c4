"""What hosts reach for as ``socketio.server``: events, rooms, sessions and clients by their ``sid``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

from ..broker.event import Target
from ..errors import EventError
from ..logs import printable
from .ack_wait import NotConnected, as_type_error, wait_for_answer
from .clients import ClientDirectory, absent
from .engine import Engine
from .manager import Manager
from .queueing import MessageQueue


class Reason:
    """Why a client is gone: the reason that a ``disconnect`` handler gets."""

    SERVER_DISCONNECT = "server disconnect"
    CLIENT_DISCONNECT = "client disconnect"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"


def unfolded(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments that Flask-SocketIO means by what was emitted.

    :param args: what was emitted; a tuple as the only one stands for several arguments, ``None`` for none.
    :return: the arguments of the event.
    """
    if len(args) != 1:
        return args
    (data,) = args
    return data if isinstance(data, tuple) else () if data is None else args


class Server(ClientDirectory):
    """The part of python-socketio's ``Server`` that makes sense over Server-Sent Events.

    :param queue: says which app is meant, and emits where there is none.
    :ivar queue: the same.
    :ivar manager: says who is there, and in which rooms.
    :ivar eio: says how clients of Engine.IO are served.
    """

    reason = Reason
    async_mode = "threading"

    def __init__(self, queue: MessageQueue) -> None:
        super().__init__(queue.current)
        self.queue = queue
        self.manager = Manager(self)
        self.eio = Engine(queue.current)

    # -- events ----------------------------------------------------------------------------------------------

    def emit(self, event: str, data: Any = None, to: Any = None, room: Any = None, skip_sid: Any = None,
             namespace: str | None = None, callback: Callable[..., object] | None = None,
             ignore_queue: bool = False) -> None:
        """Emit an event to everybody in a namespace, or to a room or ``sid`` (or several).

        :param event: the event's name.
        :param data: JSON values and ``bytes``; a tuple stands for several arguments, ``None`` for none.
        :param to: a room, a ``sid``, or several; by default everybody in the namespace.
        :param room: the same as ``to``.
        :param skip_sid: a ``sid`` or several to leave out.
        :param namespace: default ``/``.
        :param callback: called with what a client acknowledges the event with.
        :param ignore_queue: means nothing.
        """
        self.emit_args(event, (data,), to or room, skip_sid, namespace, callback)

    def emit_args(self, event: str, args: tuple[Any, ...], to: Any, skip_sid: Any, namespace: str | None,
                  callback: Callable[..., object] | None) -> None:
        """Emit an event whose arguments are given as ``SocketIO.emit`` takes them.

        :param event: the event's name.
        :param args: the arguments; a tuple as the only one stands for several, ``None`` as the only one for none.
        :param to: a room, a ``sid``, or several; what is false means everybody in the namespace.
        :param skip_sid: a ``sid`` or several to leave out.
        :param namespace: the namespace.
        :param callback: called with what a client acknowledges the event with.
        :raises EventError: for a name or payload that cannot be sent; it is a ``TypeError`` as well.
        """
        if self.queue.wanted and self.queue.emit(event, unfolded(args), to or None, skip_sid or None, namespace,
                                                 callback=bool(callback)):
            return
        state = self._current()
        if state.handlers.log is not None:
            self._log('emitting event "%s" to %s [%s]', event, to or "all", namespace or "/")
        try:
            target = Target.create(namespace, to or None, skip_sid or None)
            state.node.publisher.send(event, unfolded(args), target, callback or None)
        except EventError as error:
            raise as_type_error(error) from error.__cause__

    def send(self, data: Any, to: Any = None, room: Any = None, skip_sid: Any = None, namespace: str | None = None,
             callback: Callable[..., object] | None = None, ignore_queue: bool = False) -> None:
        """Emit the event ``message``.

        :param data: the event's argument.
        :param to: a room, a ``sid``, or several; by default everybody in the namespace.
        :param room: the same as ``to``.
        :param skip_sid: a ``sid`` or several to leave out.
        :param namespace: default ``/``.
        :param callback: called with what a client acknowledges the event with.
        :param ignore_queue: means nothing.
        """
        self.emit("message", data, to, room, skip_sid, namespace, callback)

    def call(self, event: str, data: Any = None, to: Any = None, sid: str | None = None, namespace: str | None = None,
             timeout: float | None = 60, ignore_queue: bool = False) -> Any:
        """Emit an event to one client and wait for its answer; see :meth:`.SocketIO.call`.

        :param event: the event's name.
        :param data: JSON values and ``bytes``; a tuple stands for several arguments, ``None`` for none.
        :param to: the client's ``sid``.
        :param sid: the same as ``to``.
        :param namespace: default ``/``.
        :param timeout: how long to wait, in seconds; ``None`` waits for ever.
        :param ignore_queue: means nothing.
        """
        if to is None and sid is None:
            raise ValueError(f"call({event!r}) needs to= or sid=: it waits for one client's answer")
        return wait_for_answer(
            self._current(), event,
            lambda callback: self.emit(event, data, to or sid, namespace=namespace, callback=callback), timeout)

    # -- rooms -----------------------------------------------------------------------------------------------

    def enter_room(self, sid: str, room: Hashable, namespace: str | None = None) -> None:
        """Put a client into a room; it gets what is emitted there from now on.

        :param sid: the client's ``sid``.
        :param room: the room.
        :param namespace: its namespace, by default ``/``.
        :raises ValueError: if it is not connected (then also a ``KeyError``), or the room is another client's own. With
            a backplane, one that is not connected here may be elsewhere: then that process is asked.
        :raises AccessDenied: if the function that authorizes does not allow it.
        :raises Overloaded: if the client is in ``HYBRID_MAX_ROOMS`` already.
        """
        client, state = self.find(sid, namespace), self._current()
        if client is not None:
            if room != sid and self._is_own_room(room, namespace):
                raise ValueError(f"cannot enter a sid room: {room!r} is another client's own")
            state.node.lifecycle.may_join(client, room)
            self._log("%s is entering room %s [%s]", sid, room, namespace or "/")
            if self.is_here(client):
                state.hub.enter_room(sid, room)
                return
        if not state.hub.broker.elsewhere("enter_room", sid=sid, room=room, namespace=namespace or "/"):
            raise NotConnected(sid, namespace)

    def leave_room(self, sid: str, room: Hashable, namespace: str | None = None) -> None:
        """Take a client out of a room; it still gets what was emitted there before.

        :param sid: the client's ``sid``.
        :param room: the room.
        :param namespace: its namespace, by default ``/``.
        """
        self._log("%s is leaving room %s [%s]", sid, room, namespace or "/")
        hub, client = self._current().hub, self.find(sid, namespace)
        if client is not None and self.is_here(client):
            hub.leave_room(sid, room)
        else:
            hub.broker.elsewhere("leave_room", sid=sid, room=room, namespace=namespace or "/")

    def close_room(self, room: Hashable, namespace: str | None = None) -> None:
        """Take everybody out of a room.

        :param room: the room.
        :param namespace: the room's namespace, by default ``/``.
        :raises ValueError: if the room is a client's own.
        """
        if self._is_own_room(room, namespace):
            raise ValueError(f"cannot close a sid room: {room!r} is a client's own")
        self._log("room %s is closing [%s]", room, namespace or "/")
        hub = self._current().hub
        if not hub.broker.elsewhere("close_room", room=room, namespace=namespace or "/"):
            hub.close_room(room, namespace or "/")

    def rooms(self, sid: str, namespace: str | None = None) -> list[Hashable]:
        """Return the rooms a client is in, its own among them; none for a client that is not connected.

        :param sid: the client's ``sid``.
        :param namespace: its namespace, by default ``/``.
        """
        return self.manager.get_rooms(sid, namespace or "/")

    def _is_own_room(self, room: Hashable, namespace: str | None) -> bool:
        client = self._current().hub.client(room)
        return client is not None and client.namespace == (namespace or "/")

    def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """End a client. Its ``disconnect`` handler has run when this returns.

        Nothing happens to one that is not connected, or whose ``connect`` handler is still running.

        :param sid: the client's ``sid``.
        :param namespace: its namespace, by default ``/``.
        :param ignore_queue: means nothing.
        """
        client = self.find(sid, namespace)
        if client is None or not self.is_here(client):
            self._current().hub.broker.elsewhere("disconnect", sid=sid, namespace=namespace or "/")
        elif self.manager.is_connected(sid, client.namespace):
            self._log("Disconnecting %s [%s]", sid, client.namespace)
            self._current().node.lifecycle.end_client(client, Reason.SERVER_DISCONNECT, wait=True)

    # -- background tasks ------------------------------------------------------------------------------------

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Run ``target`` in a daemon thread; return the thread, which is started.

        :param target: the function.
        :param args: its arguments.
        :param kwargs: its keywords.
        """
        thread = threading.Thread(target=target, args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def sleep(self, seconds: float = 0) -> None:
        """Sleep in the calling thread; everybody else goes on.

        :param seconds: for how long.
        """
        time.sleep(seconds)

    def _log(self, text: str, *values: object) -> None:
        log = self._current().handlers.log
        if log is not None:
            log.info(text, *map(printable, values))

    def __getattr__(self, name: str) -> NoReturn:
        raise absent("socketio.server", name)
