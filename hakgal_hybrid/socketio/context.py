"""What a handler calls: each acts for the client whose event is being handled, by way of the app's ``SocketIO``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask

#: Stands for the namespace of the event that is being handled; ``None`` is the default namespace.
_OWN: Any = object()


def emit(event: str, *args: Any, namespace: str | None = _OWN, broadcast: bool = False, to: Any = None,
         room: Any = None, include_self: bool = True, skip_sid: Any = None,
         callback: Callable[..., object] | None = None, **ignored: Any) -> None:
    """Emit an event from inside a handler: by default to the client that is being served.

    :param event: the event's name.
    :param args: as of :meth:`.SocketIO.emit`.
    :param namespace: another namespace than the handler's.
    :param broadcast: send to everybody in the namespace instead.
    :param to: a room, a ``sid``, or several.
    :param room: the same as ``to``.
    :param include_self: false to leave out the client that is being served.
    :param skip_sid: a ``sid`` or several to leave out.
    :param callback: called, as the client that is being served, with what a client acknowledges the event with.
    :param ignored: other keywords mean nothing, as with Flask-SocketIO.
    """
    _socketio().emit(event, *args, namespace=_namespace_of(namespace), to=_recipients(to or room, broadcast),
                     include_self=include_self, skip_sid=skip_sid, callback=callback)


def send(message: Any, *, json: bool = False, namespace: str | None = _OWN, broadcast: bool = False, to: Any = None,
         room: Any = None, include_self: bool = True, skip_sid: Any = None,
         callback: Callable[..., object] | None = None, **ignored: Any) -> None:
    """Emit the event ``message``, or ``json``, from inside a handler; the keywords are those of :func:`emit`.

    :param message: the event's argument.
    :param json: true to emit ``json``.
    :param namespace: by default the handler's.
    :param broadcast: true for everybody in the namespace.
    :param to: a room, a ``sid``, or several; by default the client that is being served.
    :param room: the same as ``to``.
    :param include_self: false to leave the client out whose event is being handled.
    :param skip_sid: a ``sid`` or several to leave out.
    :param callback: called, as the client that is being served, with what a client acknowledges the event with.
    :param ignored: other keywords mean nothing, as with Flask-SocketIO.
    """
    _socketio().send(message, json=json, namespace=_namespace_of(namespace), to=_recipients(to or room, broadcast),
                     include_self=include_self, skip_sid=skip_sid, callback=callback)


def call(event: str, *args: Any, namespace: str | None = _OWN, to: Any = None, room: Any = None,
         timeout: float | None = 60, **ignored: Any) -> Any:
    """Emit an event to a client, by default the one that is being served, and wait until it acknowledges it.

    :param event: the event's name.
    :param args: as of :meth:`.SocketIO.emit`.
    :param namespace: by default the handler's.
    :param to: the client's ``sid``, by default that of the one that is being served.
    :param room: the same as ``to``.
    :param timeout: how long to wait, in seconds; ``None`` waits for ever.
    :param ignored: other keywords mean nothing, as with Flask-SocketIO.
    :raises EventError: because a handler runs inside a request, unless ``HYBRID_ALLOW_BLOCKING_CALL`` is true: it
        would hold a thread of the host until a client answers. Emit with a ``callback`` instead.
    """
    return _socketio().call(event, *args, namespace=_namespace_of(namespace), to=_recipients(to or room, False),
                            timeout=timeout)


def join_room(room: Any, sid: str | None = None, namespace: str | None = None) -> None:
    """Put the client into a room; it gets what is emitted there from now on.

    :param room: the room.
    :param sid: a ``sid``, by default that of the client that is being served.
    :param namespace: by default the handler's.
    """
    _socketio().server.enter_room(_sid(sid), room, namespace=_namespace(namespace))


def leave_room(room: Any, sid: str | None = None, namespace: str | None = None) -> None:
    """Take the client out of a room.

    :param room: the room.
    :param sid: a ``sid``, by default that of the client that is being served.
    :param namespace: by default the handler's.
    """
    _socketio().server.leave_room(_sid(sid), room, namespace=_namespace(namespace))


def close_room(room: Any, namespace: str | None = None) -> None:
    """Take everybody out of a room.

    :param room: the room.
    :param namespace: by default the handler's.
    """
    _socketio().server.close_room(room, namespace=_namespace(namespace))


def rooms(sid: str | None = None, namespace: str | None = None) -> list[Any]:
    """Return the rooms the client is in, its own among them.

    :param sid: a ``sid``, by default that of the client that is being served.
    :param namespace: by default the handler's.
    """
    found: list[Any] = _socketio().server.rooms(_sid(sid), namespace=_namespace(namespace))
    return found


def disconnect(sid: str | None = None, namespace: str | None = None, silent: bool = False) -> None:
    """End the client. Its ``disconnect`` handler has run when this returns; ``silent`` means nothing.

    :param sid: a ``sid``, by default that of the client that is being served.
    :param namespace: by default the handler's.
    :param silent: means nothing.
    """
    _socketio().server.disconnect(_sid(sid), namespace=_namespace(namespace))


def _socketio() -> Any:
    return flask.current_app.extensions["socketio"]


def _recipients(to: Any, broadcast: bool) -> Any:
    return to or (None if broadcast else _sid(None))


def _sid(sid: str | None) -> str:
    return sid or flask.request.sid  # type: ignore[attr-defined]


def _namespace_of(namespace: str | None) -> str | None:
    return _namespace(None) if namespace is _OWN else namespace


def _namespace(namespace: str | None) -> str:
    return namespace or flask.request.namespace  # type: ignore[attr-defined]
