"""Timers: calls that are made at their time, and not if they are cancelled."""

from __future__ import annotations

import threading
from collections.abc import Collection

import pytest

from hakgal_hybrid.broker.timers import TimerQueue


@pytest.fixture
def timers() -> TimerQueue:
    """Timers whose thread ends soon."""
    return TimerQueue(idle_s=0.01)


def threads(others: Collection[threading.Thread] = ()) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate()
            if thread.name == "hakgal-hybrid-timers" and thread not in others]


def test_calls_are_made_in_the_order_of_their_times(timers):
    """What is due earlier is called earlier, whatever was asked for first."""
    called, done = [], threading.Event()
    timers.call_later(1, lambda: (called.append("late"), done.set()))
    timers.call_later(0.01, lambda: called.append("early"))
    assert done.wait(30)
    assert called == ["early", "late"]


def test_a_cancelled_call_is_never_made():
    """Cancelling takes a call back, also after it was made."""
    now, called, done = [0.0], [], threading.Event()
    timers = TimerQueue(idle_s=0.01, clock=lambda: now[0])
    cancelled = timers.call_later(0.01, lambda: called.append("cancelled"))
    cancelled.cancel()
    now[0] = 1.0
    kept = timers.call_later(0.02, done.set)
    now[0] = 2.0
    assert done.wait(30)
    kept.cancel()
    assert called == []


def test_a_call_that_raises_stops_nobody(timers, caplog):
    """An error is logged; later calls are made."""
    done = threading.Event()
    timers.call_later(0.001, lambda: 1 / 0)
    timers.call_later(0.002, done.set)
    assert done.wait(30)
    assert "ZeroDivisionError" in caplog.text


def test_the_thread_ends_and_begins_again(timers):
    """Without anything to wait for there is no thread; the next call starts one."""
    others = set(threads())
    for _ in range(2):
        done = threading.Event()
        timers.call_later(0, done.set)
        assert done.wait(30)
        for thread in threads(others):
            thread.join(30)
        assert threads(others) == []


def test_cancelled_calls_do_not_pile_up():
    """Clients that come back leave cancelled timers far in the future: those are forgotten."""
    timers = TimerQueue()
    for _ in range(5000):
        timers.call_later(3600, lambda: None).cancel()
    assert len(timers) < 200


def test_cancelled_calls_do_not_wake_the_thread():
    """The thread looks at the clock for the earliest call only, however many come later and are cancelled at once."""
    looked = [0]

    def clock() -> float:
        looked[0] += threading.current_thread().name == "hakgal-hybrid-timers"
        return 0.0

    timers = TimerQueue(clock=clock)
    for _ in range(200):
        timers.call_later(3600, lambda: None).cancel()
        threading.Event().wait(0.0005)
    assert looked[0] < 50


def test_calls_are_made_at_their_time_by_the_clock_given():
    """The clock decides, not the time that passes."""
    now = [0.0]
    timers = TimerQueue(clock=lambda: now[0])
    called = threading.Event()
    timers.call_later(0.05, called.set)
    assert not called.wait(0.2)
    now[0] = 0.06
    timers.call_later(0, lambda: None)
    assert called.wait(30)


def test_many_threads_at_once(timers):
    """Timers set from many threads are all kept."""
    count, lock, done = [0], threading.Lock(), threading.Event()

    def one() -> None:
        with lock:
            count[0] += 1
            if count[0] == 400:
                done.set()

    setters = [threading.Thread(target=lambda: [timers.call_later(0.001, one) for _ in range(50)]) for _ in range(8)]
    for thread in setters:
        thread.start()
    for thread in setters:
        thread.join()
    assert done.wait(30)
    assert len(timers) == 0
