"""A home-grown broadcaster in the shape of Flask-SocketIO, and what is wrong with it.

Every event is written to every client inside the request that caused it. A client that stopped reading
fills its socket, and then each request waits for it: up to ``SEND_TIMEOUT_S``, again and again, because
such clients are kept for ever.

Clients connect to ``/ws``. A text frame in either direction is ``{"event": name, "data": payload}``.
"""

from __future__ import annotations

import inspect
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Flask, Response, current_app, has_request_context, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed

from adapters.ws_channel import ClientChannel, SharedSocket, text_frame

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 2.0
EVERYBODY = (None, "/")
Handler = Callable[..., Any]


class Outgoing(NamedTuple):
    """One encoded event and whom it is for: ``None`` or ``"/"``, a room, or a sid."""

    frame: bytes
    to: str | None


class SocketIO:
    """The part of Flask-SocketIO's class that this host uses.

    :param app: the application; its ``extensions["socketio"]`` becomes this object.
    :param options: keywords of Flask-SocketIO (``cors_allowed_origins``, ``async_mode``, …); there is
        nothing here that they could change.
    """

    def __init__(self, app: Flask, **options: Any) -> None:
        self.app = app
        self.options = options
        self.server = self  # where Flask-SocketIO has its rooms
        self._handlers: dict[str, Handler] = {}
        self._lock = threading.Lock()
        self._clients: dict[str, ClientChannel] = {}
        self._rooms: dict[str, set[str]] = {}
        app.extensions["socketio"] = self
        # Functions of after_request run last registered first: what the host emits in its own is gathered by
        # now. Contexts that never see a response (a handler's) are flushed as they are torn down.
        app.after_request(self._flush_after)
        app.teardown_request(self._flush_at_teardown)
        Sock(app).route("/ws")(self._serve)

    def on(self, event: str, namespace: str | None = None) -> Callable[[Handler], Handler]:
        """Register the handler of an event; the last one registered wins."""

        def register(handler: Handler) -> Handler:
            self._handlers[event] = handler
            return handler

        return register

    def emit(
        self, event: str, *args: Any, to: str | None = None, room: str | None = None, **_ignored: Any
    ) -> None:
        """Send an event: at the end of the current request, or at once where there is none."""
        data = args[0] if len(args) == 1 else list(args) or None
        text = json.dumps({"event": event, "data": data}, separators=(",", ":"))
        outgoing = Outgoing(text_frame(text.encode()), to or room)
        if not has_request_context():
            self._write([outgoing])
        elif (outbox := getattr(request, "outbox", None)) is not None:
            outbox.append(outgoing)
        else:
            request.outbox = [outgoing]

    def enter_room(self, sid: str, room: str, namespace: str | None = None) -> None:
        """Put a client into a room."""
        with self._lock:
            self._rooms.setdefault(room, set()).add(sid)

    def leave_room(self, sid: str, room: str, namespace: str | None = None) -> None:
        """Take a client out of a room."""
        with self._lock:
            self._rooms.get(room, set()).discard(sid)

    def run(self, app: Flask, host: str | None = None, port: int | None = None, **options: Any) -> None:
        """Serve with Werkzeug's threaded server; options of other servers are passed over."""
        debug, use_reloader = options.get("debug", False), options.get("use_reloader", False)
        app.run(host=host, port=port, debug=debug, threaded=True, use_reloader=use_reloader)

    def _flush_after(self, response: Response) -> Response:
        self._flush()
        return response

    def _flush_at_teardown(self, _error: BaseException | None) -> None:
        self._flush()

    def _flush(self) -> None:
        outbox = getattr(request, "outbox", None)
        if outbox:
            request.outbox = None
            self._write(outbox)

    def _write(self, outbox: list[Outgoing]) -> None:
        """Write to every client in turn; all of them together may take ``SEND_TIMEOUT_S``."""
        deadline = time.monotonic() + SEND_TIMEOUT_S
        with self._lock:
            clients = list(self._clients.items())
            rooms = {room: set(sids) for room, sids in self._rooms.items()}
        for sid, channel in clients:
            frames = [o.frame for o in outbox if o.to in (*EVERYBODY, sid) or sid in rooms.get(o.to, ())]
            try:
                if frames and channel.open:
                    channel.write(frames, deadline)
            except OSError:
                self._forget(sid)
                channel.hang_up()

    def _serve(self, ws: Any) -> None:
        """One client, from its connect to its end."""
        sid, channel = uuid.uuid4().hex, ClientChannel(ws)
        ws.sock = SharedSocket(channel, ws.sock, SEND_TIMEOUT_S)
        with self._lock:
            self._clients[sid] = channel
        try:
            self._dispatch(sid, "connect", request.args.to_dict() or None)
            while True:
                self._receive(sid, ws.receive())
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._forget(sid)
            self._dispatch(sid, "disconnect", "transport close")

    def _receive(self, sid: str, text: str | bytes) -> None:
        try:
            message = json.loads(text)
            event, arguments = message["event"], [message["data"]] if "data" in message else []
        except (ValueError, TypeError, KeyError):
            log.warning("client %s sent something that is no event: %.80r", sid, text)
            return
        if event not in ("connect", "disconnect"):
            self._dispatch(sid, event, *arguments)

    def _dispatch(self, sid: str, event: str, *arguments: Any) -> None:
        """Run a handler in a request context of its own, made of the client's handshake."""
        handler = self._handlers.get(event) if isinstance(event, str) else None
        if handler is None:
            return
        with self.app.request_context(dict(request.environ)):
            request.sid, request.namespace = sid, "/"
            request.event = {"message": event, "args": arguments}
            try:
                handler(*arguments[: _positional(handler)])
            except Exception:  # one bad message must not end the connection
                log.exception("the handler of %r failed", event)

    def _forget(self, sid: str) -> None:
        with self._lock:
            self._clients.pop(sid, None)
            for members in self._rooms.values():
                members.discard(sid)


def _positional(handler: Handler) -> int:
    """How many arguments a handler takes: ``connect`` and ``disconnect`` come with and without."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds for parameter in inspect.signature(handler).parameters.values())


def emit(event: str, *args: Any, to: str | None = None, broadcast: bool = False, **options: Any) -> None:
    """Send an event to the client that is being handled."""
    receiver = to or options.pop("room", None) or (None if broadcast else request.sid)
    current_app.extensions["socketio"].emit(event, *args, to=receiver, **options)


def join_room(room: str, sid: str | None = None, namespace: str | None = None) -> None:
    """Put the client that is being handled into a room."""
    current_app.extensions["socketio"].server.enter_room(sid or request.sid, room)


def leave_room(room: str, sid: str | None = None, namespace: str | None = None) -> None:
    """Take the client that is being handled out of a room."""
    current_app.extensions["socketio"].server.leave_room(sid or request.sid, room)
