"""What a process does with what comes by its backplane, besides having it in its log."""

from __future__ import annotations

import json
from collections.abc import Callable

from ... import signals
from ...broker.backplane.listener import Arrived, Listener, Population
from ...broker.backplane.payloads import Control
from ...broker.backplane.read_back import Prepare
from ...broker.backplane.shared_log import Position
from ...broker.backplane.statistics import BackplaneStatistics
from ...broker.backplane.tail import Hole
from ...broker.event import Event
from ...broker.hub import Hub
from ...broker.payload import restore_binary
from ...errors import EventError
from ...logs import get_logger
from ..announcing import BackgroundAnnouncer
from .ack_forwarding import AckForwarding
from .controls import Controls
from .reporting import BackplaneReport
from .requests import RequestForwarding

logger = get_logger(__name__)


class BackplaneListener(Listener):
    """Sends signals, changes clients and rooms, and has acknowledgements taken to where they are waited for.

    :param hub: the log of this process, and its clients.
    :param background: sends signals.
    :param controls: carries out what other processes ask for.
    :param forwarding: takes acknowledgements to other processes.
    :param requests: passes requests on to other processes.
    :param report: logs how it stands with the backplane.
    :param statistics: returns how it does.
    :param kind: ``host`` or ``edge``.
    """

    def __init__(self, hub: Hub, background: BackgroundAnnouncer, controls: Controls,
                 forwarding: AckForwarding, requests: RequestForwarding, report: BackplaneReport,
                 statistics: Callable[[], BackplaneStatistics], kind: str) -> None:
        self._hub, self._background, self._controls = hub, background, controls
        self._forwarding, self._requests, self._report, self._kind = forwarding, requests, report, kind
        self._statistics = statistics

    def population(self) -> Population:
        """Return how many clients and streams this process has."""
        return Population(self._kind, len(self._hub.clients()), self._hub.sessions.open)

    def foreign(self, event: Event) -> Prepare | None:
        """Have acknowledgements of an event taken to the process that has emitted it.

        :param event: the event.
        """
        return self._forwarding.foreign(event)

    def read(self, arrived: list[Arrived]) -> None:
        """Send ``event_emitted`` for each event that is news.

        :param arrived: the events, in order.
        """
        if signals.event_emitted.receivers:  # or ids would be made for nobody
            self._background.announce_each(signals.event_emitted, [
                {"event": event, "event_id": self._hub.log.id_of(seq), "here": here}
                for event, seq, here, past in arrived if not past])

    def control(self, control: Control, at: Position, *, past: bool) -> None:
        """Do what a process asks for.

        :param control: what is asked for.
        :param at: the place of that in the shared log.
        :param past: true if it was asked for before this process began.
        """
        self._controls.carry_out(control, past=past)

    def message(self, message: bytes) -> None:
        """Take an acknowledgement, a request, or the answer to one.

        :param message: what another process has sent.
        """
        try:
            kind, *rest = restore_binary(json.loads(message))
            if kind == "ack":
                self._forwarding.received(*rest)
            else:
                self._requests.received(kind, rest)
        except (ValueError, TypeError, EventError) as error:
            logger.warning("a message of another process cannot be used: %r", error)

    def undelivered(self, message: bytes) -> None:
        """Answer a request whose client's process is gone.

        :param message: what was to be sent there.
        """
        self._requests.undelivered(json.loads(message))

    def lost(self, hole: Hole, *, past: bool) -> None:
        """Log it, and send ``events_lost``, if it is news.

        :param hole: what is missing.
        :param past: true if it was lost before this process began.
        """
        if past:
            return
        self._report.lost(hole)
        self._background.announce(signals.events_lost, count=hole.missed, reason=hole.reason, emitter=hole.sender)

    def changed(self) -> None:
        """Log it, and send ``backplane_changed``."""
        now = self._statistics()
        self._report.changed(now.state, now.error)
        self._background.announce(signals.backplane_changed, state=now.state, live=now.live, error=now.error)
