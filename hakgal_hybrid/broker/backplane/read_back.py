"""ReadBack: what waits until events of this process have come back by its reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..entry import Entry

#: How many changes of clients and rooms wait; one more is carried out at once.
MAX_CHANGES = 100_000

Prepare = Callable[[Entry], object]
Change = Callable[[int], object]


class ReadBack:
    """What is done with events that this process has emitted, and after them, once they are in its log.

    Except for :meth:`expect` and :meth:`dropped`, everything is to be called under ``EventLog.held``.
    """

    def __init__(self) -> None:
        self._prepare: dict[int, Prepare] = {}
        self._changes: deque[tuple[int, Change]] = deque()
        self._last = 0

    def expect(self, prepare: Prepare, q: int) -> None:
        """Have a function called with the entry of an event, before any reader of this process can see it.

        :param prepare: the function.
        :param q: the event's number among those of this process.
        """
        self._prepare[q] = prepare

    def dropped(self, q: int) -> None:
        """Note that an event will not come.

        :param q: its number.
        """
        self._prepare.pop(q, None)

    def take(self, q: int) -> Prepare | None:
        """Return what is to be called with the entry of an event.

        :param q: its number.
        """
        return self._prepare.pop(q, None)

    def after(self, q: int, change: Change) -> bool:
        """Have a change carried out once an event has come.

        :param q: its number.
        :param change: called with the number of the newest entry by then.
        :return: false if it is to be carried out at once.
        """
        if (q <= self._last and not self._changes) or len(self._changes) >= MAX_CHANGES:
            return False
        self._changes.append((q, change))
        return True

    def seen(self, q: int, newest: int) -> bool:
        """Note that an event has come, or that it is lost.

        :param q: its number.
        :param newest: the number of the newest entry.
        :return: true if changes were carried out.
        """
        self._last = q
        found = bool(self._changes) and self._changes[0][0] <= q
        while self._changes and self._changes[0][0] <= q:
            self._changes.popleft()[1](newest)
        return found

    def renumbered(self, numbers: dict[int, int]) -> None:
        """Note that what has not come yet has new numbers.

        :param numbers: the new number of each old one.
        """
        self._prepare = {numbers[q]: prepare for q, prepare in self._prepare.items() if q in numbers}
        self._last = 0
        self._changes = deque((numbers.get(q, 0), change) for q, change in self._changes)
