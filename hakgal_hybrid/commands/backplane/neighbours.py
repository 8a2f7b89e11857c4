"""Neighbours: everything that a process does for the others of its backplane, and has them do."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Flask

from ...broker.backplane.back_reader import BackReader
from ...broker.backplane.shared_log import Position, Record
from ...broker.forks import fork_aware
from ...broker.hub import Hub
from ...broker.payload import payload_text
from ...broker.shared_broker import SharedBroker
from ...settings import Settings
from ..acks import Acks
from ..announcing import BackgroundAnnouncer
from ..authorization import Authorizer
from ..governor import GovernorQueue
from ..handlers import Handlers
from ..lifecycle import ClientLifecycle
from .ack_forwarding import AckForwarding
from .controls import Controls
from .desk import Desk
from .guests import Guests
from .hosts import Hosts
from .listening import BackplaneListener
from .reporting import BackplaneReport
from .requests import RequestForwarding

#: Of how many of the host's threads one may answer requests of other processes.
SHARE = 4


class Parts(NamedTuple):
    """What serves the clients of this process.

    :ivar app: the app whose handlers run.
    :ivar settings: the settings.
    :ivar hub: the clients.
    :ivar handlers: what the host registered.
    :ivar authorizer: has the application decide what clients may do.
    :ivar lifecycle: lets clients in, and ends them.
    :ivar governor: takes commands for the governor.
    :ivar acks: the callbacks that wait for acknowledgements.
    :ivar background: sends signals.
    """

    app: Flask
    settings: Settings
    hub: Hub
    handlers: Handlers
    authorizer: Authorizer
    lifecycle: ClientLifecycle
    governor: GovernorQueue
    acks: Acks
    background: BackgroundAnnouncer


class Neighbours:
    """Joins a process to the others. To be made before anything is emitted.

    :param parts: what serves the clients of this process.
    :param backplane: the log that all have in common.
    :ivar requests: passes requests of clients on to the process that has them.
    :ivar hosts: the hosts, as an edge knows them; ``None`` in a host.
    :ivar guests: the clients of edges whose handlers run here; ``None`` in an edge.
    """

    def __init__(self, parts: Parts, backplane: SharedBroker) -> None:
        settings, self._backplane = parts.settings, backplane
        self.requests = RequestForwarding(self._post, max(1, settings.threads // SHARE))
        self._back_reader = BackReader(backplane.connect("back-reader"))
        self.hosts: Hosts | None = None
        self.guests: Guests | None = None
        controls = Controls(parts.hub, parts.lifecycle, settings.max_rooms, self._desk(parts))
        now = backplane.statistics()
        backplane.listen(BackplaneListener(parts.hub, parts.background, controls,
                                           AckForwarding(parts.hub, parts.acks, self._post), self.requests,
                                           BackplaneReport(str(now.address), str(now.name)), backplane.statistics,
                                           "edge" if settings.is_edge else "host"))
        if settings.is_edge:
            hosts = self.hosts = Hosts(self.requests, backplane, settings.queue_s)
            fork_aware(hosts)
            controls.actions["host"] = lambda data: hosts.heard(**data)
        else:
            guests = self.guests = Guests(
                parts.app, parts.handlers, parts.authorizer, parts.lifecycle, backplane, self.requests,
                threads=settings.threads, max_guests=settings.max_clients)
            controls.actions["find_hosts"] = lambda data: guests.introduce(data["process"])
            controls.of_guests.update(enter_room=guests.rooms.enter, leave_room=guests.rooms.leave,
                                      close_room=guests.rooms.close)

    def _desk(self, parts: Parts) -> Desk | None:
        settings, backplane = parts.settings, self._backplane
        if settings.governor_mode == "here" and not settings.is_edge:
            return None
        desk = Desk(parts.governor, backplane.connect("desk"), process=lambda: backplane.process,
                    position=backplane.position, log_ms=backplane.presence.log_ms, elsewhere=backplane.elsewhere,
                    deadline_s=settings.queue_s,
                    executes=settings.governor_mode == "desk" and not settings.is_edge,
                    stopped=lambda: backplane.stopped)
        fork_aware(desk)
        return desk

    def _post(self, process: str, message: list[Any]) -> None:
        self._backplane.post(process, payload_text("message", (message,)).encode())

    def look_back(self, after: Position, upto: Position) -> list[Record] | None:
        """Return entries of the shared log that this process has dropped.

        :param after: the id after which they begin.
        :param upto: the id of the last one.
        :return: the entries, in order; ``None`` if not all of them can be had now.
        """
        return self._back_reader.read(after, upto) if self._backplane.reachable else None

    def begin(self) -> None:
        """Begin to read the shared log, and have edges know that this host serves, or find the hosts of this edge."""
        self._backplane.begin()
        if self.hosts is not None:
            self.hosts.find()
        if self.guests is not None:
            self.guests.announce()
