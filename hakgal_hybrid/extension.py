"""HybridTransport: the Flask extension, and the only place where the parts meet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import blinker
from flask import Flask
from werkzeug.exceptions import HTTPException

from . import signals
from .acks import Acks, Callback
from .client import Client
from .commands import Command, GovernorDesk, Worker
from .errors import AccessDenied, ConfigurationError
from .event import Event, glob_matcher
from .feed import Feed, encode_entry
from .handlers import Handlers
from .hub import Hub, Traffic
from .link import Link, Links
from .log import EventLog, Gap, LogStatistics
from .settings import Profile, Settings, load_settings
from .views import assets, clients, control, gate, monitor, stream

if TYPE_CHECKING:
    from .socketio import SocketIO
    from .socketio.routing import Twins

logger = logging.getLogger(__name__)

KEY = "hakgal_hybrid"
#: Ways in which a stream ends that leave nobody who could come back.
_FINAL = ("stopped", "refused")
_OURS = "hakgal_hybrid_"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Everything that is counted, at one moment. ``GET /api/hybrid/status`` shows it as JSON.

    :ivar transport: ``sse``; ``websocket`` where the host kept its own WebSocket, ``dual`` where it serves both.
    :ivar unsent: in profile DUAL, events that one side could not be given.
    :ivar streams: open streams; ``refused``: streams that a limit kept out.
    :ivar clients: clients, those that may come back included; a stream may carry several.
    :ivar acks_waiting: events whose acknowledgement is waited for; ``acks_dropped``: those that gave way to others.
    :ivar oldest: id of the oldest event that can be had; ``newest``: of the newest.
    :ivar receiver_errors: blinker receivers that raised; ``slow_receivers``: that took over 100 ms.
    :ivar server: what the serving side counts, while it runs.
    """

    profile: str
    transport: str
    epoch: int
    uptime_s: float
    streams: int
    clients: int
    refused: int
    acks_waiting: int
    acks_dropped: int
    oldest: str
    newest: str
    log: LogStatistics
    traffic: Traffic
    commands_waiting: int
    receiver_errors: int
    slow_receivers: int
    unsent: int
    server: dict[str, Any]


