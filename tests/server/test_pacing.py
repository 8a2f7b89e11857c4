"""The writer's turns, on a real loop: how often it polls while it sends."""

from __future__ import annotations

import gevent
import pytest
from support.loops import on_a_loop

from hakgal_hybrid.broker.live import Delivery
from hakgal_hybrid.server.fanout.pacing import SECONDS_PER_TURN, SENDS_PER_TURN, Pace, in_turns

TURNS = 16


def polls(seconds_a_send: float, others_s: float = 0.0) -> int:
    """Return how often the loop polled while the sends of some turns were made, others taking so long each time."""
    seen, now = 0, 0.0

    def polled() -> None:
        nonlocal seen, now
        seen += 1
        now += others_s

    watcher = gevent.get_hub().loop.check()  # called after each time the loop has looked at its sockets
    watcher.start(polled)
    try:
        pace = Pace(gevent.get_hub().loop, clock=lambda: now)
        pace.begin()
        for _ in range(0, TURNS * SENDS_PER_TURN, 8):
            now += 8 * seconds_a_send
            pace.sent(8)
    finally:
        watcher.stop()
        watcher.close()
    return seen


@pytest.mark.parametrize(("seconds_a_send", "least"), [(20e-6, TURNS // 2), (SECONDS_PER_TURN / 15, 4 * TURNS)])
def test_the_loop_is_polled_after_each_turn(seconds_a_send: float, least: int) -> None:
    """A turn ends after so many sends, and after so much time where a send takes long."""
    assert on_a_loop(lambda: polls(seconds_a_send)) >= least


def test_streams_get_as_long_as_the_others_have_taken() -> None:
    """What is sent to many streams does not wait for others after each 64 of them: both get half of the time."""
    # 1,024 sends of 10 µs are two turns of 4 ms and a bit; by their number they would be 16.
    assert on_a_loop(lambda: polls(10e-6, others_s=0.004)) <= TURNS // 2


def test_members_of_one_delivery_do_not_wait_for_all_of_another() -> None:
    """Each member is sent to once, in order; the first of a delivery before those of another that joined much later."""
    sizes = {"a": 7, "b": 0, "c": 3}
    deliveries = [Delivery(name.encode(), 1, 0, [f"{name}{number}" for number in range(size)])
                  for name, size in sizes.items()]
    turns = [(delivery.data, members) for delivery, members in in_turns(deliveries, 3)]
    assert turns == [(b"a", ["a0", "a1", "a2"]), (b"c", ["c0", "c1", "c2"]), (b"a", ["a3", "a4", "a5"]), (b"a", ["a6"])]
