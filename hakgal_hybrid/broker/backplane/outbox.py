"""Outbox: what one process has to send to the shared log. Bounded, in memory; putting something in waits for nobody."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .shared_log import Item

#: What one call carries at most.
BATCH_ITEMS = 256
BATCH_BYTES = 256 << 10
#: What is kept after the log has acknowledged it, in case that it loses it.
HELD_ITEMS = 2000
HELD_S = 60.0


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """What an outbox holds.

    :ivar events: how many events wait, those included that are under way.
    :ivar bytes: how many bytes they have.
    :ivar age_s: for how long the oldest has been waiting, in seconds.
    :ivar dropped: how many were dropped, because it was full.
    """

    events: int = 0
    bytes: int = 0
    age_s: float = 0.0
    dropped: int = 0


class _Waiting(NamedTuple):
    item: Item
    since: float


class _UnderWay(NamedTuple):
    events: int
    bytes: int
    since: float


_NOTHING = _UnderWay(0, 0, 0.0)


class Outbox:
    """The items of one sender, in order, with their numbers.

    If it is full, the oldest is dropped, and the next one says so: an old value is worth less than a new one, and a
    loss can only be reported by something that comes later.

    :param max_events: how many events wait at most.
    :param max_bytes: how many bytes they have at most.
    :param clock: monotonic seconds.
    :param dropped: called with each number that is dropped.
    """

    def __init__(self, *, max_events: int, max_bytes: int, clock: Callable[[], float],
                 dropped: Callable[[int], object] = lambda q: None) -> None:
        self._max_events, self._max_bytes, self._clock, self._on_dropped = max_events, max_bytes, clock, dropped
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._held: deque[_Waiting] = deque(maxlen=HELD_ITEMS)
        self._bytes = self._dropped = self._last = 0
        self._under_way = _NOTHING

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def last(self) -> int:
        """The number of the item that was put in last."""
        return self._last

    def put(self, payload: bytes, numbered: Callable[[int], object] | None = None) -> int:
        """Put something in. Costs next to nothing, and waits for nobody.

        :param payload: what is to be sent.
        :param numbered: called with its number before it can be sent.
        :return: its number.
        """
        with self._lock:
            self._last = q = self._last + 1
            if numbered is not None:
                numbered(q)
            self._waiting.append(_Waiting(Item(q, 0, payload), self._clock()))
            self._bytes += len(payload)
            while len(self._waiting) > self._max_events or self._bytes > self._max_bytes:
                self._drop()
        return q

    def _drop(self) -> None:
        item = self._waiting.popleft().item
        self._bytes -= len(item.payload)
        self._dropped += 1
        self._on_dropped(item.q)
        if self._waiting:
            first = self._waiting[0]
            self._waiting[0] = first._replace(item=first.item._replace(lost=first.item.lost + item.lost + 1))
        else:  # it alone was too large: its number goes out without it
            self._waiting.append(_Waiting(item._replace(payload=b""), self._clock()))

    def take(self) -> list[Item]:
        """Return what is sent next, which does not wait here any more and is never dropped.

        :return: the items; empty if there are none.
        """
        batch: list[Item] = []
        size = 0
        with self._lock:
            since = self._waiting[0].since if self._waiting else 0.0
            while self._waiting and len(batch) < BATCH_ITEMS:
                item = self._waiting[0].item
                if batch and size + len(item.payload) > BATCH_BYTES:
                    break
                batch.append(self._waiting.popleft().item)
                size += len(item.payload)
            self._bytes -= size
            self._under_way = _UnderWay(len(batch), size, since)
        return batch

    def acknowledged(self, batch: Iterable[Item]) -> None:
        """Keep items a while longer that the log has acknowledged.

        :param batch: the items.
        """
        now = self._clock()
        self._held.extend(_Waiting(item, now) for item in batch)
        self._under_way = _NOTHING

    def forgotten(self, batch: list[Item], q: int, expected: int) -> int:
        """Have everything sent again that the log has lost.

        :param batch: what was under way.
        :param q: the last number that the log has.
        :param expected: the last number that it had acknowledged.
        :return: how many items are sent again.
        """
        young = self._clock() - HELD_S
        with self._lock:
            again = [held.item for held in self._held if held.item.q > q and held.since > young]
            self._held = deque((held for held in self._held if held.item.q <= q), HELD_ITEMS)
            self._put_back([*again, *batch])
            if not self._waiting and q < expected:  # nothing to say it with: the last number goes out without its event
                self._put_back([Item(expected, 0, b"")])
            if self._waiting:
                first = self._waiting[0]
                lost = max(first.item.lost, first.item.q - q - 1)
                self._waiting[0] = first._replace(item=first.item._replace(lost=lost))
        return len(again)

    def renumber(self, batch: list[Item], moved: Callable[[dict[int, int]], object]) -> None:
        """Give everything that waits new numbers, from 1 on: the sender has a new name.

        :param batch: what was under way.
        :param moved: called with the new number of each old one.
        """
        with self._lock:
            self._held.clear()
            self._put_back(batch)
            numbers = {waiting.item.q: q for q, waiting in enumerate(self._waiting, 1)}
            self._waiting = deque(waiting._replace(item=waiting.item._replace(q=numbers[waiting.item.q]))
                                  for waiting in self._waiting)
            self._last = len(self._waiting)
            moved(numbers)

    def _put_back(self, items: list[Item]) -> None:
        now, self._under_way = self._clock(), _NOTHING
        self._waiting.extendleft(_Waiting(item, now) for item in reversed(items))
        self._bytes += sum(len(item.payload) for item in items)

    def statistics(self) -> OutboxStatistics:
        """Return a snapshot."""
        with self._lock:
            sent, now = self._under_way, self._clock()
            oldest = sent.since if sent.events else self._waiting[0].since if self._waiting else now
            return OutboxStatistics(len(self._waiting) + sent.events, self._bytes + sent.bytes, now - oldest,
                                    self._dropped)
