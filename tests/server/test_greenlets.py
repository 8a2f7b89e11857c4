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

from hakgal_hybrid.server import greenlets as crews
from hakgal_hybrid.server.greenlets import GreenletPool
from hakgal_hybrid.server.timeout import Limit

Trial = Callable[[Callable[[GreenletPool], None]], None]


@pytest.fixture
def trial() -> Trial:
    """Run a function with a crew, on a loop and in a thread of its own; its crew must end within a second."""

    def run(function: Callable[[GreenletPool], None]) -> None:
        crew = GreenletPool(gevent.get_hub().loop)
        function(crew)
        crew.kill(timeout=1)
        assert not crew._all

    return lambda function: on_a_loop(lambda: run(function))


def who(found: list[Any]) -> None:
    """Note in which greenlet this runs."""
    found.append(gevent.getcurrent())


def test_a_greenlet_serves_one_call_after_the_other(trial: Trial) -> None:
    """A call runs in the greenlet of one that has ended; what that one was given is not kept meanwhile."""

    def use(crew: GreenletPool) -> None:
        found: list[Any] = []
        for _ in range(3):
            crew.spawn(who, found)
            gevent.sleep(0.001)
        assert len(found) == 3
        assert len(set(found)) == 1
        assert "args" not in found[0].gr_frame.f_locals

    trial(use)


def test_what_a_call_was_given_is_not_kept(trial: Trial) -> None:
    """Neither the first one's nor a later one's: a connection would stay in memory for as long as its greenlet."""

    class Given:
        """Something that can be seen to be gone."""

    def use(crew: GreenletPool) -> None:
        for _ in range(3):
            given = Given()
            gone = weakref.ref(given)
            crew.spawn(id, given)
            del given
            gevent.sleep(0.001)
            gc.collect()
            assert gone() is None
        assert len(crew._spare) == 1

    trial(use)


@pytest.mark.parametrize("block", [True, False])
def test_a_greenlet_that_was_killed_gets_no_call(trial: Trial, block: bool) -> None:
    """What has killed it is not known to the next one, whose call must not be lost."""

    def use(crew: GreenletPool) -> None:
        found: list[Any] = []
        crew.spawn(who, found)
        gevent.sleep(0.001)
        found[0].kill(block=block)
        crew.spawn(who, found)
        gevent.sleep(0.001)
        assert len(set(found)) == 2

    trial(use)


def test_calls_that_have_not_begun_end_too(trial: Trial) -> None:
    """Who is to be killed before it has run does not run, and is not kept."""

    def use(crew: GreenletPool) -> None:
        found: list[Any] = []
        crew.spawn(who, found)
        crew.kill(timeout=1)
        assert not crew._all
        gevent.sleep(0.001)
        assert not found

    trial(use)


def test_calls_at_the_same_time_have_a_greenlet_each(trial: Trial) -> None:
    """Of calls that wait, none is in another one's greenlet; of those greenlets only some are kept."""

    def use(crew: GreenletPool) -> None:
        found: list[Any] = []
        may_end = Event()

        def wait() -> None:
            who(found)
            may_end.wait()

        many = crews.SPARE + 5
        for _ in range(many):
            crew.spawn(wait)
        gevent.sleep(0.001)
        assert len(set(found)) == many
        may_end.set()
        gevent.sleep(0.01)
        assert len(crew._spare) == len(crew._all) == crews.SPARE
        assert sum(not greenlet.dead for greenlet in found) == crews.SPARE

    trial(use)


def test_a_call_that_raises_does_not_end_its_greenlet(trial: Trial) -> None:
    """Its error is shown, and the next call runs."""

    def use(crew: GreenletPool) -> None:
        found: list[Any] = []
        shown: list[Any] = []
        gevent.get_hub().handle_error = lambda context, kind, error, trace: shown.append(kind)

        def fail() -> None:
            who(found)
            raise ZeroDivisionError

        for _ in range(2):
            crew.spawn(fail)
            gevent.sleep(0.001)
        assert shown == [ZeroDivisionError, ZeroDivisionError]
        assert len(set(found)) == 1

    trial(use)


def test_the_end_is_the_end_of_all(trial: Trial) -> None:
    """Calls that are going on are broken off, and may clean up; greenlets that wait for a call end too."""

    def use(crew: GreenletPool) -> None:
        told: list[str] = []

        def wait() -> None:
            try:
                gevent.sleep(60)
            finally:
                told.append("cleaned up")

        crew.spawn(wait)
        crew.spawn(told.append, "called")
        gevent.sleep(0.001)
        assert len(crew._all) == 2
        crew.kill(timeout=1)
        assert told == ["called", "cleaned up"]

    trial(use)


def test_a_call_that_does_not_end_does_not_keep_the_others(trial: Trial) -> None:
    """Whoever goes on although it was told to end is waited for as long as that was allowed."""

    def use(crew: GreenletPool) -> None:
        may_end = Event()

        def wait() -> None:
            with contextlib.suppress(gevent.GreenletExit):
                gevent.sleep(60)
            may_end.wait()

        crew.spawn(wait)
        gevent.sleep(0.001)
        crew.kill(timeout=0.01)
        assert len(crew._all) == 1
        may_end.set()
        gevent.sleep(0.001)

    trial(use)


def test_a_limit_breaks_off_what_takes_too_long_and_nothing_later(trial: Trial) -> None:
    """It raises inside; once what is inside has ended, it does nothing any more."""

    def use(crew: GreenletPool) -> None:
        loop = gevent.get_hub().loop
        with pytest.raises(gevent.Timeout), Limit(loop, 0.005):
            gevent.sleep(60)
        with Limit(loop, 0.005):
            pass
        gevent.sleep(0.02)

    trial(use)
