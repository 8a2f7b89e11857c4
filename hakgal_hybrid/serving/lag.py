"""Lag: how late the loop is, sampled on the loop itself. What is late here is late for every stream and connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

from ..histogram import Histogram

#: How often the loop is asked, in seconds. Fifty times a second costs about a thousandth of one core.
INTERVAL_S = 0.02


class LoopLag:
    """A timer on the calling thread's loop that measures by how much it comes too late.

    For the loop's thread, but for :meth:`statistics`. A timer's own coarseness (about 1 ms on Windows) is in the
    figures.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._timer = gevent.get_hub().loop.timer(INTERVAL_S)
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
        self._timer.start(self._ring, update=True)

    def _ring(self) -> None:
        self._lags.add((self._clock() - self._due) * 1000)
        self._timer.stop()
        self._await_next()
