"""Calls a function of the host for a client: in a request context, with the arguments and session that it expects."""

from __future__ import annotations

import builtins
import copy
import inspect
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import flask
from flask import Flask, sessions

from ..broker.client import Client
from ..broker.environ import CONNECTION_KEYS, HANDOFF
from ..broker.forks import call_in_child

Handler = Callable[..., Any]

#: Events that no client can send, and that no catch-all handler gets.
RESERVED = ("connect", "disconnect")


class ConnectionRefusedError(Exception):
    """Raised by a ``connect`` handler to refuse a client; its arguments tell the client why."""


class BadArguments(TypeError):
    """A handler takes other arguments than came."""


class ForkedSession(dict[str, Any], sessions.SessionMixin):
    """The session that the handlers of one client share: a copy of the one of the request that opened it."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The event that is being handled in this thread.

    :ivar client: the client that sent it.
    :ivar event: its name.
    """

    client: Client
    event: str


_serving: ContextVar[Serving | None] = ContextVar("hakgal_hybrid_serving", default=None)


def serving() -> Serving | None:
    """Return the event that this thread handles, or ``None``. Its client may not be registered yet, or any more."""
    return _serving.get()


@contextmanager
def serve(client: Client, event: str) -> Iterator[None]:
    """Have :func:`serving` return an event in this thread, for the duration of a block.

    :param client: the client that sent it.
    :param event: its name.
    """
    token = _serving.set(Serving(client, event))
    try:
        yield
    finally:
        _serving.reset(token)


_on_call: ContextVar[Callable[[], None] | None] = ContextVar("hakgal_hybrid_on_call", default=None)


@contextmanager
def calling_first(begin: Callable[[], None]) -> Iterator[None]:
    """Call ``begin`` in this thread right before each function of the host, for the duration of a block.

    :param begin: takes nothing; it may be called several times.
    """
    token = _on_call.set(begin)
    try:
        yield
    finally:
        _on_call.reset(token)


@contextmanager
def host_request(app: Flask) -> Iterator[flask.Request | None]:
    """Be in a request context of the host's app while something of the host's is called.

    Our URLs are answered by an app of our own, whose context means nothing to the host. The host's context is made of
    the same request, its body included. Its session can be read, and is not saved.

    :param app: the host's app.
    :return: the request, as the host sees it; ``None`` where no request is being answered.
    """
    if not flask.has_request_context():
        yield None
        return
    request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    if flask.current_app._get_current_object() is app:  # type: ignore[attr-defined]
        yield request
        return
    body = request_body() if request.method == "POST" else b""
    with app.request_context({**request.environ, "wsgi.input": io.BytesIO(body)}):
        yield flask.request._get_current_object()  # type: ignore[attr-defined]


def request_body() -> bytes:
    """Return the body of the request that one of our views is answering. It may be called again.

    Our own server has all of it in memory and hands over that. Werkzeug would make two copies of it, and keep one.
    """
    stream = flask.request.environ["wsgi.input"]
    if HANDOFF in flask.request.environ and type(stream) is io.BytesIO:
        return stream.getvalue()
    return flask.request.get_data()


def _no_route() -> None:
    """Look for no route of the host: the URL is ours. To find that there is none would take as long as all the rest."""


@contextmanager
def request_of(app: Flask, client: Client, message: str | None, args: tuple[Any, ...], *,
               own_session: bool) -> Iterator[None]:
    """Be in a request context of ``client`` for a while: with the request that opened it, and who it is.

    :param app: the app whose handlers run.
    :param client: whose request context it is.
    :param message: what the function that is about to be called was registered for; ``None`` for a callback.
    :param args: the event's arguments.
    :param own_session: true for the session that the client's handlers share, false for the app's own.
    """
    environ = client.request_environ()
    for key in CONNECTION_KEYS:
        environ.pop(key, None)
    environ["wsgi.input"] = io.BytesIO()
    context = app.request_context(environ)
    context.match_request = _no_route  # type: ignore[method-assign]
    with context:
        if own_session:
            _use_session(client)
        request = flask.request._get_current_object()  # type: ignore[attr-defined]
        request.sid, request.namespace = client.sid, client.namespace
        request.event = {"message": message, "args": args}
        yield


