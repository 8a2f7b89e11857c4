"""The host's event handlers, and how one runs on behalf of a client."""

from __future__ import annotations

import inspect
import io
import logging
import threading
from collections.abc import Callable
from typing import Any

import flask
from flask import Flask, sessions

from .errors import AccessDenied, EventError, HybridError, RequestError
from .event import json_safe
from .hub import Client

logger = logging.getLogger(__name__)

Handler = Callable[..., Any]

#: WSGI keys that belong to the connection of the opening request and mean nothing afterwards.
_CONNECTION_KEYS = ("wsgi.input", "werkzeug.request", "werkzeug.socket", "gunicorn.socket", "hakgal_hybrid.handoff")


class ConnectionRefusedError(Exception):
    """Raised by a ``connect`` handler to refuse a client; its arguments tell the client why."""


class ForkedSession(dict[str, Any], sessions.SessionMixin):
    """The session that the handlers of one client share: a copy of the one of the request that opened it."""


class Handlers:
    """What the host registered with ``@socketio.on``: by namespace and event name; the last one wins."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}

    def register(self, event: str, handler: Handler, namespace: str = "/") -> None:
        """Set the handler of an event."""
        self._handlers[namespace, event] = handler

    def update(self, other: Handlers) -> None:
        """Take over everything that was registered with ``other``."""
        if other is not self:
            self._handlers.update(other._handlers)

    def find(self, event: str, namespace: str) -> Handler | None:
        """Return the handler of an event."""
        return self._handlers.get((namespace, event))

    def names(self, namespace: str) -> list[str]:
        """Return the events a namespace has handlers for, connecting and disconnecting left out."""
        return sorted(name for space, name in self._handlers
                      if space == namespace and name not in ("connect", "disconnect"))

    # -- running ---------------------------------------------------------------------------------------------

    def dispatch(self, app: Flask, client: Client, event: str, args: tuple[Any, ...],
                 begin: Callable[[], None] = lambda: None) -> Any:
        """Run the handler of ``event`` as ``client`` and return what it returns.

        :param begin: called right before the handler is.
        :raises RequestError: 404 if the host has no such handler, 422 if it does not take these arguments, 500 if it
            raised (which is logged with its traceback).
        """
        handler = self.find(event, client.namespace)
        if handler is None or event in ("connect", "disconnect"):
            raise RequestError(f"no handler for event {event!r} in namespace {client.namespace!r}", status=404,
                               code="unknown_event", accepted=self.names(client.namespace))
        if not accepts(handler, args):
            raise RequestError(f"the handler of {event!r} does not take {len(args)} arguments", code="bad_arguments")
        try:
            return self._run(app, client, event, handler, args, begin)
        except Exception as error:
            # An event that the handler could not emit is the host's fault; our other errors are answers it chose.
            if isinstance(error, HybridError) and not isinstance(error, EventError):
                raise
            logger.exception("handler of event %r raised", event)
            raise RequestError(f"the handler of {event!r} raised {type(error).__name__}", status=500,
                               code="handler_failed") from error

    def connect(self, app: Flask, client: Client, auth: Any = None) -> None:
        """Run the ``connect`` handler for a new client.

        :raises AccessDenied: if it returned ``False``, raised :class:`ConnectionRefusedError` or failed.
        """
        handler = self.find("connect", client.namespace)
        if handler is None:
            return
        try:
            # As in Flask-SocketIO: a connect handler takes the client's auth value or nothing.
            verdict = self._run(app, client, "connect", handler, (auth,) if accepts(handler, (auth,)) else ())
        except Exception as error:
            if type(error).__name__ != "ConnectionRefusedError":
                logger.exception("connect handler raised")
                raise AccessDenied("the connect handler failed", code="connect_failed") from error
            reason = [json_safe(value) for value in error.args]
            raise AccessDenied("the connect handler refused this client", code="connection_refused",
                               reason=reason[0] if len(reason) == 1 else reason) from error
        if verdict is False:
            raise AccessDenied("the connect handler refused this client", code="connection_refused", reason=None)

    def disconnect(self, app: Flask, client: Client, reason: str) -> None:
        """Run the ``disconnect`` handler of a client that is gone. Its errors are logged: nobody waits for them."""
        handler = self.find("disconnect", client.namespace)
        if handler is None:
            return
        try:
            self._run(app, client, "disconnect", handler, (reason,) if accepts(handler, (reason,)) else ())
        except Exception:
            logger.exception("disconnect handler raised")

    def _run(self, app: Flask, client: Client, event: str, handler: Handler, args: tuple[Any, ...],
             begin: Callable[[], None] = lambda: None) -> Any:
        environ = {key: value for key, value in client.environ.items() if key not in _CONNECTION_KEYS}
        environ["wsgi.input"] = io.BytesIO()
        with app.request_context(environ):
            _use_session(client)
            request = flask.request._get_current_object()  # type: ignore[attr-defined]
            request.sid, request.namespace = client.sid, client.namespace
            request.event = {"message": event, "args": args}
            begin()
            return handler(*args)


def accepts(handler: Handler, args: tuple[Any, ...]) -> bool:
    """True if ``handler`` can be called with these arguments (or hides its signature)."""
    try:
        inspect.signature(handler).bind(*args)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


_session_lock = threading.Lock()


def _use_session(client: Client) -> None:
    """Make ``flask.session`` the client's own in the current context, forking it at first use."""
    with _session_lock:
        if client.session is None:
            client.session = ForkedSession(flask.session)
    context: Any = flask.globals.app_ctx if hasattr(flask.globals.app_ctx, "session") else flask.globals.request_ctx
    context = context._get_current_object()
    # Flask 3.1.3 made ``session`` a property over ``_session``.
    setattr(context, "_session" if hasattr(context, "_session") else "session", client.session)
