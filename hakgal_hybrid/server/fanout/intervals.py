"""Intervals: streams that get at most one batch of events each interval. Those of one interval get it together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...broker.interval import Batches, interval_of
from ...broker.log import EventLog
from ...broker.reading import Shared
from ...broker.stream import SubscriberStream
from .connection import Connection


class IntervalGroup:
    """The streams of one interval.

    :param batches: their batches.
    :ivar shared: what of the batch was read for one stream, for the others.
    :ivar resting: those that have the whole batch, and wait for the next.
    :ivar has_news: true if anything has happened since the batch began.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.shared: Shared = {}
        self.resting: dict[Connection, None] = {}
        self.has_news = True

    def rest(self, connection: Connection, upto: int) -> bool:
        """Have a stream wait for the next batch, if it has come to the end of this one.

        :param connection: its connection.
        :param upto: number of the last event that it was to take.
        :return: false if it has to go on.
        """
        stream = connection.stream
        if stream.position < max(upto, stream.replay_until):
            return False
        self.resting[connection] = None
        return True


class Intervals:
    """All streams that have an interval. For the loop's thread.

    :param loop: the loop.
    :param log: the log.
    :param wake: has the writer make a pass.
    """

    def __init__(self, loop: Any, log: EventLog, wake: Callable[[], object]) -> None:
        self._loop, self._log, self._wake = loop, log, wake
        self._groups: dict[float, IntervalGroup] = {}
        self._timer: Any = None

    def group_of(self, stream: SubscriberStream) -> IntervalGroup | None:
        """Return the group of a stream; ``None`` if it is sent events as they come.

        :param stream: the stream.
        """
        seconds = interval_of(stream)
        if not seconds:
            return None
        group = self._groups.get(seconds)
        if group is None:
            group = self._groups[seconds] = IntervalGroup(Batches(self._log, seconds))
        return group

    def notified(self) -> None:
        """Note that something has happened that streams may have to be sent."""
        for group in self._groups.values():
            group.has_news = True

    def forget(self, connection: Connection) -> None:
        """Forget a stream that has ended.

        :param connection: its connection.
        """
        group = self.group_of(connection.stream)
        if group is not None:
            group.resting.pop(connection, None)

    def begin_batches(self) -> list[Connection]:
        """Begin the batches that are due, and have the writer come back for the others.

        :return: the streams that there is something for.
        """
        found: list[Connection] = []
        waits: list[float] = []
        for group in self._groups.values():
            if not group.resting or not group.has_news:
                continue
            if rest_s := group.batches.rest_s:
                waits.append(rest_s)
                continue
            group.has_news = False
            due = [item for item in group.resting if item.stream.behind or item.stream.finished is not None]
            if not due:
                continue
            group.batches.begin()
            group.shared = {}
            for connection in due:
                del group.resting[connection]
            found += due
        self._come_back(min(waits, default=0.0))
        return found

    def close(self) -> None:
        """Begin no more batches."""
        self._come_back(0.0)

    def _come_back(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        if wait_s:
            self._timer = self._loop.timer(wait_s)
            self._timer.start(self._wake, update=True)
