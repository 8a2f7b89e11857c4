"""The errors that hosts know from python-socketio, and waiting for a client's answer."""

from __future__ import annotations

import builtins
import functools
import queue
import sys
from collections.abc import Callable
from typing import Any

import flask

from ..broker.client import Client
from ..errors import EventError
from ..web.state import AppState


class NotConnected(ValueError, KeyError):
    """There is no such client; python-socketio raises one or the other.

    :param sid: the ``sid`` that was asked for.
    :param namespace: the namespace, by default ``/``.
    """

    __str__ = Exception.__str__  # a KeyError would quote it

    def __init__(self, sid: object, namespace: str | None) -> None:
        super().__init__(f"sid {sid!r} is not connected to namespace {namespace or '/'!r}")


class NotJSON(EventError, TypeError):
    """An event holds what has no form in JSON; python-socketio lets the ``TypeError`` of its JSON module out."""


def as_type_error(error: EventError) -> EventError:
    """Return the error about what has no form in JSON as a ``TypeError`` as well; any other as it is.

    :param error: the error.
    """
    return NotJSON(error.detail, code=error.code) if isinstance(error.__cause__, TypeError) else error


def in_context_of_caller(callback: Callable[..., object], state: AppState,
                         find: Callable[[object, str | None], Client | None]) -> Callable[..., object]:
    """Return a callback as it runs for the client whose event is being handled.

    :param callback: called with what a client acknowledges an event with.
    :param state: has the app and its handlers.
    :param find: returns a client by ``sid`` and namespace.
    :return: a function that calls it in a request context of that client, with its session; the callback itself
        outside of a handler.
    """
    if not flask.has_request_context() or not hasattr(flask.request, "sid"):
        return callback
    request: Any = flask.request
    client = find(request.sid, request.namespace)

    def answered(*args: Any) -> object:
        if client is None or client.ended:
            return None  # as with Flask-SocketIO: its session is gone
        return state.handlers.run(state.app, client, callback, None, args)

    return answered


def wait_for_answer(state: AppState, event: str, emit: Callable[[Callable[..., None]], None],
                    timeout: float | None) -> Any:
    """Emit, and wait until a client acknowledges.

    :param state: says whether a request may wait.
    :param event: the event's name.
    :param emit: emits the event, with the callback it is given.
    :param timeout: in seconds; ``None`` waits for ever.
    :return: ``None``, the value, or a tuple of the values that the client answered with.
    :raises EventError: inside a request, unless that is allowed.
    :raises TimeoutError: if no answer came; python-socketio's error too, if that is loaded.
    """
    if flask.has_request_context() and not state.settings.allow_blocking_call:
        raise EventError(
            f"call({event!r}) would make a request wait for a client; call from a background task, emit with a "
            "callback, or set HYBRID_ALLOW_BLOCKING_CALL", code="blocking_call")
    answers: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    emit(lambda *args: answers.put(args))
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise timeout_error()(f"no client has acknowledged {event!r} within {timeout:g} s") from None
    return answer if len(answer) > 1 else answer[0] if answer else None


def timeout_error() -> type[builtins.TimeoutError]:
    """Return the class to raise: a host that knows python-socketio's ``TimeoutError`` has imported it."""
    foreign = getattr(sys.modules.get("socketio.exceptions"), "TimeoutError", None)
    return builtins.TimeoutError if foreign is None else _both(foreign)


@functools.cache
def _both(foreign: type[Exception]) -> type[builtins.TimeoutError]:
    return type("TimeoutError", (builtins.TimeoutError, foreign), {"__module__": __name__})
