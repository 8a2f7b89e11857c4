"""The writer's turns, on a real loop: how often it polls while it sends."""

from __future__ import annotations

import time

import gevent
import pytest
from support.loops import on_a_loop

from hakgal_hybrid.server.fanout.pacing import SECONDS_PER_TURN, SENDS_PER_TURN, Pace

TURNS = 16


def polls(seconds_a_send: float) -> int:
    """Return how often the loop polled while the sends of some turns were made."""
    seen = 0

    def polled() -> None:
        nonlocal seen
        seen += 1

    watcher = gevent.get_hub().loop.check()  # called after each time the loop has looked at its sockets
    watcher.start(polled)
    try:
        pace = Pace(gevent.get_hub().loop)
        pace.begin()
        for _ in range(0, TURNS * SENDS_PER_TURN, 8):
            ends = time.perf_counter() + 8 * seconds_a_send
            while time.perf_counter() < ends:
                pass
            pace.sent(8)
    finally:
        watcher.stop()
        watcher.close()
    return seen


@pytest.mark.parametrize(("seconds_a_send", "least"), [(0.0, TURNS), (SECONDS_PER_TURN / 16, 4 * TURNS)])
def test_the_loop_is_polled_after_each_turn(seconds_a_send: float, least: int) -> None:
    """A turn ends after so many sends, and after so much time where a send takes long."""
    assert on_a_loop(lambda: polls(seconds_a_send)) >= least
