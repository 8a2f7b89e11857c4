"""Histogram: percentiles of what was lately, buckets of all there ever was."""

from __future__ import annotations

import math

import pytest

from hakgal_hybrid.monitoring.histogram import BOUNDS_MS, WINDOW_S, Histogram, nearest_rank, percentile


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("n", [1, 2, 3, 10, 50, 99, 100, 101])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_percentiles_are_of_the_nearest_rank(n: int, share: float) -> None:
    """The percentile of the measurement protocol: the p-th of n is the one at place ceil(n * p)."""
    assert percentile([float(number) for number in range(1, n + 1)], share) == math.ceil(n * share)


def test_the_nearest_rank_is_the_definition_of_the_measurements() -> None:
    """The same for every figure that this package tells."""
    assert nearest_rank([float(n) for n in range(1, 101)], 0.95) == 95
    assert nearest_rank([7.0], 0.5) == 7
    assert nearest_rank(range(1, 101), 0.07) == 7


def test_nothing_has_no_percentiles() -> None:
    told = Histogram().statistics()
    assert (told["p50_ms"], told["p99_ms"], told["max_ms"], told["n"]) == (None, None, None, 0)
    assert told["buckets"] == [[None, 0]]


def test_percentiles_forget_and_buckets_do_not() -> None:
    """What is older than the window counts in the histogram only."""
    clock = Clock()
    times = Histogram(clock=clock)
    times.add(500)
    clock.now += WINDOW_S + 1
    times.add(2)
    told = times.statistics()
    assert (told["p50_ms"], told["max_ms"], told["n"], told["since_start_max_ms"]) == (2, 2, 1, 500)
    assert told["sum_ms"] == 502
    assert told["buckets"][-1] == [None, 2]


def test_buckets_are_cumulative_and_complete() -> None:
    """Each bucket counts all that took at most its bound, the bound itself included; both empty ends are left out."""
    times = Histogram()
    for value in (BOUNDS_MS[10], BOUNDS_MS[10] * 1.01, BOUNDS_MS[12], -3):
        times.add(value)
    buckets = times.statistics()["buckets"]
    assert buckets[0] == [BOUNDS_MS[0], 1], "a negative time is none"
    told = dict(map(tuple, buckets))
    assert [told[BOUNDS_MS[index]] for index in (9, 10, 11, 12)] == [1, 2, 3, 4]
    assert buckets[-2:] == [[BOUNDS_MS[12], 4], [None, 4]]


def test_what_is_beyond_every_bound_is_counted() -> None:
    times = Histogram()
    times.add(BOUNDS_MS[-1] * 2)
    assert times.statistics()["buckets"] == [[None, 1]]


def test_memory_is_bounded() -> None:
    """However much is counted, the percentiles know the latest only."""
    times = Histogram(keep=10)
    for value in range(100):
        times.add(value)
    told = times.statistics()
    assert (told["n"], told["p50_ms"], told["max_ms"]) == (10, 94, 99)
    assert told["buckets"][-1] == [None, 100]
