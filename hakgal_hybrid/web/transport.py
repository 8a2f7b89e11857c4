"""Transport: what an application emits by, and what it registers with, for one app or for several."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import blinker
from flask import Flask

from ..broker.client import Client
from ..broker.event import Target
from ..broker.hub import Hub
from ..broker.log import EventLog
from ..commands.acks import Callback
from ..commands.authorization import Decision
from ..commands.handlers import Handlers
from ..commands.node import Node
from ..errors import ConfigurationError
from ..monitoring.statistics import Statistics
from ..settings import Settings
from .apps import Apps
from .services import Services
from .state import AppState
from .urls import Route

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..settings.keywords import SettingsKeywords

T = TypeVar("T", bound="Transport")

KEY = "hakgal_hybrid"


class Transport:
    """Server-Sent Events and HTTP commands for Flask apps: what :class:`.HybridTransport` is, hosts left out.

    An app has a transport of its own in its ``extensions``, which :meth:`of` returns. One that was made without an app
    does the same for the app that is meant: see :meth:`.Apps.current`.

    :param governor: the object ``POST /api/governor/control`` talks to, if it is not the host's own ``governor``.
    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over ``app.config`` and environment.
    """

    def __init__(self, *, governor: Any = None, **settings: Unpack[SettingsKeywords]) -> None:
        self._apps = Apps("HybridTransport", governor=governor, settings=settings)
        self._for_one = False

    @classmethod
    def of(cls: type[T], app: Flask) -> T:
        """Return the transport of an app, which serves no other one.

        :param app: the app.
        :return: the object that was made with it; one that was made by ``init_app``.
        :raises ConfigurationError: if it has none.
        """
        transport = app.extensions.get(KEY)
        if not isinstance(transport, Transport):
            raise ConfigurationError(f"{app!r} has no HybridTransport; make one with HybridTransport(app)")
        if not isinstance(transport, cls):
            transport.__class__ = cls  # made by a SocketIO, which knows this class only; subclasses add no state
        return cast(T, transport)

    @classmethod
    def over(cls: type[T], state: AppState) -> T:
        """Return a transport for one app that is served, and enter it there.

        :param state: what the app has of us.
        """
        transport = cls.__new__(cls)
        transport._apps, transport._for_one = Apps.of(state), True
        state.app.extensions[KEY] = transport
        return transport

    # -- setting up ------------------------------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Read the settings, freeze them, and answer our URLs in front of an app (in profile WEBSOCKET: none).

        :param app: the app to serve.
        :raises ConfigurationError: for a setting that is not accepted, an app that has a transport already, or one
            that owns one of our URLs; if this transport was made with an app, which is the only one it serves.
        """
        if KEY in app.extensions:
            raise ConfigurationError(f"{app!r} already has a HybridTransport; use HybridTransport.of(app)")
        if self._apps.only is not None:
            raise ConfigurationError(f"this HybridTransport serves {self.app!r} only; for several apps make it without "
                                     "one, and call init_app(app) for each")
        self._enter(self._apps.init_app(app))

    def _enter(self, state: AppState) -> None:
        """Be the transport of an app that is served, or make one for it."""
        if self._for_one:
            self._apps.serve_only(state)
            state.app.extensions[KEY] = self
        else:
            type(self).over(state)

    def routes(self) -> list[Route]:
        """Return the URLs that are served in front of the app; its ``url_map`` does not have them."""
        return self.state.routes()

    def refuse_conflicts(self) -> None:
        """Check that the host has no route of its own for one of our URLs; see :meth:`.AppState.refuse_conflicts`."""
        self.state.refuse_conflicts()

    @property
    def state(self) -> AppState:
        """What the app that is meant has of us.

        :raises ConfigurationError: before :meth:`init_app`, or if nothing says which of several apps is meant.
        """
        return self._apps.current()

    @property
    def services(self) -> Services:
        """The parts that views use."""
        return self.state.services

    @property
    def node(self) -> Node:
        """The log, the hub, and what takes commands."""
        return self.state.node

    @property
    def app(self) -> Flask:
        """The app this transport serves."""
        return self.state.app

    @property
    def settings(self) -> Settings:
        """The settings, as they were read by :meth:`init_app`."""
        return self.state.settings

    @property
    def hub(self) -> Hub:
        """Clients, rooms and streams."""
        return self.state.hub

    @property
    def log(self) -> EventLog:
        """The events that are retained."""
        return self.state.log

    @property
    def mode(self) -> str:
        """``sse``; ``websocket`` where the host kept its own WebSocket."""
        return self.state.mode

    @property
    def handlers(self) -> Handlers:
        """What the host registered; may be filled before :meth:`init_app`."""
        return self._apps.current_handlers

    @property
    def governor(self) -> Any:
        """The object that commands go to, if it is not the host's own; may be set at any time."""
        return self._apps.governor

    @governor.setter
    def governor(self, governor: Any) -> None:
        self._apps.governor = governor

    # -- events out, clients in ------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any, to: Hashable | Iterable[Hashable] = None, namespace: str | None = None,
             skip_sid: Hashable | Iterable[Hashable] = None, callback: Callback | None = None) -> None:
        """Send an event. Waits for no client.

        :param event: the event's name.
        :param args: its arguments: JSON values and ``bytes``.
        :param to: a room, a ``sid``, or a list, tuple or set of them; ``None`` and ``"/"`` mean everybody.
        :param namespace: the namespace; ``None`` means ``/``.
        :param skip_sid: a ``sid`` that does not get it, or a list, tuple or set of them.
        :param callback: called with what a client acknowledges the event with, in the thread of that request; once for
            each client that does.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large.
        :raises ConfigurationError: before :meth:`init_app`, or if nothing says which of several apps is meant.
        """
        self._apps.current().node.publisher.send(event, args, Target.create(namespace, to, skip_sid), callback)

    def bridge(self, signal: blinker.Signal, event: str, *, to: Hashable | Iterable[Hashable] = None,
               namespace: str | None = None) -> Callable[[], None]:
        """Emit an event whenever a signal is sent, with the signal's keywords as the payload.

        May be called before :meth:`init_app`. Of several apps it is the one that sends the signal, or else the one that
        is meant, whose clients get the event.

        :param signal: the signal.
        :param event: the event's name.
        :param to: a room, a ``sid``, or a list, tuple or set of them; ``None`` means everybody.
        :param namespace: the namespace; ``None`` means ``/``.
        :return: a function that ends this.
        """
        return self._apps.bridge(signal, event, Target.create(namespace, to))

    def authorize(self, decide: Decision) -> Decision:
        """Have a function of the application decide what clients may do. Usable as a decorator.

        It is called with an :class:`~hakgal_hybrid.commands.authorization.AuthorizationRequest`, in the thread of the
        request, and must return something true to allow it. If it returns ``None`` or raises, the request is refused.
        It is called after key, ticket and token were checked, and not for clients of a host's own WebSocket.
        May be called before :meth:`init_app`: the function then decides for all apps.

        :param decide: the function.
        :return: the same function.
        :raises ConfigurationError: if another function decides already.
        """
        self._apps.authorize(decide)
        return decide

    def disconnect(self, who: str | Callable[[Client], bool]) -> int:
        """End clients for good: their streams, their tickets and what they could come back to.

        A stream gets what was emitted before, then ``hybrid_disconnect``, and ends with its last client. The
        ``disconnect`` handlers run in the background.

        :param who: a ``sid``, or a function that returns true for each client to be ended.
        :return: how many clients were ended; 0 for a ``sid`` that nobody has.
        """
        return self.node.lifecycle.disconnect(who)

    # -- running and watching --------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every stream of the app with a farewell."""
        self.node.stop()

    def statistics(self) -> Statistics:
        """Return a snapshot of everything that is counted."""
        return self.state.statistics()


def renewed(state: AppState, facade: Any, otherwise: Mapping[str, Any]) -> AppState:
    """Serve an app anew by other settings, if nothing has happened yet.

    :param state: what the app has now.
    :param facade: the ``SocketIO`` that asks for it. It is too late for another one than that of the app.
    :param otherwise: settings that count in place of the defaults, by name.
    :return: what it has from now on: the same, where it is too late.
    :raises ConfigurationError: for a setting that is not accepted.
    """
    if state.facade is not facade or otherwise == state.otherwise or not state.withdraw():
        return state
    anew = Transport.over(facade.apps.init_app(state.app, otherwise)).state
    anew.handlers.update(state.handlers)
    anew.authorizer.take(state.authorizer)
    return anew
