"""What one address may take of the streams: how many at a time, and how many new ones in a second."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from ..errors import Overloaded

#: How many addresses are remembered. The one that has been quiet longest is forgotten first: its bucket is the fullest.
MAX_ADDRESSES = 10_000


class TokenBuckets:
    """A bucket of tokens for each address.

    :param per_second: how many tokens come into a bucket in a second.
    :param burst: how many it holds.
    :param clock: returns the time, in seconds; it never goes back.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, max(1.0, burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._buckets)

    def take(self, address: str) -> float:
        """Take one token.

        :param address: whose token it is.
        :return: 0 if there was one, else in how many seconds there will be one.
        """
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(address, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_second)
            self._buckets[address] = (left - 1 if left >= 1 else left, now)
            self._buckets.move_to_end(address)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self._per_second


class StreamSlots:
    """The slots for streams. The caller sees to it that one thread at a time uses them.

    :param max_streams: how many there are.
    :param max_per_address: how many of them one address may take.
    """

    def __init__(self, max_streams: int, max_per_address: int) -> None:
        self._max_streams, self._max_per_address = max_streams, max_per_address
        self._taken = 0
        self._per_address: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many are taken."""
        return self._taken

    def take(self, address: str) -> Overloaded | None:
        """Take a slot.

        :param address: for whom.
        :return: ``None``; an error, with nothing taken, if there is none: 429 if the address has all that it may have,
            503 if all are taken.
        """
        if self._taken >= self._max_streams:
            return Overloaded(f"all {self._max_streams} streams are taken (HYBRID_MAX_STREAMS)",
                              code="too_many_streams", retry_after=5)
        if self._per_address[address] >= self._max_per_address:
            if not self._per_address[address]:
                del self._per_address[address]
            return Overloaded(f"{address} has all {self._max_per_address} streams one address may open "
                              "(HYBRID_MAX_STREAMS_PER_ADDRESS)", code="too_many_streams", status=429, retry_after=5)
        self._taken += 1
        self._per_address[address] += 1
        return None

    def free(self, address: str) -> None:
        """Give a slot back.

        :param address: whose slot it was.
        """
        self._taken -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]  # or addresses would pile up
