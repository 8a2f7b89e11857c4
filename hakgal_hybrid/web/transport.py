"""Transport: one app, the node that serves its clients, and our URLs in it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

import blinker
from flask import Flask
from werkzeug.exceptions import HTTPException

from ..broker.client import Client
from ..broker.event import Target
from ..broker.hub import Hub
from ..broker.journal import JournalStatistics
from ..broker.log import EventLog
from ..commands.acks import Callback
from ..commands.authorization import Authorizer, Decision
from ..commands.handlers import Handlers
from ..commands.node import Node
from ..errors import ConfigurationError
from ..logs import LIMIT, redact_server_logs
from ..monitoring.backlog import BacklogMonitor
from ..monitoring.patching import patched
from ..monitoring.samples import SampleHistory, sample
from ..monitoring.statistics import Statistics
from ..settings import Profile, Settings, load_settings
from . import assets, clients, control, diagnosis, gate, monitor, openapi, stream
from .ratelimit import RateLimiter
from .services import Services
from .stream_body import StreamBody
from .tickets import Tickets, is_signed

T = TypeVar("T", bound="Transport")

KEY = "hakgal_hybrid"
_OURS = "hakgal_hybrid_"


class Transport:
    """Server-Sent Events and HTTP commands for one Flask app: what :class:`.HybridTransport` is, hosts left out.

    :param governor: the object ``POST /api/governor/control`` talks to, if it is not the host's own ``governor``.
    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over ``app.config`` and environment.
    :ivar handlers: what the host registered; may be filled before :meth:`init_app`.
    :ivar mode: ``sse``; ``websocket`` where the host kept its own WebSocket, ``dual`` where it serves both.
    :ivar face: the object in the shape of Flask-SocketIO's ``SocketIO`` that serves this app, once there is one.
    """

    def __init__(self, *, governor: Any = None, **settings: Any) -> None:
        self.handlers = Handlers()
        self.governor = governor
        self.mode = "sse"
        self.face: Any = None
        self._authorizer = Authorizer()
        self._overrides = settings
        self._host: Any = None
        self._services: Services | None = None

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
        """Read the settings, freeze them, and register our routes. In profile WEBSOCKET nothing is registered.

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
        backlog = BacklogMonitor(node.hub)
        backlog.on_sample = self._remember
        self._services = Services(node, Tickets(lambda: _secret_keys(app)), RateLimiter(settings.command_rate),
                                  backlog, SampleHistory(), self.statistics)
        app.extensions[KEY] = self
        if settings.profile is not Profile.WEBSOCKET:
            self._register(app, self._services)

    def _register(self, app: Flask, services: Services) -> None:
        node, settings = services.node, services.node.settings
        views = [monitor.blueprint(services), assets.blueprint(), diagnosis.blueprint(services),
                 openapi.blueprint(self._is_ours)]
        if settings.enable_sse:
            views += [stream.blueprint(services), clients.blueprint(services)]
        if settings.enable_control_http:
            views.append(control.blueprint(services))
        if settings.enable_ws_special:
            from .websocket import view as websocket  # only then: it imports flask-sock

            views.append(websocket.blueprint(services))
        for view in views:
            app.register_blueprint(view)
        self.refuse_conflicts()
        app.wsgi_app = gate.Gate(  # type: ignore[method-assign]
            app.wsgi_app, settings, ours=self._is_ours, known_as=lambda: app.config["SERVER_NAME"] or "",
            knows_ticket=self._knows_ticket, rate=services.rate, refusals=node.refusals,
            body=partial(StreamBody, services), left=node.lifecycle.stream_left)
        redact_server_logs()

    def _knows_ticket(self, ticket: str, query: str) -> bool:
        if is_signed(ticket):
            return self.services.tickets.admits(ticket, query)
        return self.hub.sessions.find(ticket) is not None

    def refuse_conflicts(self) -> None:
        """Check that nobody else owns one of our URLs. The host calls it again when its own routes are complete.

        :raises ConfigurationError: naming the URL, the host's endpoint and ours.
        """
        rules = list(self.app.url_map.iter_rules())
        ours = {rule.rule: rule.endpoint for rule in rules if rule.endpoint.startswith(_OURS)}
        for rule in rules:
            if rule.rule in ours and not rule.endpoint.startswith(_OURS):
                raise ConfigurationError(f"the host's endpoint {rule.endpoint!r} owns {rule.rule}, which "
                                         f"hakgal_hybrid needs for {ours[rule.rule]!r}; move the host's route")

    def _is_ours(self, path: str) -> bool:
        """True if the URL leads to one of the views that were registered (some are left out by settings)."""
        adapter = self.app.url_map.bind("localhost")
        for method in ("GET", "POST"):
            try:
                endpoint, _ = adapter.match(path, method)
            except HTTPException:
                continue
            return str(endpoint).startswith(_OURS)
        return False

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
        """True if this is the transport of ``app``, or may still become it."""
        return self._services is None or self.app is app

    def adopt(self, host: Any) -> None:
        """Remember the host whose app this is: its governor is found there."""
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
        """Emit ``event`` whenever ``signal`` is sent, with the signal's keywords as its payload.

        :return: a function that ends it.
        """
        return self.node.publisher.bridge(signal, event, to=to, namespace=namespace)

    def authorize(self, decide: Decision) -> Decision:
        """Have a function of the application decide what clients may do. Usable as a decorator.

        It is called with an :class:`~hakgal_hybrid.commands.authorization.AuthorizationRequest`, in the thread of the
        request, and must return something true to allow it: what it returns nothing for is refused, and so is
        everything when it raises. It is asked after key, ticket and token, about clients of this transport: not about
        those of a host's own WebSocket.

        :raises ConfigurationError: if another function decides already.
        """
        self._authorizer.use(decide)
        return decide

    def disconnect(self, who: str | Callable[[Client], bool]) -> int:
        """End clients for good: their streams, their tickets and what they could come back to.

        A stream gets what was emitted before, then ``hybrid_disconnect``, and ends with its last client. The
        ``disconnect`` handlers run in the background.

        :param who: a ``sid``, or what returns true for each client that shall go.
        :return: how many clients that were; 0 for a ``sid`` that nobody has.
        """
        return self.node.lifecycle.disconnect(who)

    # -- running and watching --------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every stream with a farewell."""
        self.node.stop()

    def _remember(self) -> None:
        """Add to the history when it is time."""
        if self.services.samples.due(time.monotonic()):
            self.services.samples.add(sample(int(time.time() * 1000), dataclasses.asdict(self.statistics())))

    def statistics(self) -> Statistics:
        """Return a snapshot of everything that is counted."""
        node, log = self.node, self.node.log
        undelivered, undelivered_max, _ = self.services.backlog.cached()
        return Statistics(
            profile=node.settings.profile.value, transport=self.mode, epoch=log.epoch,
            uptime_s=round(time.time() - node.started_at, 3),
            streams=node.hub.sessions.open, clients=len(node.hub.clients()), refused=node.hub.sessions.refused,
            acks_waiting=len(node.acks), acks_dropped=node.acks.dropped,
            oldest=log.id_of(log.oldest), newest=log.id_of(log.newest), log=log.statistics(),
            journal=JournalStatistics() if node.journal is None else node.journal.statistics(),
            traffic=node.hub.traffic(), commands_waiting=node.governor_queue.waiting,
            receiver_errors=node.announcer.errors, slow_receivers=node.announcer.slow,
            unsent=0 if node.publisher.mirror is None else node.publisher.mirror.unsent,
            oldest_undelivered_s=undelivered, oldest_undelivered_max_s=undelivered_max, patched=patched(),
            warnings_suppressed=LIMIT.suppressed, refusals=node.refusals.snapshot(),
            server=node.server_statistics())


def _secret_keys(app: Flask) -> list[bytes]:
    """Return the keys that the app signs with, the current one last, as itsdangerous takes them."""
    if not app.secret_key:
        return []
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
    return [key.encode() if isinstance(key, str) else key for key in keys]
