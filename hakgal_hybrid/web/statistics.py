"""A snapshot of everything that is counted, and the history of such snapshots."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from ..broker.backplane.statistics import BackplaneStatistics
from ..broker.journal import JournalStatistics
from ..commands.node import Node
from ..logs import LIMIT
from ..monitoring.backlog import BacklogMonitor
from ..monitoring.patching import patched
from ..monitoring.samples import SampleHistory, sample
from ..monitoring.statistics import Statistics


def snapshot(node: Node, backlog: BacklogMonitor, transport: str, origins: str) -> Statistics:
    """Return a snapshot.

    :param node: the log, the hub, and what takes commands.
    :param backlog: what streams still have to be sent.
    :param transport: how clients are served: ``sse``, ``sse+socketio`` or ``websocket``.
    :param origins: whose pages may be clients, see :attr:`.Origins.open_to`.
    """
    log, sessions = node.log, node.hub.sessions
    undelivered, undelivered_max, _ = backlog.cached()
    return Statistics(
        profile=node.settings.profile.value, transport=transport,
        prefix=node.settings.prefix, origins=origins, epoch=_epoch(node),
        started_s=round(node.started_at, 3), uptime_s=round(time.time() - node.started_at, 3),
        streams=sessions.open, clients=len(node.hub.clients()), refused=sessions.refused,
        acks_waiting=len(node.acks), acks_dropped=node.acks.dropped,
        oldest=log.id_of(log.oldest), newest=log.id_of(log.newest), log=log.statistics(),
        backplane=BackplaneStatistics() if node.backplane is None else node.backplane.statistics(),
        journal=JournalStatistics() if node.journal is None else node.journal.statistics(),
        traffic=node.hub.deliveries.snapshot(), socketio=node.engine_counters.snapshot(),
        governor=node.settings.enable_control_http and node.governor_queue.there,
        health=any(rule.rule == "/health" for rule in node.app.url_map.iter_rules()),
        commands_waiting=node.governor_queue.waiting,
        receiver_errors=node.announcer.errors, slow_receivers=node.announcer.slow,
        oldest_undelivered_s=undelivered, oldest_undelivered_max_s=undelivered_max, patched=patched(),
        warnings_suppressed=LIMIT.suppressed, refusals=node.refusals.snapshot(), server=node.server_statistics())


def _epoch(node: Node) -> int:
    """Return the first part of the newest ids."""
    segments = node.log.segments
    return node.log.epoch if segments is None else segments.newest.generation


def remember(samples: SampleHistory, statistics: Callable[[], Statistics]) -> None:
    """Add to a history, if it is time for that.

    :param samples: the history.
    :param statistics: returns a snapshot.
    """
    if samples.due(time.monotonic()):
        samples.add(sample(int(time.time() * 1000), dataclasses.asdict(statistics())))
