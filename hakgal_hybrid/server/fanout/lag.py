"""Lag: how late the loop is, sampled on the loop itself, and how late events reach the sockets.

What is late here is late for every stream and connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

from ...broker.log import EventLog
from ...monitoring.histogram import Histogram

#: How often the loop is asked, in seconds. Fifty times a second costs about a thousandth of one core.
INTERVAL_S = 0.02
#: Of how many events a pass of the writer is timed for at most: after a pause it may have sent thousands.
MAX_TIMED = 16


class LoopLag:
    """A timer on the calling thread's loop that measures by how much it comes too late.

    For the loop's thread, but for :meth:`statistics`. A timer's own coarseness (about 1 ms on Windows) is in the
    figures.

    :param clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._timer = gevent.get_hub().loop.timer(INTERVAL_S, INTERVAL_S)
        self._due = 0.0
        self._lags = Histogram()

    def start(self) -> None:
        """Begin to sample."""
        self._await_next()

    def stop(self) -> None:
        """End it."""
        self._timer.stop()
        self._timer.close()

    def statistics(self) -> dict[str, Any]:
        """Return what :meth:`.histogram.Histogram.statistics` does. May be called from any thread."""
        return self._lags.statistics()

    def _await_next(self) -> None:
        self._due = self._clock() + INTERVAL_S
        # From now, not from when the loop last looked at the clock: else the timer would come too early after a pause.
        # (Not start: a libev timer that has rung remembers no time to wait, and would ring at once, for ever.)
        self._timer.again(self._ring, update=True)

    def _ring(self) -> None:
        self._lags.add((self._clock() - self._due) * 1000)
        self._await_next()


class DeliveryLag:
    """How long events take from the log to the last socket that was ready for them.

    Timed when a pass of the fan-out writer has ended: every live stream has been given by then what the pass was for.
    So emitting and sending do nothing for it. For the loop's thread, but for :meth:`statistics`.

    :param log: the log.
    :param fed: returns how many streams there are.
    """

    def __init__(self, log: EventLog, fed: Callable[[], int]) -> None:
        self._log, self._fed = log, fed
        self._timed = log.newest
        self._lags = Histogram()

    def passed(self, newest: int) -> None:
        """Time the events of a pass that has ended.

        :param newest: number of the last event that every live stream has been given.
        """
        first, self._timed = self._timed + 1, newest
        if newest < first or not self._fed():
            return
        now = self._log.clock()
        for seq in range(first, newest + 1, 1 + (newest - first) // MAX_TIMED):
            entry = self._log.entry(seq)
            if entry is not None:
                self._lags.add((now - entry.at) * 1000)

    def statistics(self) -> dict[str, Any]:
        """Return what :meth:`.histogram.Histogram.statistics` does. May be called from any thread."""
        return self._lags.statistics()
