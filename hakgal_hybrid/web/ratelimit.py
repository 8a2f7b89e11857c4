"""How fast one address may command."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ..errors import Overloaded

#: How many addresses are remembered. The one that has been quiet longest is forgotten first: its bucket is the fullest.
MAX_ADDRESSES = 10_000


class RateLimiter:
    """A token bucket for each address: so many tokens a second, and a second's worth at once.

    :param per_second: how many commands one address may give in a second.
    :param clock: returns the time, in seconds; it never goes back.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._burst = max(1.0, per_second)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str) -> None:
        """Take one token.

        :param address: whose token it is.
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


