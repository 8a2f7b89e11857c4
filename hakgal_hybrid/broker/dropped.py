"""DroppedTargets: for whom the events were that a log has dropped, so that what a reader has missed can be counted."""

from __future__ import annotations

from collections import deque

from .event import Target


class DroppedTargets:
    """Numbers and targets of dropped events that were not for everybody. Not for two threads at once.

    :param limit: how many are kept; the oldest gives way.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: deque[tuple[int, Target]] = deque()
        self._forgotten = 0

    @property
    def oldest(self) -> int | None:
        """The first number that is kept; ``None`` if none is."""
        return self._records[0][0] if self._records else None

    def add(self, seq: int, target: Target) -> None:
        """Keep the target of an event that is dropped.

        :param seq: its number, higher than those before.
        :param target: for whom it was.
        """
        self._records.append((seq, target))
        if len(self._records) > self._limit:
            self._forgotten = self._records.popleft()[0]

    def between(self, position: int, upto: int) -> list[tuple[int, Target]] | None:
        """Return the numbers and targets after a position.

        :param position: the position.
        :param upto: the last number.
        :return: the pairs; ``None`` if some were dropped so long ago that their targets are not kept any more.
        """
        if self._forgotten > position:
            return None
        return [record for record in self._records if position < record[0] <= upto]