def call(handler: Handler, message: str | None, args: tuple[Any, ...]) -> Any:
    """Call a function of the host with the event's arguments, without the last one if it does not take that.

    :param handler: the function.
    :param message: the event that it was registered for. Arguments are left out only of ``connect`` and ``disconnect``.
    :param args: the event's arguments.
    :return: what it returns.
    :raises BadArguments: if it takes other arguments.
    """
    args = _fitting(handler, message, args)
    if not accepts(handler, args):
        raise BadArguments(f"the handler of {message!r} does not take {len(args)} arguments")
    begin = _on_call.get()
    if begin is not None:
        begin()
    return handler(*args)


def accepts(handler: Handler, args: tuple[Any, ...]) -> bool:
    """True if ``handler`` itself, whatever it wraps, can be called with these arguments (or hides its signature).

    :param handler: the function.
    :param args: the arguments.
    """
    function = getattr(handler, "__func__", handler)
    if not isinstance(function, FunctionType):
        return _takes(handler, len(args))
    known = _known_to_take.setdefault(function, {})
    key = (function is handler, len(args))  # a method is made anew each time, and has its first argument already
    if key not in known:
        known[key] = _takes(handler, len(args))
    return known[key]


#: By function, which numbers of arguments it takes. A function may hold an app, and is not kept alive.
_known_to_take: WeakKeyDictionary[FunctionType, dict[tuple[bool, int], bool]] = WeakKeyDictionary()


def _takes(handler: Handler, count: int) -> bool:
    try:
        inspect.signature(handler, follow_wrapped=False).bind(*(None,) * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def is_refusal(error: BaseException) -> bool:
    """True for our ``ConnectionRefusedError`` and for python-socketio's, which hosts import from Flask-SocketIO.

    :param error: what a ``connect`` handler raised.
    """
    return any(base.__name__ == "ConnectionRefusedError" and base is not builtins.ConnectionRefusedError
               for base in type(error).__mro__)


def copy_of_session() -> dict[str, Any]:
    """Return what the app's own session holds now."""
    session: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
    try:
        return copy.deepcopy(dict(session))
    except Exception:  # a value may be of any class; what a handler changes in it is not seen then
        return dict(session)


def save_session(app: Flask, before: dict[str, Any]) -> None:
    """Have the app's own session interface keep what a handler changed. A cookie would go nowhere.

    Only the changes are kept: what has left the session meanwhile, as a user does who logs out, does not come back.

    :param app: the app.
    :param before: what the session held before the handler was called.
    """
    session: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
    if not getattr(session, "modified", True):
        return
    kept: Any = app.session_interface.open_session(app, flask.request)
    if kept is not None:
        for key in before.keys() - session.keys():
            kept.pop(key, None)
        kept.update({key: value for key, value in session.items() if key not in before or before[key] != value})
        app.session_interface.save_session(app, kept, app.response_class())


def _fitting(handler: Handler, message: str | None, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a handler is called with: one of ``connect`` may leave out ``auth``, of ``disconnect`` the reason."""
    if message not in RESERVED:
        return args
    full = args[1:2] or (None,) if message == "connect" else args
    short = full[:-1]
    # A decorator that takes anything hides what the function below takes; one that adds arguments shows too much.
    if not accepts(handler, full):
        return short if accepts(handler, short) else full
    wraps_less = not accepts(inspect.unwrap(handler), full) and accepts(inspect.unwrap(handler), short)
    return short if wraps_less and accepts(handler, short) else full


_session_lock = threading.RLock()  # re-entrant: if eventlet patches the process later, it replaces only such locks


def _renew_lock() -> None:
    global _session_lock
    _session_lock = threading.RLock()


call_in_child(_renew_lock)


def _use_session(client: Client) -> None:
    """Make ``flask.session`` the client's own in the current context, forking it at first use."""
    with _session_lock:
        if client.saved_session is None:
            session: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
            client.use_session(ForkedSession((key, session[key]) for key in session))
    _set_session(client.saved_session)


def _set_session(session: Any) -> None:
    context: Any = flask.globals.app_ctx._get_current_object()  # type: ignore[attr-defined]
    if not hasattr(context, "session"):
        context = flask.globals.request_ctx._get_current_object()  # type: ignore[attr-defined]
    # Flask 3.1.3 made ``session`` a property over ``_session``.
    setattr(context, "_session" if hasattr(context, "_session") else "session", session)
