"""Histogram: how long things took, since the start and lately. Pure; a handful of numbers however much is counted."""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any

#: Upper bounds in milliseconds, three a factor of two: fine enough to tell 25 from 30 ms, coarse enough to be cheap.
BOUNDS_MS = tuple(round(0.05 * 2 ** (step / 3), 4) for step in range(61))

#: What "lately" means, in seconds.
WINDOW_S = 60.0
#: And what "right now" means.
LATEST_S = 2.0


class Histogram:
    """Times in milliseconds: a cumulative histogram since it was made, and percentiles of the last :data:`WINDOW_S`.

    One thread adds, any thread reads. Adding costs about a microsecond.

    :param keep: how many of the latest times the percentiles know, at most; more in the window, and they are of these.
    :param clock: tells the time, in seconds; a monotonic one.
    """

    def __init__(self, *, keep: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._sum = 0.0
        self._max = 0.0
        # A ring, made once: a list of pairs would grow for minutes, by more than hundreds of clients take.
        self._at, self._took = array("d", [-math.inf]) * keep, array("d", [0.0]) * keep
        self._next = 0

    def add(self, milliseconds: float) -> None:
        """Count one time; one that a clock made negative counts as none.

        :param milliseconds: how long it took.
        """
        milliseconds = max(0.0, milliseconds)
        self._counts[bisect_left(BOUNDS_MS, milliseconds)] += 1
        self._sum += milliseconds
        self._max = max(self._max, milliseconds)
        place = self._next
        self._at[place], self._took[place] = self._clock(), milliseconds
        self._next = (place + 1) % len(self._at)

    def statistics(self) -> dict[str, Any]:
        """Return a snapshot.

        :return: ``p50_ms``, ``p99_ms``, ``max_ms`` and ``n`` of the last ``window_s`` seconds (null and 0 if there was
            nothing); ``latest_max_ms`` of the last two seconds; since the start ``since_start_max_ms``, ``sum_ms`` and
            ``buckets``, a list of
            ``[upper bound in ms, how many took at most so long]``, the last with the bound null, which is all. Empty
            buckets at both ends are left out.
        """
        now, times = self._clock(), list(zip(self._at, self._took, strict=True))
        recent = sorted(took for at, took in times if at >= now - WINDOW_S)
        latest = [took for at, took in times if at >= now - LATEST_S]
        return {"p50_ms": percentile(recent, 0.5), "p99_ms": percentile(recent, 0.99),
                "max_ms": round(recent[-1], 3) if recent else None, "n": len(recent), "window_s": WINDOW_S,
                "latest_max_ms": round(max(latest), 3) if latest else None,
                "since_start_max_ms": round(self._max, 3), "sum_ms": round(self._sum, 3),
                "buckets": _cumulative(self._counts.copy())}


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """Return the percentile ``ordered[ceil(n * share) - 1]`` of values in ascending order, of which there must be some.

    The rank is that of the exact product: 0.07 * 100 is a little more than 7 in binary fractions.

    :param ordered: values in ascending order.
    :param share: which percentile: above 0, at most 1.
    """
    return ordered[max(math.ceil(round(len(ordered) * share, 9)), 1) - 1]


def percentile(ordered: list[float], share: float) -> float | None:
    """Return the nearest-rank percentile of times in ascending order, in ms to three places; nothing of nothing.

    :param ordered: values in ascending order.
    :param share: which percentile: above 0, at most 1.
    """
    return round(nearest_rank(ordered, share), 3) if ordered else None


def _cumulative(counts: Iterable[int]) -> list[list[float | int | None]]:
    buckets: list[list[float | int | None]] = []
    total, so_far = sum(counts), 0
    for bound, count in zip(BOUNDS_MS, counts, strict=False):  # the last count has no bound
        so_far += count
        if so_far:
            buckets.append([bound, so_far])
        if so_far == total:
            break
    return [*buckets, [None, total]]
