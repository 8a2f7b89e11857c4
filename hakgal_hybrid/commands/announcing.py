"""Sending blinker signals from a thread of their own."""

from __future__ import annotations

from functools import partial
from typing import Any

import blinker

from ..broker.counters import Refusals
from ..logs import get_logger
from ..signals import Announcer
from .worker import Worker

logger = get_logger(__name__)

#: How many signals may wait; one more is counted as ``signal_dropped``.
MAX_WAITING = 100_000


class BackgroundAnnouncer:
    """Sends signals in a thread of its own, because receivers must not run on the loop.

    :param announcer: sends them.
    :param refusals: counts the signals that were dropped.
    :param max_waiting: how many signals may wait.
    """

    def __init__(self, announcer: Announcer, refusals: Refusals, *, max_waiting: int = MAX_WAITING) -> None:
        self._announcer, self._refusals = announcer, refusals
        self._worker = Worker("hakgal-hybrid-background", limit=max_waiting)

    def announce(self, signal: blinker.NamedSignal, **values: Any) -> None:
        """Send a signal later; return at once.

        :param signal: the signal; without receivers nothing happens.
        :param values: the keywords its receivers get.
        """
        if signal.receivers and not self._worker.submit(partial(self._announcer.announce, signal, **values)):
            self._refusals.count("signal_dropped")
            logger.error("signal %r was not sent: too many are waiting", signal.name)
