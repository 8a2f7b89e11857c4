"""Handlers: the functions and class-based namespaces that the host registered, and which of them gets an event."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from flask import Flask

from ..broker.client import Client
from ..broker.payload import json_safe
from ..errors import AccessDenied
from ..logs import get_logger, printable
from .invocation import (
    RESERVED,
    Handler,
    accepts,
    call,
    copy_of_session,
    host_request,
    is_refusal,
    request_of,
    save_session,
    serve,
)

logger = get_logger(__name__)

T = TypeVar("T")

#: What :meth:`Handlers.trigger` returns for an event that nobody handles.
NOT_HANDLED: Final = object()

_propagating: ContextVar[bool] = ContextVar("hakgal_hybrid_propagating", default=False)


class NamespaceClass(Protocol):
    """What a class-based namespace must have."""

    namespace: str

    def trigger_event(self, event: str, *args: Any) -> Any:
        """Handle an event: called with its name, the ``sid`` and the arguments.

        :param event: the event's name.
        :param args: the ``sid``, then the event's arguments.
        """


@contextmanager
def propagating() -> Iterator[None]:
    """Let errors of ``connect`` and ``disconnect`` handlers reach the caller as they are. For tests of hosts."""
    token = _propagating.set(True)
    try:
        yield
    finally:
        _propagating.reset(token)


@dataclass
class Handlers:
    """What the host registered: functions and class-based namespaces; the last one for an event wins.

    :ivar on_error: by namespace, the function that gets the exceptions of its handlers.
    :ivar on_any_error: the function for all other namespaces.
    :ivar manage_session: true to give each client a session of its own, false to open the app's for each event.
    :ivar log: a logger for events that come and go, if that was asked for.
    """

    functions: dict[str, dict[str, Handler]] = field(default_factory=dict)
    classes: dict[str, NamespaceClass] = field(default_factory=dict)
    on_error: dict[str, Handler] = field(default_factory=dict)
    on_any_error: Handler | None = None
    manage_session: bool = True
    log: Any = None

    def register(self, event: str, handler: Handler, namespace: str = "/") -> None:
        """Set the handler of an event; ``"*"`` stands for any event, or any namespace, that has no other.

        :param event: the event's name.
        :param handler: the function.
        :param namespace: the namespace.
        """
        self.functions.setdefault(namespace, {})[event] = handler

    def update(self, other: Handlers, *, replace: bool = True) -> None:
        """Take over everything that was registered with ``other``.

        :param other: the handlers to take over.
        :param replace: false to keep what is registered here already.
        """
        if other is self:
            return
        for namespace, functions in other.functions.items():
            _take(self.functions.setdefault(namespace, {}), functions, replace)
        _take(self.classes, other.classes, replace)
        _take(self.on_error, other.on_error, replace)
        if replace or self.on_any_error is None:
            self.on_any_error = other.on_any_error or self.on_any_error
        self.log = other.log or self.log

    def serves(self, namespace: str) -> bool:
        """True if clients may connect to a namespace because something is registered for it by name.

        Handlers for ``"*"`` open no namespace, as with python-socketio: a name may be all that protects it.

        :param namespace: the namespace.
        """
        return namespace in self.functions or namespace in self.classes

    def names(self, namespace: str) -> list[str]:
        """Return the events a namespace has handlers for, connecting and disconnecting left out.

        :param namespace: the namespace.
        """
        found = {name for space in (namespace, "*") for name in self.functions.get(space, ())}
        for space in (namespace, "*"):
            found |= {name[3:] for name in dir(self.classes.get(space)) if name.startswith("on_")}
        return sorted(found.difference(RESERVED))

    # -- connecting and disconnecting ------------------------------------------------------------------------

    def connect(self, app: Flask, client: Client, auth: Any = None) -> None:
        """Run the ``connect`` handler for a new client.

        :param app: the app whose handlers run.
        :param client: the new client.
        :param auth: what it sent along.
        :raises AccessDenied: if it returned ``False``, raised :class:`ConnectionRefusedError` or failed.
        """
        # A class of handlers may want to keep something in the environment; a function gets a copy.
        environ = client.environ if self._function("connect", client.namespace) is None and self.serves(
            client.namespace) else client.request_environ()
        try:
            verdict = self.trigger(app, client, "connect", (environ, auth or None))
        except Exception as error:
            if is_refusal(error):
                why = error.args
            elif isinstance(error, builtins.ConnectionRefusedError):
                why = ("Connection refused by server",)
            elif _propagating.get() or isinstance(error, AccessDenied):
                raise
            else:
                logger.exception("connect handler raised")
                raise AccessDenied("the connect handler failed", code="connect_failed") from error
            raise _refused(*why) from error
        if verdict is False:
            raise _refused()
        client.shed_session()

    def disconnect(self, app: Flask, client: Client, reason: str) -> None:
        """Run the ``disconnect`` handler of a client that has ended. Its errors are logged.

        :param app: the app whose handlers run.
        :param client: the client.
        :param reason: the argument of the handler.
        """
        try:
            self.trigger(app, client, "disconnect", (reason,))
        except Exception:
            if _propagating.get():
                raise
            logger.exception("disconnect handler raised")

    # -- running ---------------------------------------------------------------------------------------------

    def trigger(self, app: Flask, client: Client, event: str, args: tuple[Any, ...]) -> Any:
        """Run the handler of an event in the name of a client.

        :param app: whose request context it runs in.
        :param client: whose event it is.
        :param event: the event's name.
        :param args: the event's arguments.
        :return: what the handler returns; :data:`NOT_HANDLED` if there is none.
        :raises BadArguments: if it does not take these arguments; and whatever it raises.
        """
        if self.log is not None and event not in RESERVED:
            self.log.info('received event "%s" from %s [%s]', printable(event), client.sid,
                          printable(client.namespace))
        with serve(client, event):
            function = self._function(event, client.namespace)
            if function is not None:
                handler, message = function
                return self.run(app, client, handler, message, (event, *args) if message == "*" else args)
            for space, first in ((client.namespace, ()), ("*", (client.namespace,))):
                if space in self.classes:
                    trigger = self.classes[space].trigger_event
                    given = (event, *first, client.sid, *args)
                    # Older overrides take neither the auth of a connect nor the reason of a disconnect.
                    with host_request(app):
                        return trigger(*(given[:-1] if event in RESERVED and not accepts(trigger, given) else given))
            return NOT_HANDLED

    def _function(self, event: str, namespace: str) -> tuple[Handler, str] | None:
        """Return the function for an event, and what it was registered for, in python-socketio's order."""
        for functions in (self.functions.get(namespace, {}), self.functions.get("*", {})):
            if event in functions and event != "*":
                return functions[event], event
            if "*" in functions and event not in RESERVED:
                return functions["*"], "*"
        return None

    def run(self, app: Flask, client: Client, handler: Handler, message: str | None, args: tuple[Any, ...]) -> Any:
        """Call one function in a request context of ``client``, with its session.

        :param app: the app whose handlers run.
        :param client: in whose name it runs.
        :param handler: the function.
        :param message: what the function was registered for; ``None`` for a callback.
        :param args: its arguments.
        :return: what it returns; or what the host's error handler does, if there is one and it was needed.
        """
        with request_of(app, client, message, args, own_session=self.manage_session):
            before = None if self.manage_session else copy_of_session()
            try:
                answer = call(handler, message, args)
            except Exception as error:
                on_error = self.on_error.get(client.namespace, self.on_any_error)
                if on_error is None or is_refusal(error):
                    raise
                return on_error(error)
            if before is not None:
                save_session(app, before)
            return answer


def _take(mine: dict[str, T], others: dict[str, T], replace: bool) -> None:
    mine.update(others if replace else {name: value for name, value in others.items() if name not in mine})


def _refused(*why: Any) -> AccessDenied:
    """Return the error that tells a client why; ``message`` and ``data`` are what python-socketio makes of it."""
    reason = [json_safe(value) for value in why] or [None]
    more: dict[str, Any] = {"data": reason[1] if len(reason) == 2 else reason[1:]} if len(reason) > 1 else {}
    return AccessDenied("the connect handler refused this client", code="connection_refused",
                        reason=reason[0] if len(reason) == 1 else reason,
                        message=str(why[0]) if why else "Connection rejected by server", **more)
