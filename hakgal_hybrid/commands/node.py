"""Node: what serves the clients of one app, built of its settings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Flask

from .. import signals
from ..broker.blocks import encode_entry
from ..broker.broker import Broker
from ..broker.client import Session
from ..broker.counters import Refusals
from ..broker.engineio.counters import EngineCounters
from ..broker.engineio.session import EngineSession
from ..broker.engineio.upper import EngineOptions
from ..broker.epochs import Record, RestoredHistory
from ..broker.event import Event, glob_matcher
from ..broker.forks import fork_aware
from ..broker.hub import Hub
from ..broker.journal import Journal
from ..broker.log import EventLog
from ..broker.payload import foreign_text, payload_text
from ..broker.segments import Segments
from ..broker.sessions import SessionRegistry
from ..broker.shared_broker import SharedBroker
from ..broker.states import SessionState
from ..broker.subscription import StreamOptions
from ..settings import Profile, Settings
from ..settings.backplane_url import without_secret
from .acks import Acks
from .announcing import MAX_WAITING, BackgroundAnnouncer
from .app_json import default_of
from .authorization import Authorizer
from .backplane.building import connect_to, limits_of, log_name, uses_backplane
from .backplane.neighbours import Neighbours, Parts
from .command_store import Command
from .governor import GovernorQueue
from .handlers import Handlers
from .lifecycle import ClientLifecycle
from .publisher import Encode, Publisher

#: Of how many of the host's threads one may be held by a numbered event that waits for those before it.
EARLY_SHARE = 4
#: How many such events may wait where another server has the threads. How many those are is not known; waitress has 4.
EARLY_ELSEWHERE = 3
#: At how many paths an app may be mounted, with clients of Socket.IO. It has one or two.
MAX_MOUNTS = 8


class Node:
    """The log, the hub and everything around them, of one app. It knows nothing of URLs.

    :param app: the app whose handlers run.
    :param settings: frozen.
    :param handlers: what the host registered.
    :param authorizer: has the application decide what clients may do.
    :param governor: returns the governor, or ``None``.
    :param max_waiting: how many signals, and how many ``disconnect`` handlers, may wait in the background.
    :ivar publisher: emits.
    :ivar lifecycle: lets clients in, and ends them.
    :ivar governor_queue: takes commands for the governor.
    :ivar journal: keeps events over restarts, if ``HYBRID_JOURNAL`` says so.
    :ivar neighbours: what this process does for the others of its backplane, if there is one.
    :ivar requests: passes requests of clients on to the process that has them, with a backplane.
    :ivar backplane: publishes to the log of several processes, if ``HYBRID_BACKPLANE`` says so.
    :ivar json: the host's own JSON module (``dumps`` and ``loads``), or ``None`` for the standard library's.
    :ivar encode: returns the JSON text of events, acknowledgements and answers of handlers; see :func:`.payload_text`.
    :ivar host_socketio: true where the host serves clients of Socket.IO by a server of its own.
    :ivar engine_options: what all sessions of Engine.IO have in common.
    :ivar engine_counters: counts sessions of Engine.IO and what happens to them.
    :ivar engine_session: returns a session of Engine.IO by its id, or ``None``.
    :ivar on_stop: called when every stream shall end.
    :ivar early: has a unit for each numbered event that may wait in a thread of our server's for those before it.
    :ivar early_elsewhere: the same for another server, which may have few threads.
    :ivar serving: true once a server has had requests of clients answered in this process.
    :ivar stopping: true once every stream shall end.
    :ivar server_statistics: returns what the serving side counts, while it runs.
    """

    def __init__(self, app: Flask, settings: Settings, handlers: Handlers, authorizer: Authorizer,
                 governor: Callable[[], Any], *, max_waiting: int = MAX_WAITING) -> None:
        self.app, self.settings, self.handlers, self.authorizer = app, settings, handlers, authorizer
        self.started_at = time.time()
        self.serving = self.stopping = False
        self.server_statistics: Callable[[], dict[str, Any]] = dict
        self.refusals = Refusals()
        self.engine_counters = EngineCounters()
        self.engine_session: Callable[[str], EngineSession | None] = lambda sid: None
        self.on_stop: Callable[[], object] = lambda: None
        self.early = threading.Semaphore(max(1, settings.threads // EARLY_SHARE))
        self.early_elsewhere = threading.Semaphore(EARLY_ELSEWHERE)
        self.json: Any = None
        self.host_socketio = False
        self._engineio_paths: frozenset[str] = frozenset()
        self.engine_options = EngineOptions(path=settings.prefix + EngineOptions().path)
        self.encode: Encode = partial(payload_text, default=default_of(app))
        self.acks = Acks()
        self.announcer = signals.Announcer(app)
        self._background = BackgroundAnnouncer(self.announcer, self.refusals, max_waiting=max_waiting)
        self.journal: Journal | None = None
        self.backplane: SharedBroker | None = None
        self.hub = self._build_hub()
        self.stream_options = StreamOptions(settings.profile.value, settings.retry_ms, settings.heartbeat_s,
                                            settings.max_backlog_s, settings.interval_ms)
        self.log = self.hub.log
        self.publisher = Publisher(self.hub.broker, self.acks, self.refusals, self.encode)
        self.lifecycle = ClientLifecycle(app, settings, self.hub, handlers, authorizer, self._background,
                                         self.refusals, max_waiting=max_waiting)
        self.governor_queue = GovernorQueue(
            governor, queue_limit=settings.command_queue, results=settings.command_results,
            on_received=lambda command: self.announcer.announce(signals.command_received, command=command),
            on_finished=self._command_finished)
        self.neighbours = None if self.backplane is None else Neighbours(Parts(
            app, settings, self.hub, handlers, authorizer, self.lifecycle, self.governor_queue, self.acks,
            self._background), self.backplane)
        self.requests = None if self.neighbours is None else self.neighbours.requests
        fork_aware(self)

    def forked(self) -> None:
        """Decide what a child may do, which has its own copy of everything.

        If this process serves, its clients are not the child's: there is nobody whom an event could come to. If it has
        only made the app so far (``gunicorn --preload``), the child may be the one that serves.
        """
        self.announcer.forked()
        if self.journal is not None:
            self.journal.forked()
        if self.backplane is not None:
            self.backplane.forked()
        if not self.serving:
            self.log.reentrancy.renew()
            return
        self.log.reentrancy.forbid()
        if self.journal is not None:
            self.journal.stop()

    def _build_hub(self) -> Hub:
        settings = self.settings
        epoch, past = int(self.started_at * 1000), RestoredHistory()
        records: list[Record] = []
        if settings.journal is not None and settings.profile is not Profile.WEBSOCKET:
            self.journal = Journal(
                settings.journal, flush_s=settings.journal_flush_ms / 1000, max_bytes=settings.journal_max_bytes,
                max_age_s=settings.journal_max_age_s, degraded=partial(self.degraded, "journal_degraded"),
                wall_ms=_wall_ms)
            epoch, past, records = self.journal.begin(epoch, max_events=settings.log_events,
                                                      max_bytes=settings.log_bytes)
        segments = Segments() if uses_backplane(settings) else None
        log = EventLog(
            epoch=epoch if segments is None else -1, segments=segments, clock=time.monotonic, wall_ms=_wall_ms,
            encode=encode_entry, max_events=settings.log_events, max_bytes=settings.log_bytes,
            max_event_bytes=settings.max_event_bytes, conflates=glob_matcher(settings.conflate))
        sessions = SessionRegistry(
            self._session_lapsed, max_streams=settings.max_streams,
            max_per_address=settings.max_streams_per_address, connect_s=settings.connect_s, resume_s=settings.resume_s,
            connect_rate=settings.connect_rate, gave_way=self.refusals.count,
            held=log.held)
        broker = self._build_broker(log)
        log.inherit(past, records)
        if self.journal is not None:
            self.journal.follow(log)
            broker.add_waker(self.journal.wake)
        return Hub(broker, sessions, max_clients=settings.max_clients)

    def _build_broker(self, log: EventLog) -> Broker:
        settings = self.settings
        if settings.backplane is None or log.segments is None:
            return Broker(log, self._published)
        name = log_name(settings, self.app.name)
        app = "" if settings.is_edge else self.app.name
        connect = connect_to(settings.backplane, name, app, settings.log_events)
        self.backplane = SharedBroker(log, connect, limits_of(settings), wall_ms=_wall_ms,
                                      address=str(without_secret(settings.backplane)), name=name)
        return self.backplane

    def begin(self) -> None:
        """Note that a server has requests of clients answered in this process from now on."""
        if not self.serving:
            self.serving = True
            if self.neighbours is not None:
                self.neighbours.begin()

    def serves_engineio(self, path: str, seen: str | None = None) -> bool:
        """Return true if clients of Socket.IO are served at a path. They may leave the slash at its end out.

        :param path: ``PATH_INFO`` of a request.
        :param seen: the path as our own server has it; it is remembered if the app is mounted below another path.
        :return: true if they are.
        """
        served = (self.settings.serves_socketio and path.rstrip("/") == self.engine_options.path
                  and not self.host_socketio)
        if served and seen is not None and seen != path and len(self._engineio_paths) < MAX_MOUNTS:
            self._engineio_paths |= {seen.rstrip("/")}
        return served

    def serves_engineio_at(self, path: str) -> bool:
        """Return true if clients of Socket.IO are served at a path, as our own server sees it.

        :param path: the path of a request, percent-decoded.
        """
        return self.serves_engineio(path) or path.rstrip("/") in self._engineio_paths

    def use_json(self, module: Any) -> None:
        """Read and write JSON by a module of the host's own.

        :param module: has ``dumps`` and ``loads``; ``None`` stands for the standard library's.
        """
        self.json = module
        if module is None:
            self.encode = partial(payload_text, default=default_of(self.app))
        else:
            self.encode = partial(foreign_text, dumps=module.dumps)
        self.publisher.encode = self.encode

    def degraded(self, reason: str) -> None:
        """Announce that a bound was hit and somebody was turned away.

        :param reason: the code of the problem.
        """
        self._background.announce(signals.transport_degraded, reason=reason)

    def stop(self) -> None:
        """End every stream with a farewell."""
        self.stopping = True
        self.on_stop()
        self.hub.broker.wake()

    def _session_lapsed(self, session: Session, before: SessionState) -> None:
        self.lifecycle.session_lapsed(session, before)  # which is there by then, but not yet as the registry is made

    def _published(self, event: Event, seq: int) -> None:
        if signals.event_emitted.receivers:  # asked here as well: without any, the id is not needed
            self.announcer.announce(signals.event_emitted, event=event, event_id=self.log.id_of(seq))

    def _command_finished(self, command: Command, status: dict[str, Any] | None) -> None:
        self.announcer.announce(signals.command_finished, command=command)
        if command.action != "status":
            self.publisher.send("control_result", (command.report(),))
            if status is not None:
                self.publisher.send("governor_update", (status,))


def _wall_ms() -> int:
    return int(time.time() * 1000)
