"""How fast one address may command."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..broker.slots import TokenBuckets
from ..errors import Overloaded


class RateLimiter:
    """A token bucket for each address: so many tokens a second, and a second's worth at once.

    :param per_second: how many commands one address may give in a second.
    :param clock: returns the time, in seconds; it never goes back.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._buckets = TokenBuckets(per_second, per_second, clock)

    def wait_s(self, address: str) -> float:
        """Take one token, if there is one.

        :param address: whose token it is.
        :return: 0 if there was one, else in how many seconds there will be one.
        """
        return self._buckets.take(address)

    def take(self, address: str) -> None:
        """Take one token.

        :param address: whose token it is.
        :raises Overloaded: 429 if there is none; ``Retry-After`` says when there will be.
        """
        wait = self.wait_s(address)
        if wait:
            raise Overloaded(f"more than {self._per_second:g} commands a second (HYBRID_COMMAND_RATE)",
                             code="too_many_commands", status=429, retry_after=max(1, math.ceil(wait)))
