"""The decorators by which a host registers its handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..commands.handlers import Handlers
from ..commands.invocation import Handler
from ..web.apps import Apps
from .server import Server

F = TypeVar("F", bound=Callable[..., Any])


class HandlerRegistrar:
    """Registers handlers, before there is an app and after; see :meth:`.Apps.register`.

    :param apps: the apps that they are for.
    :param server: what class-based namespaces get as their ``server``.
    """

    def __init__(self, apps: Apps, server: Server) -> None:
        self.apps, self.server = apps, server

    @property
    def handlers(self) -> Handlers:
        """What is registered for the app that is meant; for those to come, where there is none."""
        return self.apps.current_handlers

    @property
    def manage_session(self) -> bool:
        """What the keyword of this name says; may be set at any time."""
        return self.handlers.manage_session

    @manage_session.setter
    def manage_session(self, value: bool) -> None:
        for handlers in (self.apps.handlers, *(state.handlers for state in self.apps.served())):
            handlers.manage_session = value

    def on(self, message: str, namespace: str | None = None) -> Callable[[F], F]:
        """Register a handler: ``@socketio.on("message")``. The last one for an event wins.

        :param message: the event's name; ``connect``, ``disconnect``; or ``"*"`` for every event that has no handler of
            its own, whose name is then the first argument.
        :param namespace: default ``/``; ``"*"`` for every namespace that has no handler of its own for the event.
        :return: a decorator that returns the function as it is.
        """

        def decorator(handler: F) -> F:
            self.apps.register(Handlers({namespace or "/": {message: handler}}))
            return handler

        return decorator

    def on_event(self, message: str, handler: Handler, namespace: str | None = None) -> None:
        """Register a handler without a decorator.

        :param message: as of :meth:`on`.
        :param handler: the function.
        :param namespace: as of :meth:`on`.
        """
        self.on(message, namespace=namespace)(handler)

    def event(self, *args: Any, **kwargs: Any) -> Any:
        """Register a handler for the event that has the function's name: ``@socketio.event``.

        :param args: the function; or, where the decorator is called first (``@socketio.event("/chat")``), what
            :meth:`on` takes after the event's name.
        :param kwargs: likewise.
        :return: the function, or a decorator.
        """
        if len(args) == 1 and not kwargs and callable(args[0]):
            return self.on(args[0].__name__)(args[0])

        def decorator(handler: F) -> F:
            return self.on(handler.__name__, *args, **kwargs)(handler)

        return decorator

    def on_namespace(self, namespace_handler: Any) -> None:
        """Register a class-based namespace.

        :param namespace_handler: an instance of a subclass of :class:`.Namespace`, ours or Flask-SocketIO's own.
        :raises ValueError: if it is something else.
        """
        if isinstance(namespace_handler, type) or not hasattr(namespace_handler, "_set_socketio"):
            raise ValueError(f"{namespace_handler!r} is not a namespace instance")
        namespace_handler._set_socketio(self)
        namespace_handler._set_server(self.server)
        self.apps.register(Handlers(classes={namespace_handler.namespace: namespace_handler}))

    def on_error(self, namespace: str | None = None) -> Callable[[F], F]:
        """Register what gets the exceptions of a namespace's handlers: ``@socketio.on_error()``.

        It is called in the handler's request context, with the exception; what it returns is the handler's answer.

        :param namespace: default ``/``.
        :return: a decorator that returns the function as it is.
        """

        def decorator(exception_handler: F) -> F:
            self.apps.register(Handlers(on_error={namespace or "/": _callable(exception_handler)}))
            return exception_handler

        return decorator

    def on_error_default(self, exception_handler: F) -> F:
        """Register what gets the exceptions of all namespaces that :meth:`on_error` was not called for.

        :param exception_handler: as with :meth:`on_error`.
        :return: the same function.
        """
        self.apps.register(Handlers(on_any_error=_callable(exception_handler)))
        return exception_handler

    @property
    def exception_handlers(self) -> dict[str, Handler]:
        """What :meth:`on_error` registered, by namespace."""
        return self.handlers.on_error

    @property
    def default_exception_handler(self) -> Handler | None:
        """What :meth:`on_error_default` registered."""
        return self.handlers.on_any_error


def _callable(exception_handler: Any) -> Any:
    if not callable(exception_handler):
        raise ValueError(f"exception_handler must be callable, not {exception_handler!r}")
    return exception_handler
