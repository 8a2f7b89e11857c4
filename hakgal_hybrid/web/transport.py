"""Transport: one app, the node that serves its clients, and our URLs in front of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import blinker
from flask import Flask

from ..broker.client import Client
from ..broker.event import Target
from ..broker.hub import Hub
from ..broker.log import EventLog
from ..commands.acks import Callback
from ..commands.authorization import Authorizer, Decision
from ..commands.handlers import Handlers
from ..commands.node import Node
from ..errors import ConfigurationError
from ..logs import LIMIT, redact_server_logs
from ..monitoring.backlog import BacklogMonitor
from ..monitoring.samples import SampleHistory
from ..monitoring.statistics import Statistics
from ..settings import Profile, Settings, load_settings
from .app import answer_in_front, refuse_conflicts
from .origins import Origins
from .ratelimit import RateLimiter
from .services import Services
from .statistics import remember, snapshot
from .tickets import Tickets
from .urls import ROUTES, Route

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..settings.keywords import SettingsKeywords

T = TypeVar("T", bound="Transport")

KEY = "hakgal_hybrid"


class Transport:
    """Server-Sent Events and HTTP commands for one Flask app: what :class:`.HybridTransport` is, hosts left out.

    :param governor: the object ``POST /api/governor/control`` talks to, if it is not the host's own ``governor``.
    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over ``app.config`` and environment.
    :ivar handlers: what the host registered; may be filled before :meth:`init_app`.
    :ivar mode: ``sse``; ``websocket`` where the host kept its own WebSocket, ``dual`` where it serves both.
    :ivar refuses: returns whether a request, by its WSGI environment, seems not to be permitted: :meth:`.Gate.refuses`.
    :ivar facade: the ``SocketIO`` object of this app, ours or Flask-SocketIO's, once there is one.
    """

    def __init__(self, *, governor: Any = None, **settings: Unpack[SettingsKeywords]) -> None:
        self.handlers = Handlers()
        self.governor = governor
        self.mode = "sse"
        self.facade: Any = None
        self._authorizer = Authorizer()
        self._overrides = settings
        self._host: Any = None
        self._services: Services | None = None
        self.refuses: Callable[[dict[str, Any]], bool] = lambda environ: False
        self._served: Collection[str] = ()

    @classmethod
    def of(cls: type[T], app: Flask) -> T:
        """Return the transport of an app.

        :param app: the app.
        :return: the object that was made for it.
        :raises ConfigurationError: if it has none.
        """
        transport = app.extensions.get(KEY)
        if not isinstance(transport, Transport):
            raise ConfigurationError(f"{app!r} has no HybridTransport; make one with HybridTransport(app)")
        if not isinstance(transport, cls):
            transport.__class__ = cls  # made by a SocketIO, which knows this class only; subclasses add no state
        return cast(T, transport)

    # -- setting up ------------------------------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Read the settings, freeze them, and answer our URLs in front of an app (in profile WEBSOCKET: none).

        :param app: the app to serve.
        :raises ConfigurationError: for a setting that is not accepted, an app that has a transport already, or one
            that owns one of our URLs.
        """
        if self._services is not None:
            raise ConfigurationError(
                f"this HybridTransport already serves {self.app!r}; make another one for {app!r}")
        if KEY in app.extensions:
            raise ConfigurationError(f"{app!r} already has a HybridTransport; use HybridTransport.of(app)")
        settings = load_settings(app.config, **self._overrides)
        LIMIT.forget()  # what an earlier app has said too often, this one has not
        node = Node(app, settings, self.handlers, self._authorizer, self._find_governor)
        backlog, samples = BacklogMonitor(node.hub), SampleHistory()
        backlog.on_sample = partial(remember, samples, self.statistics)
        tickets = Tickets(lambda: _secret_keys(app), node.hub.sessions.find)
        self._services = Services(node, tickets, Origins(settings.origins), RateLimiter(settings.command_rate), backlog,
                                  samples, self.statistics)
        app.extensions[KEY] = self
        if settings.profile is not Profile.WEBSOCKET:
            gate = answer_in_front(app, self._services)
            self._served, self.refuses = gate.served, gate.refuses
            redact_server_logs()

    def routes(self) -> list[Route]:
        """Return the URLs that are served in front of the app; its ``url_map`` does not have them."""
        return [route for route in ROUTES.values() if route.rule in self._served]

    def refuse_conflicts(self) -> None:
        """Check that the host has no route of its own for one of our URLs; see :func:`.refuse_conflicts`.

        It is called again when the host has registered all of its routes.

        :raises ConfigurationError: naming the URL and the host's endpoint.
        """
        refuse_conflicts(self.app, self._served)

    # -- the parts -------------------------------------------------------------------------------------------

    @property
    def services(self) -> Services:
        """The parts that views use.

        :raises ConfigurationError: before :meth:`init_app`.
        """
        if self._services is None:
            raise ConfigurationError("this HybridTransport serves no app yet; call init_app(app) first")
        return self._services

    @property
    def node(self) -> Node:
        """The log, the hub, and what takes commands."""
        return self.services.node

    @property
    def app(self) -> Flask:
        """The app this transport serves.

        :raises ConfigurationError: before :meth:`init_app`.
        """
        return self.node.app

    @property
    def settings(self) -> Settings:
        """The settings, as they were read by :meth:`init_app`."""
        return self.node.settings

    @property
    def hub(self) -> Hub:
        """Clients, rooms and streams."""
        return self.node.hub

    @property
    def log(self) -> EventLog:
        """The events that are retained."""
        return self.node.log

    def serves(self, app: Flask) -> bool:
        """Return true if this is the transport of an app, or serves none yet.

        :param app: the app.
        """
        return self._services is None or self.app is app

    def adopt(self, host: Any) -> None:
        """Use the governor of a host.

        :param host: the object that the app belongs to; its ``governor`` is read when a command comes.
        """
        self._host = host

    def _find_governor(self) -> Any:
        return self.governor if self.governor is not None else getattr(self._host, "governor", None)

    # -- events out, clients in ------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any, to: Hashable | Iterable[Hashable] = None, namespace: str | None = None,
             skip_sid: Hashable | Iterable[Hashable] = None, callback: Callback | None = None) -> None:
        """Send an event. Waits for no client. In profile DUAL the host's own clients get it as well, a moment later.

        :param event: the event's name.
        :param args: its arguments: JSON values and ``bytes``.
        :param to: a room, a ``sid``, or a list, tuple or set of them; ``None`` and ``"/"`` mean everybody.
        :param namespace: the namespace; ``None`` means ``/``.
        :param skip_sid: a ``sid`` that does not get it, or a list, tuple or set of them.
        :param callback: called with what a client acknowledges the event with, in the thread of that request; once for
            each client that does.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large.
        :raises ConfigurationError: before :meth:`init_app`.
        """
        self.node.publisher.send(event, args, Target.create(namespace, to, skip_sid), callback)

    def bridge(self, signal: blinker.Signal, event: str, *, to: Hashable | Iterable[Hashable] = None,
               namespace: str | None = None) -> Callable[[], None]:
        """Emit an event whenever a signal is sent, with the signal's keywords as the payload.

        :param signal: the signal.
        :param event: the event's name.
        :param to: a room, a ``sid``, or a list, tuple or set of them; ``None`` means everybody.
        :param namespace: the namespace; ``None`` means ``/``.
        :return: a function that ends this.
        """
        return self.node.publisher.bridge(signal, event, to=to, namespace=namespace)

    def authorize(self, decide: Decision) -> Decision:
        """Have a function of the application decide what clients may do. Usable as a decorator.

        It is called with an :class:`~hakgal_hybrid.commands.authorization.AuthorizationRequest`, in the thread of the
        request, and must return something true to allow it. If it returns ``None`` or raises, the request is refused.
        It is called after key, ticket and token were checked, and not for clients of a host's own WebSocket.

        :param decide: the function.
        :return: the same function.
        :raises ConfigurationError: if another function decides already.
        """
        self._authorizer.use(decide)
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
        """End every stream with a farewell."""
        self.node.stop()

    def statistics(self) -> Statistics:
        """Return a snapshot of everything that is counted."""
        return snapshot(self.node, self.services.backlog, self.mode)


def _secret_keys(app: Flask) -> list[bytes]:
    """Return the keys that the app signs with, the current one last, as itsdangerous takes them."""
    if not app.secret_key:
        return []
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
    return [key.encode() if isinstance(key, str) else key for key in keys]
