"""Limits: what was refused, how fast somebody may command, and lists that do not grow for ever."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TypeVar

from .errors import Overloaded

T = TypeVar("T")

#: How many addresses a rate remembers. The one that has been quiet longest gives way: its bucket is the fullest.
MAX_ADDRESSES = 10_000


class Refusals:
    """Counts everything that was refused or dropped, by the stable code that says why."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.RLock()  # a finalizer may count while it is held

    def count(self, code: str) -> None:
        """Count one refusal."""
        with self._lock:
            self._counts[code] += 1

    def snapshot(self) -> dict[str, int]:
        """Return the counts by code, in alphabetical order."""
        with self._lock:
            return dict(sorted(self._counts.items()))


class Rate:
    """A token bucket for each address: so many a second, and a second's worth at once.

    :param per_second: what one address may do in a second.
    :param clock: seconds that only grow.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._burst = max(1.0, per_second)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str) -> None:
        """Take one token.

        :raises Overloaded: 429 if there is none; ``Retry-After`` says when there will be.
        """
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(address, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_second)
            self._buckets[address] = (max(left - 1, 0.0) if left >= 1 else left, now)
            self._buckets.move_to_end(address)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        if left < 1:
            wait = (1 - left) / self._per_second
            raise Overloaded(f"more than {self._per_second:g} commands a second (HYBRID_COMMAND_RATE)",
                             code="too_many_commands", status=429, retry_after=max(1, int(wait + 0.999)))


class Bounded(list[T]):
    """A list that takes only so much; what is beyond is counted in ``dropped``.

    :param size: says how large an item is. :param limit: how large all may be together, in the same unit.
    """

    def __init__(self, size: Callable[[T], int], limit: int) -> None:
        super().__init__()
        self.dropped = 0
        self._size, self._room = size, limit
        self._lock = threading.RLock()  # a finalizer may emit to the same list while its thread is in here

    def append(self, item: T) -> None:
        """Take an item if there is room for it; once there was none, take none: what is kept has no holes."""
        size = self._size(item)
        with self._lock:
            self._room -= size
            if self._room < 0 or self.dropped:
                self.dropped += 1
            else:
                super().append(item)
