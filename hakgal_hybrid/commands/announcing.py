"""Sending blinker signals from a thread of their own."""

from __future__ import annotations

from functools import partial
from typing import Any

import blinker

from ..broker.counters import Refusals
from ..broker.forks import fork_aware
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
        self._announcer, self._refusals, self._max_waiting = announcer, refusals, max_waiting
        self._worker = Worker("hakgal-hybrid-background", limit=max_waiting)
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Begin with nothing that waits: the parent sends that."""
        self._taken = self._sent = 0  # of what goes together; each is changed by one thread only

    def announce(self, signal: blinker.NamedSignal, **values: Any) -> None:
        """Send a signal later; return at once.

        :param signal: the signal; without receivers nothing happens.
        :param values: the keywords its receivers get.
        """
        if signal.receivers and not self._worker.submit(partial(self._announcer.announce, signal, **values)):
            self._refusals.count("signal_dropped")
            logger.error("signal %r was not sent: too many are waiting", signal.name)

    def announce_each(self, signal: blinker.NamedSignal, several: list[dict[str, Any]]) -> None:
        """Send a signal several times later, in one go; return at once. For one thread.

        :param signal: the signal; without receivers nothing happens.
        :param several: the keywords its receivers get each time.
        """
        if not signal.receivers:
            return
        fits = self._taken - self._sent + len(several) <= self._max_waiting
        if fits and self._worker.submit(partial(self._send_each, signal, several)):
            self._taken += len(several)
            return
        for _ in several:
            self._refusals.count("signal_dropped")
        logger.error("signal %r was not sent %d times: too many are waiting", signal.name, len(several))

    def _send_each(self, signal: blinker.NamedSignal, several: list[dict[str, Any]]) -> None:
        for values in several:
            self._sent += 1
            try:
                self._announcer.announce(signal, **values)
            except BaseException:  # SystemExit included: those behind it are still sent
                logger.exception("a receiver of signal %r raised", signal.name)
