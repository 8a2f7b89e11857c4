"""Streams that are opened in a storm: a thread and the loop take turns, and nobody waits longer than a turn."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event
from support.servers import SOON, wait_until

from hakgal_hybrid.server.fanout.pacing import Precedence
from hakgal_hybrid.server.notifier import EventNotifier
from hakgal_hybrid.server.openings import AT_ONCE, OpeningPool
from hakgal_hybrid.server.pool import Job


class Opening:
    """A job with an answer; it may have to wait for ``may_end``."""

    def __init__(self, notifier: EventNotifier, *, waits: bool = False) -> None:
        self._notifier = notifier
        self.thread: threading.Thread | None = None
        self.answered, self.may_end = Event(), threading.Event()
        if not waits:
            self.may_end.set()

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        assert self.may_end.wait(SOON)
        self._notifier.set(self.answered, later=True)


class Storm:
    """A pool on the loop of the test's thread."""

    def __init__(self) -> None:
        loop = gevent.get_hub().loop
        self.notifier, self.precedence = EventNotifier(loop), Precedence()
        self.pool = OpeningPool(loop, self.notifier, self.precedence, threads=4, max_waiting=100, max_bytes=0,
                                alone_s=SOON, idle_s=0.05)
        self.notifier.delivered = self.pool.answered
        self.calmed = Event()
        self.pool.on_calm.append(self.calmed.set)

    def submit(self, count: int, *, first_waits: bool = False) -> list[Opening]:
        openings = [Opening(self.notifier, waits=first_waits and number == 0) for number in range(count)]
        for opening in openings:
            self.pool.submit(Job(opening))
        return openings


#: libuv's watchers must not be freed by whichever thread collects garbage.
_kept: list[Storm] = []


@pytest.fixture
def storm() -> Iterator[Storm]:
    made = Storm()
    _kept.append(made)
    yield made
    wait_until(lambda: made.pool.statistics()["threads"] == 0, what="idle threads to end")
    made.pool.close()
    made.notifier.close()


def test_every_opening_is_answered(storm: Storm) -> None:
    """However many come at once, each is run and its answer comes to the loop."""
    openings = storm.submit(10 * AT_ONCE)
    assert all(opening.answered.wait(SOON) for opening in openings)
    wait_until(lambda: storm.pool.at_rest, what="the threads to have ended their last jobs")


def test_an_answer_does_not_wait_for_the_next_opening(storm: Storm) -> None:
    """The answer of an opening comes although its thread is busy with the next one, for however long."""
    slow, quick = storm.submit(2, first_waits=True)
    last = storm.submit(1)[0]
    slow.may_end.set()
    held = Opening(storm.notifier, waits=True)
    storm.pool.submit(Job(held))
    assert slow.answered.wait(SOON)
    assert quick.answered.wait(SOON)
    assert last.answered.wait(SOON)
    assert not held.answered.is_set()
    held.may_end.set()
    assert held.answered.wait(SOON)


def test_a_storm_holds_up_connections_for_one_turn(storm: Storm) -> None:
    """While many openings wait no connection is accepted, but only for a turn: the first of them may last."""
    openings = storm.submit(AT_ONCE + 1, first_waits=True)
    gevent.sleep(0)
    assert storm.pool.storm
    assert storm.calmed.wait(SOON)
    assert not storm.pool.storm
    assert not openings[0].answered.is_set()
    openings[0].may_end.set()
    assert all(opening.answered.wait(SOON) for opening in openings)


def test_a_few_openings_are_no_storm(storm: Storm) -> None:
    """Fewer openings than are accepted at once hold up no connection."""
    openings = storm.submit(AT_ONCE, first_waits=True)
    wait_until(lambda: openings[0].thread is not None)
    gevent.sleep(0)
    assert not storm.pool.storm
    openings[0].may_end.set()
    assert all(opening.answered.wait(SOON) for opening in openings)


def test_events_go_before_openings(storm: Storm) -> None:
    """Each opening waits while events are sent, for a turn at most: it must not starve."""
    with storm.precedence:
        opening = storm.submit(1)[0]
        assert not opening.answered.is_set()
        assert opening.answered.wait(SOON)


def test_openings_give_way_as_soon_as_there_is_an_event() -> None:
    """From the moment of an emit openings wait until its event is sent, or for their time, if nobody sends it."""
    precedence = Precedence()
    precedence.give(SOON)  # there is no event
    precedence.want()
    began = time.monotonic()
    precedence.give(0.1)
    assert time.monotonic() - began > 0.05
    waiting = threading.Thread(target=precedence.give, args=(10 * SOON,))
    waiting.start()
    with precedence:
        pass
    waiting.join(SOON)
    assert not waiting.is_alive()
    began = time.monotonic()
    precedence.give(SOON)
    assert time.monotonic() - began < SOON


def test_connections_of_a_storm_are_put_off_once_while_events_are_sent(storm: Storm) -> None:
    """A connection after openings waits while events are sent, but not for long: the next time it is accepted."""
    opening = storm.submit(1, first_waits=True)[0]
    assert not storm.pool.keeps_out()
    with storm.precedence:
        gevent.sleep(0)
        assert storm.pool.keeps_out()
        assert storm.calmed.wait(SOON)
        assert not storm.pool.keeps_out()
        assert storm.pool.keeps_out()
    opening.may_end.set()
    assert opening.answered.wait(SOON)


FROZEN = """
import gc, gevent
from flask import Flask
from hakgal_hybrid import HybridTransport
transport = HybridTransport(Flask("frozen"))
counts = [gc.get_freeze_count()]
def stop():
    with gevent.Timeout(30, False):
        while gc.get_freeze_count() <= counts[0] + 1000:
            gevent.sleep(0.05)
    counts.append(gc.get_freeze_count())
    transport.socketio.stop()
gevent.spawn(stop)
transport.run(host="127.0.0.1", port=0)
print(*counts, gc.get_freeze_count())
"""


def test_the_collector_leaves_the_host_alone_while_it_is_served() -> None:
    """What is there when the server starts is left out of garbage collections until the server has ended."""
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, check=True, timeout=60)
    before, during, after = map(int, done.stdout.split())
    assert during > before + 1000
    assert after <= before
