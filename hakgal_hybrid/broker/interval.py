"""Batches: the rate of streams that want at most one batch of events each interval. Pure."""

from __future__ import annotations

from .log import EventLog


class Batches:
    """The batches of one stream, or of streams that are given theirs together.

    A batch goes out at once if the one before is an interval ago. It holds what the log has when it begins.

    :param log: the log.
    :param interval_s: how long after one batch the next begins at the earliest (seconds).
    :ivar upto: number of the last event of the batch that has begun last.
    """

    __slots__ = ("_interval_s", "_log", "_next_at", "upto")

    def __init__(self, log: EventLog, interval_s: float) -> None:
        self._log, self._interval_s = log, interval_s
        self.upto, self._next_at = 0, float("-inf")

    @property
    def rest_s(self) -> float:
        """How long it takes until the next batch may begin (seconds). Nothing, if the log would drop events before."""
        return 0.0 if self._log.is_pressing(self.upto) else max(0.0, self._next_at - self._log.clock())

    def begin(self) -> None:
        """Begin a batch: it holds what the log has now."""
        self.upto = self._log.newest
        self._next_at = self._log.clock() + self._interval_s
