"""What an operator hears of the backplane: a line of the log, and a signal, for each change of its state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ... import signals
from ...broker.backplane.faults import State
from ...broker.backplane.statistics import BackplaneStatistics
from ...broker.backplane.tail import Hole
from ...logs import get_logger
from ..announcing import BackgroundAnnouncer

logger = get_logger(__name__)

_TROUBLE = (State.AWAY.value, State.MISCONFIGURED.value)
#: What is missing, by the reason.
_LOSSES = {"lost": "the process that emitted them had no room for them, or this one cannot use them",
           "trimmed": "this process has read too late (HYBRID_LOG_EVENTS)",
           "cut": "Redis has lost them, and no process had them any more",
           "restarted": "Redis has gone back to a state before them"}


class BackplaneReport:
    """Says how it stands with the backplane whenever that has changed.

    :param statistics: returns how it stands.
    :param background: sends signals.
    :param clock: monotonic seconds.
    """

    def __init__(self, statistics: Callable[[], BackplaneStatistics], background: BackgroundAnnouncer,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._statistics, self._background, self._clock = statistics, background, clock
        self._said: tuple[str, str | None] = State.NEW.value, None
        self._again, self._since = False, clock()

    def changed(self) -> None:
        """Log a change of the state, and send ``backplane_changed``."""
        now = self._statistics()
        # Of two errors that only a person can mend the second is news; what a connection fails of may differ each time.
        said = now.state, now.error if now.state == State.MISCONFIGURED.value else None
        before, self._said = self._said, said
        if said != before:
            self._log(now, before[0])
        self._background.announce(signals.backplane_changed, state=now.state, live=now.live, error=now.error)

    def _log(self, now: BackplaneStatistics, before: str) -> None:
        where = f"{now.address} (HYBRID_BACKPLANE, name {now.name!r})"
        at = self._clock()
        if now.state == State.AWAY.value:
            logger.warning("the backplane %s is away; it is tried again, and what is emitted waits: %s", where,
                           now.error)
        elif now.state == State.MISCONFIGURED.value:
            logger.error("the backplane %s cannot be used as it is set up; it is tried again every 30 s: %s", where,
                         now.error)
        elif now.state == State.SETTLING.value:
            logger.log(logging.WARNING if self._again else logging.INFO,
                       "the backplane %s settles: its log is new, or has lost entries, which processes put back now",
                       where)
        elif now.state == State.LIVE.value:
            if self._again:
                logger.warning("the backplane %s is live again, after %.1f s", where, at - self._since)
            else:
                logger.info("the backplane %s is live", where)
        if before in (State.NEW.value, State.LIVE.value):
            self._since = at
        self._again |= now.state != State.SETTLING.value

    def lost(self, hole: Hole) -> None:
        """Log that events are missing, and send ``events_lost``.

        :param hole: what is missing.
        """
        count = "an unknown number of" if hole.missed is None else hole.missed
        logger.warning("%s events of the backplane are missing (%s): %s; clients were sent a gap", count, hole.reason,
                       _LOSSES[hole.reason])
        self._background.announce(signals.events_lost, count=hole.missed, reason=hole.reason, emitter=hole.sender)
