"""The greenlets that serve connections: used again, never shared, and ended with the server."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support.loops import on_a_loop

from hakgal_hybrid.server.greenlets import GreenletPool
from hakgal_hybrid.server.timeout import Limit

#: How many greenlets are kept.
SPARE = 8

Trial = Callable[[Callable[[GreenletPool], None]], None]


@pytest.fixture
def trial() -> Trial:
    """Run a function with a pool, on a loop and in a thread of its own; its pool must end within a second."""

    def run(function: Callable[[GreenletPool], None]) -> None:
        pool = GreenletPool(gevent.get_hub().loop, max_spare=SPARE)
        function(pool)
        pool.kill(timeout=1)
        assert not len(pool)

    return lambda function: on_a_loop(lambda: run(function))


def who(found: list[Any]) -> None:
    """Note in which greenlet this runs."""
    found.append(gevent.getcurrent())


def test_a_greenlet_serves_one_call_after_the_other(trial: Trial) -> None:
    """A call runs in the greenlet of one that has ended; what that one was given is not kept meanwhile."""

    def use(pool: GreenletPool) -> None:
        found: list[Any] = []
        for _ in range(3):
            pool.spawn(who, found)
            gevent.sleep(0.001)
        assert len(found) == 3
        assert len(set(found)) == 1
        assert "args" not in found[0].gr_frame.f_locals

    trial(use)


def test_what_a_call_was_given_is_not_kept(trial: Trial) -> None:
    """Neither the first one's nor a later one's: a connection would stay in memory for as long as its greenlet."""

    class Given:
        """Something that can be seen to be gone."""

    def use(pool: GreenletPool) -> None:
        for _ in range(3):
            given = Given()
            gone = weakref.ref(given)
            pool.spawn(id, given)
            del given
            gevent.sleep(0.001)
            gc.collect()
            assert gone() is None
        assert len(pool) == 1

    trial(use)


@pytest.mark.parametrize("block", [True, False])
def test_a_greenlet_that_was_killed_gets_no_call(trial: Trial, block: bool) -> None:
    """What has killed it is not known to the next one, whose call must not be lost."""

    def use(pool: GreenletPool) -> None:
        found: list[Any] = []
        pool.spawn(who, found)
        gevent.sleep(0.001)
        found[0].kill(block=block)
        pool.spawn(who, found)
        gevent.sleep(0.001)
        assert len(set(found)) == 2

    trial(use)


def test_calls_that_have_not_begun_end_too(trial: Trial) -> None:
    """A call whose greenlet is killed before it has begun does not run, and is not kept."""

    def use(pool: GreenletPool) -> None:
        found: list[Any] = []
        pool.spawn(who, found)
        pool.kill(timeout=1)
        assert not len(pool)
        gevent.sleep(0.001)
        assert not found

    trial(use)


def test_calls_at_the_same_time_have_a_greenlet_each(trial: Trial) -> None:
    """Of calls that wait, none is in another one's greenlet; of those greenlets only some are kept."""

    def use(pool: GreenletPool) -> None:
        found: list[Any] = []
        may_end = Event()

        def wait() -> None:
            who(found)
            may_end.wait()

        many = SPARE + 5
        for _ in range(many):
            pool.spawn(wait)
        gevent.sleep(0.001)
        assert len(set(found)) == many
        may_end.set()
        gevent.sleep(0.01)
        assert len(pool) == SPARE
        assert sum(not greenlet.dead for greenlet in found) == SPARE

    trial(use)


def test_a_call_that_raises_does_not_end_its_greenlet(trial: Trial) -> None:
    """Its error is shown, and the next call runs."""

    def use(pool: GreenletPool) -> None:
        found: list[Any] = []
        shown: list[Any] = []
        gevent.get_hub().handle_error = lambda context, kind, error, trace: shown.append(kind)

        def fail() -> None:
            who(found)
            raise ZeroDivisionError

        for _ in range(2):
            pool.spawn(fail)
            gevent.sleep(0.001)
        assert shown == [ZeroDivisionError, ZeroDivisionError]
        assert len(set(found)) == 1

    trial(use)


def test_the_end_is_the_end_of_all(trial: Trial) -> None:
    """Calls that are going on are broken off, and may clean up; greenlets that wait for a call end too."""

    def use(pool: GreenletPool) -> None:
        noted: list[str] = []

        def wait() -> None:
            try:
                gevent.sleep(60)
            finally:
                noted.append("cleaned up")

        pool.spawn(wait)
        pool.spawn(noted.append, "called")
        gevent.sleep(0.001)
        assert len(pool) == 2
        pool.kill(timeout=1)
        assert noted == ["called", "cleaned up"]

    trial(use)


def test_a_call_that_does_not_end_does_not_keep_the_others(trial: Trial) -> None:
    """A call that goes on although its greenlet was killed is waited for no longer than allowed."""

    def use(pool: GreenletPool) -> None:
        may_end = Event()

        def wait() -> None:
            with contextlib.suppress(gevent.GreenletExit):
                gevent.sleep(60)
            may_end.wait()

        pool.spawn(wait)
        gevent.sleep(0.001)
        pool.kill(timeout=0.01)
        assert len(pool) == 1
        may_end.set()
        gevent.sleep(0.001)

    trial(use)


def test_a_limit_breaks_off_what_takes_too_long_and_nothing_later(trial: Trial) -> None:
    """It raises inside; once what is inside has ended, it does nothing any more."""

    def use(pool: GreenletPool) -> None:
        loop = gevent.get_hub().loop
        with pytest.raises(gevent.Timeout), Limit(loop, 0.005):
            gevent.sleep(60)
        with Limit(loop, 0.005):
            pass
        gevent.sleep(0.02)

    trial(use)