class HybridTransport:
    """Server-Sent Events and HTTP commands for one Flask app.

    :param app_or_api: a Flask app, or a finished host (an object whose ``app`` is a Flask app) that was built with
        ``enable_websocket=False`` and now gets its adapter. May be left out; call :meth:`init_app` then.
    :param governor: the object ``POST /api/governor/control`` talks to, if it is not the host's own ``governor``.
    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over ``app.config`` and environment.

    One transport serves one app, because emitting needs no app context; make one transport for each app.

    .. versionadded:: 0.1
    """

    def __init__(self, app_or_api: Any = None, *, governor: Any = None, **settings: Any) -> None:
        self.handlers = Handlers()
        self.acks = Acks()
        #: Which namespaces clients may connect to besides those with handlers; ``"*"``: to any.
        self.namespaces: frozenset[str] | Literal["*"] = "*"
        #: A host's own JSON module (``dumps`` and ``loads``), or ``None`` for the standard library's.
        self.json: Any = None
        self.stopping = False
        self.governor = governor
        self.mode = "sse"
        self.server_statistics: Callable[[], dict[str, Any]] = dict
        self._overrides = settings
        self._app: Flask | None = None
        self._host: Any = None
        self._socketio: SocketIO | None = None
        #: In profile DUAL, what binds this transport to the host's own server.
        self.twins: Twins | None = None
        if app_or_api is None:
            return
        if isinstance(app_or_api, Flask):
            self.init_app(app_or_api)
            return
        from .host import attach  # below us: only a host needs it

        attach(self, app_or_api)

    @classmethod
    def of(cls, app: Flask) -> HybridTransport:
        """Return the transport of an app.

        :raises ConfigurationError: if it has none.
        """
        transport = app.extensions.get(KEY)
        if not isinstance(transport, cls):
            raise ConfigurationError(f"{app!r} has no HybridTransport; make one with HybridTransport(app)")
        return transport

    # -- setting up ------------------------------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Read the settings, freeze them, and register our routes. In profile WEBSOCKET nothing is registered.

        :raises ConfigurationError: for a setting that is not accepted, an app that has a transport already, or one
            that owns one of our URLs.
        """
        if self._app is not None:
            raise ConfigurationError(f"this HybridTransport already serves {self._app!r}; make another one for {app!r}")
        if KEY in app.extensions:
            raise ConfigurationError(f"{app!r} already has a HybridTransport; use HybridTransport.of(app)")
        self.settings: Settings = load_settings(app.config, **self._overrides)
        self._app = app
        self._build()
        app.extensions[KEY] = self
        if self.settings.profile is not Profile.WEBSOCKET:
            self._register(app)
        if self.settings.profile is Profile.DUAL:
            from .socketio.dual import join  # below us, and only for this profile

            join(self)

    def _build(self) -> None:
        settings, app = self.settings, self.app
        self.started_at = time.time()
        self._announcer = signals.Announcer(app)
        self.log = EventLog(
            epoch=int(self.started_at * 1000), clock=time.monotonic, wall_ms=lambda: int(time.time() * 1000),
            encode=encode_entry, max_events=settings.log_events, max_bytes=settings.log_bytes,
            max_event_bytes=settings.max_event_bytes, conflates=glob_matcher(settings.conflate))
        links = Links(self._lapsed, max_streams=settings.max_streams,
                      max_per_address=settings.max_streams_per_address, connect_s=settings.connect_s,
                      resume_s=settings.resume_s)
        self.hub = Hub(self.log, self._announcer, links, max_clients=settings.max_clients)
        # Whatever runs foreign code on behalf of nobody's request: disconnect handlers, receivers about clients.
        self._background = Worker("hakgal-hybrid-background", limit=100_000)
        self.governor_desk = GovernorDesk(
            self._find_governor, queue_limit=settings.command_queue, results=settings.command_results,
            on_received=lambda command: self._announcer.announce(signals.command_received, command=command),
            on_finished=self._command_finished)

    def _register(self, app: Flask) -> None:
        views = [monitor.blueprint(self), assets.blueprint()]
        if self.settings.enable_sse:
            views += [stream.blueprint(self), clients.blueprint(self)]
        if self.settings.enable_control_http:
            views.append(control.blueprint(self))
        if self.settings.enable_ws_special:
            from .views import websocket  # only then: it imports flask-sock

            views.append(websocket.blueprint(self))
        for view in views:
            app.register_blueprint(view)
        self.refuse_conflicts()
        app.wsgi_app = gate.Gate(  # type: ignore[method-assign]
            app.wsgi_app, self.settings, ours=self._is_ours, known_as=lambda: app.config["SERVER_NAME"] or "",
            knows_ticket=lambda ticket: self.hub.links.find(ticket) is not None,
            body=partial(stream.StreamBody, self), left=self.stream_left)

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

    @property
    def app(self) -> Flask:
        """The app this transport serves.

        :raises ConfigurationError: before :meth:`init_app`.
        """
        if self._app is None:
            raise ConfigurationError("this HybridTransport serves no app yet; call init_app(app) first")
        return self._app

    @property
    def socketio(self) -> SocketIO:
        """The Flask-SocketIO shaped face of this transport."""
        if self._socketio is None:
            from .socketio import SocketIO  # below us: it is built on this class

            self._socketio = SocketIO.over(self)
        return self._socketio

    def adopt(self, host: Any) -> None:
        """Remember the host whose app this is: its governor is found there."""
        self._host = host

    # -- events out ------------------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any, to: Hashable | Iterable[Hashable] = None, namespace: str | None = None,
             skip_sid: Hashable | Iterable[Hashable] = None, callback: Callback | None = None) -> None:
        """Send an event to everybody, or to a room or ``sid`` (or several). Never waits for a client.

        In profile DUAL the host's own clients get it as well, a moment later.

        :param args: JSON values and ``bytes``.
        :param callback: called with what a client acknowledges the event with, in the thread of that request; once for
            each client that does.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large.
        :raises ConfigurationError: before :meth:`init_app`.
        """
        sent = self.emit_here(event, *args, to=to, namespace=namespace, skip_sid=skip_sid, callback=callback)
        if self.twins is not None:
            self.twins.mirror(sent, callback)

    def emit_here(self, event: str, *args: Any, to: Any, namespace: str | None, skip_sid: Any,
                  callback: Callback | None) -> Event:
        """Send an event as :meth:`emit` does, to clients of this transport only; return what was sent."""
        _ = self.app  # says what is missing before init_app
        ack = None if callback is None else self.acks.expect(callback, once=self.hub.client(to) is not None)
        try:
            sent = Event.create(event, args, namespace=namespace, to=to, skip=skip_sid, ack=ack,
                                dumps=None if self.json is None else self.json.dumps)
            self.hub.publish(sent)
        except BaseException:
            if ack is not None:
                self.acks.take_back(ack)
            raise
        return sent

    def bridge(self, signal: blinker.Signal, event: str, *, to: Hashable | Iterable[Hashable] = None,
               namespace: str | None = None) -> Callable[[], None]:
        """Emit ``event`` whenever ``signal`` is sent, with the signal's keywords as its payload.

        :return: a function that ends it.
        """
        return self._announcer.bridge(signal, lambda values: self.emit(event, values, to=to, namespace=namespace))

    # -- clients ---------------------------------------------------------------------------------------------

    def open_client(self, environ: dict[str, Any], namespace: str, auth: Any = None, *,
                    link: Link | None = None) -> Client:
        """Admit a client and run the host's ``connect`` handler for it.

        :param link: the stream that shall carry it; by default one is made, which waits to be opened.
        :raises AccessDenied: if the handler refused it, or nobody may connect to this namespace. No client remains.
        :raises Overloaded: if there is no place.
        """
        if self.namespaces != "*" and namespace not in self.namespaces and not self.handlers.serves(namespace):
            raise AccessDenied("Unable to connect", code="unknown_namespace")
        own = link is None
        link = self.hub.new_link(environ) if link is None else link
        try:
            client = self.hub.admit(link, environ, namespace)
            try:
                self.handlers.connect(self.app, client, auth)
            except BaseException:
                self.hub.forget(client)
                raise
        except BaseException:
            if own:
                self.hub.links.drop(link)
            raise
        self._later(signals.client_connected, client=client)
        return client

    def end_client(self, client: Client, reason: str, *, wait: bool = False) -> None:
        """End a client now. May be called repeatedly.

        :param reason: what its ``disconnect`` handler is told; see ``SocketIO.reason``.
        :param wait: true to run that handler in the calling thread, false in the background.
        """
        if not self.hub.end(client, reason):
            return
        if client.link is not None and not client.link.clients:
            self.hub.links.drop(client.link)
        run = partial(self.handlers.disconnect, self.app, client, reason)
        if wait:
            run()
        elif not self._background.submit(run):
            logger.error("the disconnect handler of %s does not run: too much waits in the background", client.sid)
        self._later(signals.client_gone, client=client, reason=reason)

    def stream_left(self, feed: Feed, reason: str) -> None:
        """A stream has ended. Its clients may come back for a while, unless nothing is left to come back to.

        May be called repeatedly.

        :param reason: as counted in the status: ``gone``, ``closed``, ``stalled``, ``stopped`` and so on.
        """
        if not self.hub.links.let_go(feed.link, feed):
            return
        self.hub.count_end(reason)
        if reason in _FINAL or not feed.link.clients:
            self.hub.links.lapse(feed.link)

    def _lapsed(self, link: Link) -> None:
        for client in link.clients:
            self.end_client(client, "ping timeout" if not link.opened else "transport close")

    def acknowledge(self, client: Client, ack: object, args: list[Any]) -> None:
        """Take a client's acknowledgement: call the callback of the event.

        :raises RequestError: 404 if none is expected under this id.
        """
        self.acks.answer(ack, client.sid, args)

    def client_lagged(self, client: Client, gap: Gap) -> None:
        """A client is being told of a gap."""
        self._later(signals.client_lagged, client=client, gap=gap)

    def degraded(self, reason: str) -> None:
        """A bound was hit and somebody was turned away; ``reason`` is the problem's code."""
        self._later(signals.transport_degraded, reason=reason)

    def dispatch(self, client: Client, event: str, args: tuple[Any, ...],
                 begin: Callable[[], None] = lambda: None) -> Any:
        """Run the host's handler of an event in the name of ``client``; return what it returns.

        :param begin: called right before the handler is.
        """
        return self.handlers.dispatch(self.app, client, event, args, begin)

    def _later(self, signal: blinker.NamedSignal, **values: Any) -> None:
        """Send a signal from the background thread: the loop that noticed must not run anybody's receivers."""
        if signal.receivers and not self._background.submit(partial(self._announcer.announce, signal, **values)):
            logger.error("signal %r was not sent: too many are waiting", signal.name)

    # -- governor --------------------------------------------------------------------------------------------

    def _find_governor(self) -> Any:
        return self.governor if self.governor is not None else getattr(self._host, "governor", None)

    def _command_finished(self, command: Command, status: dict[str, Any] | None) -> None:
        self._announcer.announce(signals.command_finished, command=command)
        if command.action != "status":
            self.emit("control_result", command.report())
            if status is not None:
                self.emit("governor_update", status)

    # -- running and watching --------------------------------------------------------------------------------

    def run(self, host: str | None = None, port: int | None = None, **options: Any) -> None:
        """Serve the app with our own server until stopped; see :meth:`hakgal_hybrid.socketio.SocketIO.run`."""
        self.socketio.run(self.app, host, port, **options)

    def stop(self) -> None:
        """End every stream with a farewell."""
        self.stopping = True
        self.hub.wake()

    def statistics(self) -> Statistics:
        """Return a snapshot of everything that is counted."""
        log = self.log
        return Statistics(
            profile=self.settings.profile.value, transport=self.mode, epoch=log.epoch,
            uptime_s=round(time.time() - self.started_at, 3),
            streams=self.hub.links.open, clients=len(self.hub.clients()), refused=self.hub.links.refused,
            acks_waiting=len(self.acks), acks_dropped=self.acks.dropped,
            oldest=log.id_of(log.oldest), newest=log.id_of(log.newest), log=log.statistics(),
            traffic=self.hub.traffic(), commands_waiting=self.governor_desk.waiting,
            receiver_errors=self._announcer.errors, slow_receivers=self._announcer.slow,
            unsent=0 if self.twins is None else self.twins.unsent,
            server=self.server_statistics())
