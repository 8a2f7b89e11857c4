"""What a process does with what comes by its backplane, besides having it in its log."""

from __future__ import annotations

import json

from ... import signals
from ...broker.backplane.listener import Listener
from ...broker.backplane.payloads import Control
from ...broker.backplane.read_back import Prepare
from ...broker.backplane.shared_log import Position
from ...broker.backplane.tail import Hole
from ...broker.event import Event
from ...broker.log import EventLog
from ...broker.payload import restore_binary
from ...errors import EventError
from ...logs import get_logger
from ..announcing import BackgroundAnnouncer
from .ack_forwarding import AckForwarding
from .controls import Controls

logger = get_logger(__name__)


class BackplaneListener(Listener):
    """Sends signals, changes clients and rooms, and has acknowledgements taken to where they are waited for.

    :param log: the log of this process.
    :param background: sends signals.
    :param controls: carries out what other processes ask for.
    :param forwarding: takes acknowledgements to other processes.
    """

    def __init__(self, log: EventLog, background: BackgroundAnnouncer, controls: Controls,
                 forwarding: AckForwarding) -> None:
        self._log, self._background, self._controls, self._forwarding = log, background, controls, forwarding

    def foreign(self, event: Event) -> Prepare | None:
        """Have acknowledgements of an event taken to the process that has emitted it.

        :param event: the event.
        """
        return self._forwarding.foreign(event)

    def read(self, event: Event, seq: int, *, here: bool) -> None:
        """Send ``event_emitted``.

        :param event: the event.
        :param seq: its number.
        :param here: true if this process has emitted it.
        """
        self._background.announce(signals.event_emitted, event=event, event_id=self._log.id_of(seq), here=here)

    def control(self, control: Control, at: Position) -> None:
        """Do what a process asks for.

        :param control: what is asked for.
        :param at: the place of that in the shared log.
        """
        self._controls.carry_out(control)

    def message(self, message: bytes) -> None:
        """Take an acknowledgement.

        :param message: what another process has sent.
        """
        try:
            self._forwarding.received(restore_binary(json.loads(message)))
        except (ValueError, TypeError, EventError) as error:
            logger.warning("a message of another process cannot be used: %r", error)

    def lost(self, hole: Hole) -> None:
        """Send ``events_lost``.

        :param hole: what is missing.
        """
        self._background.announce(signals.events_lost, count=hole.missed, reason=hole.reason, emitter=hole.sender)

    def changed(self) -> None:
        """Send ``backplane_changed``."""
        self._background.announce(signals.backplane_changed)
