"""What a handler calls: each acts for the client whose event is being handled, by way of the app's ``SocketIO``."""

from __future__ import annotations

from typing import Any

import flask


def emit(event: str, *args: Any, **kwargs: Any) -> None:
    """Emit an event from inside a handler: to the client that is being served, unless told otherwise.

    :param broadcast: send to everybody in the namespace instead.
    :param to: (or ``room``) a room, a ``sid``, or several.
    :param include_self: false to leave the caller out; ``skip_sid``: one ``sid`` or several to leave out.
    :param namespace: another namespace than the handler's.
    """
    kwargs.setdefault("namespace", flask.request.namespace)  # type: ignore[attr-defined]
    broadcast = kwargs.pop("broadcast", False)
    to = kwargs.pop("to", None) or kwargs.pop("room", None)
    if to is None and not broadcast:
        to = flask.request.sid  # type: ignore[attr-defined]
    _socketio().emit(event, *args, to=to, **kwargs)


def join_room(room: Any, sid: str | None = None, namespace: str | None = None) -> None:
    """Put the client into a room; it gets what is emitted there from now on."""
    _socketio().server.enter_room(_sid(sid), room, namespace=_namespace(namespace))


def leave_room(room: Any, sid: str | None = None, namespace: str | None = None) -> None:
    """Take the client out of a room."""
    _socketio().server.leave_room(_sid(sid), room, namespace=_namespace(namespace))


def close_room(room: Any, namespace: str | None = None) -> None:
    """Take everybody out of a room."""
    _socketio().server.close_room(room, namespace=_namespace(namespace))


def rooms(sid: str | None = None, namespace: str | None = None) -> list[Any]:
    """Return the rooms the client is in, its own among them."""
    found: list[Any] = _socketio().server.rooms(_sid(sid), namespace=_namespace(namespace))
    return found


def disconnect(sid: str | None = None, namespace: str | None = None, silent: bool = False) -> None:
    """End the client's stream."""
    _socketio().server.disconnect(_sid(sid), namespace=_namespace(namespace))


def _socketio() -> Any:
    return flask.current_app.extensions["socketio"]


def _sid(sid: str | None) -> str:
    return sid or flask.request.sid  # type: ignore[attr-defined]


def _namespace(namespace: str | None) -> str:
    return namespace or flask.request.namespace  # type: ignore[attr-defined]
