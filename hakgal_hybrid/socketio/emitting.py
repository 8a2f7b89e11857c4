"""Emitting from anywhere: to everybody, to rooms, to one client whose answer is wanted."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import flask

from ..commands import Handlers
from ..web.transport import Transport
from .server import Server


class Emitting:
    """The part of :class:`.SocketIO` that emits. May be used from any thread, inside a request or outside."""

    transport: Transport
    handlers: Handlers
    server: Server

    def emit(self, event: str, *args: Any, namespace: str | None = "/", to: Any = None, room: Any = None,
             include_self: bool = True, skip_sid: Any = None, callback: Callable[..., object] | None = None,
             broadcast: bool = True, ignore_queue: bool = False) -> None:
        """Emit an event. Never waits for a client.

        :param args: JSON values and ``bytes``; one tuple stands for several arguments, one ``None`` for none.
        :param to: (or ``room``) a room, a ``sid``, or several; ``None`` and ``"/"`` mean everybody in the namespace.
        :param include_self: false to leave the client out whose event is being handled.
        :param skip_sid: a ``sid`` or several to leave out.
        :param callback: called with what a client acknowledges the event with. If the event was emitted by a handler,
            it runs in a request context of the client whose event that was, with its session.
        :param broadcast: (and ``ignore_queue``) mean nothing.
        :raises EventError: for a name or payload that cannot be sent.
        """
        if not include_self and not skip_sid:
            skip_sid = flask.request.sid  # type: ignore[attr-defined]
        self.server.emit_args(event, args, to or room, skip_sid, namespace, callback and self._in_context(callback))

    def send(self, data: Any, json: bool = False, namespace: str | None = None, to: Any = None,
             callback: Callable[..., object] | None = None, include_self: bool = True, skip_sid: Any = None,
             **kwargs: Any) -> None:
        """Emit the event ``message``, or ``json``.

        :param json: true to emit ``json``; the keywords of :meth:`emit` mean what they mean there.
        """
        if not include_self:
            skip_sid = flask.request.sid  # type: ignore[attr-defined]
        self.emit("json" if json else "message", data, namespace=namespace, to=to, skip_sid=skip_sid,
                  callback=callback, **kwargs)

    def call(self, event: str, *args: Any, namespace: str | None = "/", to: Any = None, room: Any = None,
             sid: str | None = None, timeout: float | None = 60, ignore_queue: bool = False) -> Any:
        """Emit an event to one client and wait until it acknowledges it. Not inside a request: call from a thread.

        :param to: (or ``sid``) the client.
        :param timeout: in seconds; ``None`` waits for ever.
        :return: ``None``, the value, or a tuple of the values that the client answered with.
        :raises TimeoutError: if it does not answer in time, or is not there at all.
        :raises ValueError: if nobody is named.
        :raises EventError: inside a request, where a thread of the host would wait for somebody else's browser; unless
            ``HYBRID_ALLOW_BLOCKING_CALL`` says so.
        """
        return self.server.call(event, _data(args), to or room or None, sid, namespace, timeout)

    def close_room(self, room: Hashable, namespace: str | None = None) -> None:
        """Take everybody out of a room."""
        self.server.close_room(room, namespace)

    def _in_context(self, callback: Callable[..., object]) -> Callable[..., object]:
        """Return ``callback`` as it runs for the client whose event is being handled, if one is."""
        if not flask.has_request_context() or not hasattr(flask.request, "sid"):
            return callback
        request: Any = flask.request
        client = self.server.find(request.sid, request.namespace)

        def answered(*args: Any) -> object:
            if client is None or client.ended:
                return None  # as with Flask-SocketIO: its session is gone
            return self.handlers.run(self.transport.app, client, callback, None, args)

        return answered


def _data(args: tuple[Any, ...]) -> Any:
    """Return several arguments as one value: Flask-SocketIO takes one, and a tuple for several."""
    return args[0] if len(args) == 1 else args or None
