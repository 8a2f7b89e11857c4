"""What the log says of the backplane: a line for each change of its state, and for each loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ...broker.backplane.faults import State
from ...broker.backplane.tail import Hole
from ...logs import get_logger

logger = get_logger(__name__)

#: What is missing, by the reason.
_LOSSES = {"lost": "the process that emitted them had no room for them, or this one cannot use them",
           "trimmed": "this process has read too late: it began while Redis was away, or Redis had dropped them"
                      " (HYBRID_LOG_EVENTS)",
           "cut": "Redis has lost them, and no process had them any more",
           "restarted": "Redis has gone back to a state before them"}


class BackplaneReport:
    """Logs how it stands with the backplane whenever that has changed.

    :param address: where it is, as it may be shown.
    :param name: the name of the log there.
    :param clock: monotonic seconds.
    """

    def __init__(self, address: str, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._clock = f"{address} (HYBRID_BACKPLANE, name {name!r})", clock
        self._said: tuple[str, str | None] = State.NEW.value, None
        self._again, self._since = False, clock()

    def changed(self, state: str, error: str | None) -> None:
        """Log a state, unless it is the one that was logged last.

        :param state: the state.
        :param error: what is wrong, and what to do; ``None`` if nothing is.
        """
        # Of two errors that only a person can mend the second is news; what a connection fails of may differ each time.
        said = state, error if state == State.MISCONFIGURED.value else None
        before, self._said = self._said, said
        if said != before:
            self._log(state, error, before[0])

    def _log(self, state: str, error: str | None, before: str) -> None:
        where, at = self._where, self._clock()
        if state == State.AWAY.value:
            logger.warning("the backplane %s is away; it is tried again, and what is emitted waits: %s", where,
                           error)
        elif state == State.MISCONFIGURED.value:
            logger.error("the backplane %s cannot be used as it is set up; it is tried again every 30 s: %s", where,
                         error)
        elif state == State.SETTLING.value:
            logger.log(logging.WARNING if self._again else logging.INFO,
                       "the backplane %s settles: its log is new, or has lost entries, which processes put back now%s",
                       where, "; if nobody restarted Redis, look at its maxmemory-policy" if self._again else "")
        elif state == State.LIVE.value:
            if self._again:
                logger.warning("the backplane %s is live again, after %.1f s", where, at - self._since)
            else:
                logger.info("the backplane %s is live", where)
        if before in (State.NEW.value, State.LIVE.value):
            self._since = at
        self._again |= state != State.SETTLING.value

    def lost(self, hole: Hole) -> None:
        """Log that events are missing.

        :param hole: what is missing.
        """
        count = "an unknown number of" if hole.missed is None else hole.missed
        logger.warning("%s events of the backplane are missing (%s): %s; clients were sent a gap", count, hole.reason,
                       _LOSSES[hole.reason])
