"""HybridTransport: the Flask extension, and the only place where the parts meet."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import blinker
from flask import Flask
from werkzeug.exceptions import HTTPException

from . import signals
from .broker.counters import Refusals
from .broker.envelope import encode_entry
from .broker.epochs import Record, RestoredHistory
from .broker.event import Event, Target, glob_matcher
from .broker.hub import Hub
from .broker.journal import Journal, JournalStatistics
from .broker.log import EventLog
from .broker.sessions import SessionRegistry
from .commands import Handlers
from .commands.acks import Acks, Callback
from .commands.authorization import Authorizer
from .commands.governor import Command, GovernorQueue
from .commands.lifecycle import ClientLifecycle
from .commands.worker import Worker
from .errors import ConfigurationError, EventError
from .logs import LIMIT, get_logger, redact_server_logs
from .monitoring.backlog import BacklogMonitor
from .monitoring.patching import patched
from .monitoring.samples import SampleHistory, sample
from .monitoring.statistics import Statistics
from .settings import Profile, Settings, load_settings
from .web import assets, clients, control, diagnosis, gate, monitor, openapi, stream
from .web.ratelimit import RateLimiter
from .web.stream_body import StreamBody
from .web.tickets import Tickets, is_signed

if TYPE_CHECKING:
    from .socketio import SocketIO
    from .socketio.bridge import DualBridge

logger = get_logger(__name__)

KEY = "hakgal_hybrid"
_OURS = "hakgal_hybrid_"


class HybridTransport(ClientLifecycle):
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
        self.authority = Authorizer()
        self.refusals = Refusals()
        self.acks = Acks()
        #: Which namespaces clients may connect to besides those with handlers; ``"*"``: to any.
        self.namespaces: frozenset[str] | Literal["*"] = "*"
        #: A host's own JSON module (``dumps`` and ``loads``), or ``None`` for the standard library's.
        self.json: Any = None
        self.stopping = False
        self.governor = governor
        self.mode = "sse"
        self.on_gap = self.client_lagged  # one bound method for all streams
        self.server_statistics: Callable[[], dict[str, Any]] = dict
        self._overrides = settings
        self._app: Flask | None = None
        self._host: Any = None
        self._socketio: SocketIO | None = None
        #: In profile DUAL, what binds this transport to the host's own server.
        self.twins: DualBridge | None = None
        #: What keeps events over restarts, if ``HYBRID_JOURNAL`` says so.
        self.journal: Journal | None = None
        if app_or_api is None:
            return
        if isinstance(app_or_api, Flask):
            self.init_app(app_or_api)
            return
        from .host.hybridize import attach  # below us: only a host needs it

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
        LIMIT.forget()  # what an earlier app has said too often, this one has not
        # Whatever runs foreign code on behalf of nobody's request: receivers about clients, and disconnect handlers, of
        # which one that hangs must not hold up the others.
        self._background = Worker("hakgal-hybrid-background", limit=100_000)
        self._goodbyes = Worker("hakgal-hybrid-goodbyes", limit=100_000, threads=8)
        epoch, past = int(self.started_at * 1000), RestoredHistory()
        records: list[Record] = []
        if settings.journal is not None and settings.profile is not Profile.WEBSOCKET:
            self.journal = Journal(
                settings.journal, flush_s=settings.journal_flush_ms / 1000, max_bytes=settings.journal_max_bytes,
                max_age_s=settings.journal_max_age_s, degraded=partial(self.degraded, "journal_degraded"),
                wall_ms=lambda: int(time.time() * 1000))
            epoch, past, records = self.journal.begin(epoch, max_events=settings.log_events,
                                                      max_bytes=settings.log_bytes)
        self.log = EventLog(
            epoch=epoch, clock=time.monotonic, wall_ms=lambda: int(time.time() * 1000),
            encode=encode_entry, max_events=settings.log_events, max_bytes=settings.log_bytes,
            max_event_bytes=settings.max_event_bytes, conflates=glob_matcher(settings.conflate))
        sessions = SessionRegistry(self._lapsed, max_streams=settings.max_streams,
                      max_per_address=settings.max_streams_per_address, connect_s=settings.connect_s,
                      resume_s=settings.resume_s)
        self.tickets = Tickets(lambda: _secret_keys(app))
        self.rate = RateLimiter(settings.command_rate)
        self.hub = Hub(self.log, self._announcer, sessions, max_clients=settings.max_clients)
        self.log.inherit(past, records)
        if self.journal is not None:
            self.journal.follow(self.log)
            self.hub.add_waker(self.journal.ring)
        self.observer = BacklogMonitor(self.hub)
        self.observer.looked = self._remember
        self.history = SampleHistory()
        self.governor_queue = GovernorQueue(
            self._find_governor, queue_limit=settings.command_queue, results=settings.command_results,
            on_received=lambda command: self._announcer.announce(signals.command_received, command=command),
            on_finished=self._command_finished)

    def _register(self, app: Flask) -> None:
        views = [monitor.blueprint(self), assets.blueprint(), diagnosis.blueprint(self),
                 openapi.blueprint(self._is_ours)]
        if self.settings.enable_sse:
            views += [stream.blueprint(self), clients.blueprint(self)]
        if self.settings.enable_control_http:
            views.append(control.blueprint(self))
        if self.settings.enable_ws_special:
            from .web.websocket import view as websocket  # only then: it imports flask-sock

            views.append(websocket.blueprint(self))
        for view in views:
            app.register_blueprint(view)
        self.refuse_conflicts()
        app.wsgi_app = gate.Gate(  # type: ignore[method-assign]
            app.wsgi_app, self.settings, ours=self._is_ours, known_as=lambda: app.config["SERVER_NAME"] or "",
            knows_ticket=self._knows_ticket, rate=self.rate, refusals=self.refusals,
            body=partial(StreamBody, self), left=self.stream_left)
        redact_server_logs()

    def _knows_ticket(self, ticket: str, query: str) -> bool:
        return self.tickets.admits(ticket, query) if is_signed(ticket) else self.hub.sessions.find(ticket) is not None

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
        self.emit_args(event, args, to, namespace, skip_sid, callback)

    def emit_args(self, event: str, args: tuple[Any, ...], to: Any, namespace: str | None, skip_sid: Any,
                  callback: Callback | None) -> None:
        """Do what :meth:`emit` does, for whoever has the arguments in a tuple already: nothing is packed anew."""
        sent = self.emit_here(event, args, to, namespace, skip_sid, callback)
        if self.twins is not None:
            self.twins.mirror(sent, callback)

    def emit_here(self, event: str, args: tuple[Any, ...], to: Any, namespace: str | None, skip_sid: Any,
                  callback: Callback | None) -> Event:
        """Do that for the clients of this transport only; return what was sent."""
        if self._app is None:
            _ = self.app  # says what is missing
        ack = None if callback is None else self.acks.expect(callback, once=self.hub.client(to) is not None)
        try:
            sent = Event.create(event, args, Target.create(namespace, to, skip_sid), ack=ack,
                                dumps=None if self.json is None else self.json.dumps)
            entry = self.hub.publish(sent)
            if ack is not None and entry is not None:
                self.acks.sent(ack, lambda client: client.is_for(entry.seq, sent.target))
        except BaseException as error:
            if ack is not None:
                self.acks.take_back(ack)
            if isinstance(error, EventError):
                self.refusals.count(error.code)
            raise
        return sent

    def bridge(self, signal: blinker.Signal, event: str, *, to: Hashable | Iterable[Hashable] = None,
               namespace: str | None = None) -> Callable[[], None]:
        """Emit ``event`` whenever ``signal`` is sent, with the signal's keywords as its payload.

        :return: a function that ends it.
        """
        return self._announcer.bridge(signal, lambda values: self.emit(event, values, to=to, namespace=namespace))

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

    def _remember(self) -> None:
        """Add to the history when it is time."""
        if self.history.due(time.monotonic()):
            self.history.add(sample(int(time.time() * 1000), dataclasses.asdict(self.statistics())))

    def statistics(self) -> Statistics:
        """Return a snapshot of everything that is counted."""
        log = self.log
        undelivered, undelivered_max, _ = self.observer.glance()
        return Statistics(
            profile=self.settings.profile.value, transport=self.mode, epoch=log.epoch,
            uptime_s=round(time.time() - self.started_at, 3),
            streams=self.hub.sessions.open, clients=len(self.hub.clients()), refused=self.hub.sessions.refused,
            acks_waiting=len(self.acks), acks_dropped=self.acks.dropped,
            oldest=log.id_of(log.oldest), newest=log.id_of(log.newest), log=log.statistics(),
            journal=JournalStatistics() if self.journal is None else self.journal.statistics(),
            traffic=self.hub.traffic(), commands_waiting=self.governor_queue.waiting,
            receiver_errors=self._announcer.errors, slow_receivers=self._announcer.slow,
            unsent=0 if self.twins is None else self.twins.unsent,
            oldest_undelivered_s=undelivered, oldest_undelivered_max_s=undelivered_max, patched=patched(),
            warnings_suppressed=LIMIT.suppressed, refusals=self.refusals.snapshot(),
            server=self.server_statistics())


def _secret_keys(app: Flask) -> list[bytes]:
    """Return the keys that the app signs with, the current one last, as itsdangerous takes them."""
    if not app.secret_key:
        return []
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
    return [key.encode() if isinstance(key, str) else key for key in keys]
