"""Numbered calls of one client: in order, once each."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from hakgal_hybrid.broker.sequencer import Sequencer
from hakgal_hybrid.errors import RequestError


def test_calls_that_arrive_in_reverse_start_in_order():
    """Threads that come with 3, 2 and 1 run as 1, 2, 3."""
    sequencer, order = Sequencer(timeout_s=30.0), []
    threads = [threading.Thread(target=sequencer.run,
                                args=(number, lambda begin, number=number: str(order.append(number))))
               for number in (3, 2, 1)]
    for thread in threads[:2]:
        thread.start()
    assert order == []
    threads[2].start()
    for thread in threads:
        thread.join(30)
    assert order == [1, 2, 3]


def test_a_repeated_number_gets_the_first_answer_and_runs_nothing():
    """A post that is sent again because its answer was lost does not act twice."""
    sequencer, ran = Sequencer(), []

    def call(begin):
        ran.append(1)
        return "answer"

    assert [sequencer.run(1, call), sequencer.run(1, call)] == ["answer", "answer"]
    assert ran == [1]


def test_a_repeated_number_that_failed_fails_alike():
    """The error of the first call is what a repetition gets."""
    sequencer = Sequencer()
    for _ in range(2):
        with pytest.raises(RequestError, match="no"):
            sequencer.run(1, lambda begin: (_ for _ in ()).throw(RequestError("no")))


def test_a_repetition_while_the_first_still_runs_waits_for_its_answer():
    """Two posts of one number at the same time give one call and two equal answers."""
    sequencer, begun, go, answers = Sequencer(), threading.Event(), threading.Event(), []

    def call(begin):
        begun.set()
        assert go.wait(30)
        return len(answers)

    first = threading.Thread(target=lambda: answers.append(sequencer.run(1, call)))
    first.start()
    assert begun.wait(30)
    second = threading.Thread(target=lambda: answers.append(sequencer.run(1, call)))
    second.start()
    go.set()
    first.join(30)
    second.join(30)
    assert answers == [0, 0]


def test_a_number_whose_predecessor_never_comes_is_refused():
    """Waiting is bounded in time, and the refusal says which number is expected."""
    with pytest.raises(RequestError) as caught:
        Sequencer(timeout_s=0.01).run(2, lambda begin: "")
    assert (caught.value.status, caught.value.code, caught.value.extra) == (409, "out_of_turn", {"expected": 1})


def test_only_so_many_calls_may_wait():
    """Waiting holds a thread of the host, so that it is bounded in number too."""
    with pytest.raises(RequestError, match="out of turn"):
        Sequencer(max_waiting=0).run(2, lambda begin: "")


def test_all_clients_share_what_may_wait():
    """With no unit left, a call that is early and one that repeats a running number are refused at once."""
    shared, sequencer, codes = threading.Semaphore(1), Sequencer(timeout_s=30.0), []
    early = threading.Thread(target=lambda: sequencer.run(2, lambda begin: "", shared))
    early.start()
    while shared.acquire(blocking=False):  # until it waits
        shared.release()
        early.join(0.001)

    def running(begin):
        for number in (1, 3):
            with pytest.raises(RequestError) as caught:
                Sequencer(timeout_s=30.0).run(2, lambda begin: "", shared)
            codes.append(caught.value.code)
            with pytest.raises(RequestError) as caught:
                sequencer.run(number, lambda begin: "", shared)
            codes.append(caught.value.code)
        return ""

    sequencer.run(1, running, shared)
    early.join(30)
    assert codes == ["out_of_turn", "still_running", "out_of_turn", "out_of_turn"]
    assert shared.acquire(blocking=False), "what waited has given its unit back"


def test_who_waits_for_a_refused_number_is_refused_with_it():
    """Number 2 may not wait, so that 3, which would wait for it, learns at once that its turn cannot come."""
    shared, sequencer, codes = threading.Semaphore(1), Sequencer(timeout_s=30.0), []

    def later():
        with pytest.raises(RequestError) as caught:
            sequencer.run(3, lambda begin: "", shared)
        codes.append((caught.value.code, caught.value.extra))

    waiting = threading.Thread(target=later)
    waiting.start()
    while shared.acquire(blocking=False):
        shared.release()
        waiting.join(0.001)
    with pytest.raises(RequestError, match="out of turn"):
        sequencer.run(2, lambda begin: "", shared)
    waiting.join(30)
    assert codes == [("out_of_turn", {"expected": 1})]
    assert [sequencer.run(number, lambda begin: "ran", shared) for number in (1, 2, 3)] == ["ran"] * 3


def test_a_repetition_of_what_is_forgotten_is_refused():
    """Only the last answers are kept; an older number is told that it comes too late."""
    sequencer = Sequencer(replies_cached=1)
    for number in (1, 2):
        sequencer.run(number, lambda begin: "")
    with pytest.raises(RequestError) as caught:
        sequencer.run(1, lambda begin: "")
    assert caught.value.code == "repeated_too_late"


def test_the_next_call_may_start_once_this_one_has_begun():
    """A slow handler does not hold up the events behind it, as on one socket."""
    sequencer, second = Sequencer(), []

    def slow(begin):
        begin()
        other = threading.Thread(target=lambda: second.append(sequencer.run(2, lambda begin: "second")))
        other.start()
        other.join(30)
        return ", ".join(second)

    assert sequencer.run(1, slow) == "second"


def test_a_repetition_does_not_wait_for_ever():
    """While the first call hangs, those that repeat its number are refused after a while."""
    sequencer, refused = Sequencer(timeout_s=0.01), []

    def hanging(begin):
        with pytest.raises(RequestError) as caught:
            sequencer.run(1, lambda begin: "")
        refused.append(caught.value.code)
        return ""

    sequencer.run(1, hanging)
    assert refused == ["still_running"]


def test_repeating_an_error_keeps_nothing_alive():
    """Each repetition raises an error of its own, so that neither frames nor what they hold pile up."""
    sequencer, bodies = Sequencer(), []

    class Body:
        pass

    def failing(begin):
        body = Body()
        bodies.append(weakref.ref(body))
        raise RequestError("no", code="unknown_event", status=404, accepted=["x"])

    raised = []
    for _ in range(3):
        with pytest.raises(RequestError) as caught:
            sequencer.run(1, failing)
        raised.append(caught.value)
    assert len(set(map(id, raised))) == 3
    assert {(error.code, error.status, tuple(error.extra["accepted"])) for error in raised} == {
        ("unknown_event", 404, ("x",))}
    del raised, caught
    gc.collect()
    assert [body() for body in bodies] == [None]
    with pytest.raises(ZeroDivisionError):
        sequencer.run(2, lambda begin: str(1 / 0))
    with pytest.raises(RequestError, match="ZeroDivisionError"):
        sequencer.run(2, failing)


def test_kept_answers_are_bounded_in_size():
    """What is kept for repetitions is bounded in number and in size; the oldest goes first."""
    sequencer = Sequencer(cached_chars=30)
    for number in range(1, 6):
        sequencer.run(number, lambda begin: "x" * 10)
    assert sequencer.run(5, lambda begin: "again") == "x" * 10
    with pytest.raises(RequestError, match="too long ago"):
        sequencer.run(1, lambda begin: "")
