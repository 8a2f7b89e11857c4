"""The writer's turns, on a real loop: how often it polls while it sends."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent

from hakgal_hybrid.server.fanout.pacing import IDLE_S, MOST_SENDS_PER_TURN, SENDS_PER_TURN, Pace

SENDS = 16 * SENDS_PER_TURN


def polls(pace: Pace, meanwhile: Callable[[], None]) -> int:
    """Return how often the loop polled while :data:`SENDS` sends were made, each of a microsecond."""
    seen = 0

    def polled() -> None:
        nonlocal seen
        seen += 1
        meanwhile()

    watcher = gevent.get_hub().loop.check()  # called after each time the loop has looked at its sockets
    watcher.start(polled)
    try:
        pace.begin()
        for _ in range(0, SENDS, 8):
            spend(8e-6)
            pace.sent(8)
    finally:
        watcher.stop()
        watcher.close()
    return seen


def spend(seconds: float) -> None:
    """Compute for so long."""
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        pass


def nothing() -> None:
    """Be a loop that has nothing else to do."""


def something() -> None:
    """Be longer than a loop is that has nothing to do."""
    spend(1.1 * IDLE_S)


def test_an_idle_loop_is_polled_less_and_less() -> None:
    """While there is nothing else to do turns grow, up to a bound; as soon as the machine lets us see it."""
    pace = Pace(gevent.get_hub().loop, lambda: False)
    seen = [polls(pace, nothing)]
    ends = time.monotonic() + 30
    while seen[-1] > SENDS // SENDS_PER_TURN // 2 and time.monotonic() < ends:
        seen.append(polls(pace, nothing))
    assert SENDS // MOST_SENDS_PER_TURN <= seen[-1] <= SENDS // SENDS_PER_TURN // 2, seen


def test_a_busy_loop_is_polled_as_often_as_ever() -> None:
    """As soon as there is something else to do turns are short again."""
    pace = Pace(gevent.get_hub().loop, lambda: False)
    for _ in range(50):
        polls(pace, nothing)
    polls(pace, something)  # the first turn of these may still be a long one
    assert max(polls(pace, something) for _ in range(5)) > SENDS // SENDS_PER_TURN // 2


def test_beside_requests_the_loop_is_polled_as_often_as_ever() -> None:
    """A request that is being answered may have something for the loop at any moment, so turns stay short."""
    pace = Pace(gevent.get_hub().loop, lambda: True)
    assert max(polls(pace, nothing) for _ in range(5)) > SENDS // SENDS_PER_TURN // 2
