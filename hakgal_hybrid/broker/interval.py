"""The rate of streams that want at most one batch of events each interval. Pure."""

from __future__ import annotations

from .log import EventLog
from .stream import SubscriberStream


def interval_of(stream: SubscriberStream) -> float:
    """Return how long after one batch the next may be sent (seconds); 0 if events are sent as they come.

    :param stream: the stream.
    """
    options, wanted = stream.options, stream.request.interval_ms
    # Events must not become too old meanwhile.
    return min((options.interval_ms if wanted is None else wanted) / 1000, options.max_backlog_s / 2)


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
        oldest, newest = self._log.oldest, self._log.newest
        if oldest > 1 and self.upto < (oldest + newest) // 2:
            return 0.0
        return max(0.0, self._next_at - self._log.clock())

    def begin(self) -> None:
        """Begin a batch: it holds what the log has now."""
        self.upto = self._log.newest
        self._next_at = self._log.clock() + self._interval_s


class BatchReader:
    """Reads a stream for a writer that writes no other, at most one batch each interval.

    :param stream: the stream.
    """

    def __init__(self, stream: SubscriberStream) -> None:
        self._stream = stream
        self._batches = Batches(stream.hub.log, interval_of(stream))

    @property
    def rest_s(self) -> float:
        """How long :meth:`take` gives nothing (seconds)."""
        return 0.0 if self._stream.position < self._batches.upto else self._batches.rest_s

    def take(self) -> bytes:
        """Return what is new, as :meth:`.SubscriberStream.take` does.

        :return: the bytes; ``b""`` if there is nothing new, or while ``rest_s`` is not over. More of a large batch is
            given when this is called again.
        """
        # Only if there is something: a stream that has just begun would wait with its first event.
        if self._stream.behind and not self.rest_s and self._stream.position >= self._batches.upto:
            self._batches.begin()
        return self._stream.take(upto=self._batches.upto)
