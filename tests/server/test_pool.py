"""Lanes: bounded pools of native threads, and the writer's place in between."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.servers import SOON, wait_until

from hakgal_hybrid import Overloaded
from hakgal_hybrid.server import pool as lanes
from hakgal_hybrid.server.pool import Job, ThreadPool


class Gate:
    """A job that says it has begun, and ends when it may."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        assert self.may_end.wait(SOON)


@pytest.fixture
def lane_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ThreadPool]]:
    """Make lanes whose idle threads end soon; wait for all of them at the end."""
    monkeypatch.setattr(lanes, "IDLE_S", 0.05)
    made: list[ThreadPool] = []

    def make(threads: int = 1, *, max_waiting: int = 10, max_bytes: int = 1000, **options: Any) -> ThreadPool:
        made.append(ThreadPool("test", threads, max_waiting=max_waiting, max_bytes=max_bytes, **options))
        return made[-1]

    yield make
    for lane in made:
        wait_until(lambda lane=lane: lane.statistics()["threads"] == 0, what="idle threads to end")


def submitted(lane: ThreadPool, size: int = 0) -> Gate:
    """Submit a job that holds its thread, and wait until it does."""
    gate = Gate()
    lane.submit(Job(gate, size))
    assert gate.begun.wait(SOON)
    return gate


def test_jobs_run_in_threads_of_the_lane(lane_of: Callable[..., ThreadPool]) -> None:
    """A job runs in a daemon thread that carries the lane's name, not in its caller's."""
    gate = submitted(lane_of())
    gate.may_end.set()
    assert gate.thread is not None
    assert gate.thread is not threading.current_thread()
    assert gate.thread.daemon
    assert gate.thread.name == "hakgal-hybrid-test"


def test_short_jobs_run_one_after_the_other(lane_of: Callable[..., ThreadPool]) -> None:
    """In a lane with patience, jobs that end soon never run side by side, however many threads there are."""
    lane = lane_of(4, max_waiting=100, patience_s=SOON)
    running, most, done = [0], [0], threading.Semaphore(0)

    def job() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        threading.Event().wait(0.001)
        running[0] -= 1
        done.release()

    for _ in range(50):
        lane.submit(Job(job))
    for _ in range(50):
        assert done.acquire(timeout=SOON)
    assert most == [1]


def test_a_job_gives_way_for_a_moment(lane_of: Callable[..., ThreadPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """No job begins while the lane gives way; but it does not wait for ever."""
    monkeypatch.setattr(lanes, "COURTESY_S", SOON)
    free = threading.Event()
    lane, began = lane_of(gives_way=free), threading.Event()
    lane.submit(Job(began.set))
    assert not began.wait(0.05)
    free.set()
    assert began.wait(SOON)
    free.clear()
    monkeypatch.setattr(lanes, "COURTESY_S", 0.001)
    assert submitted(lane).may_end.set() is None


def test_a_job_that_lasts_holds_up_nobody(lane_of: Callable[..., ThreadPool]) -> None:
    """Once a job has had the lane to itself for long enough, the next one begins beside it."""
    lane = lane_of(2, patience_s=0.05)
    first = submitted(lane)
    second = submitted(lane)
    assert lane.busy == 2
    for gate in (first, second):
        gate.may_end.set()
    wait_until(lambda: lane.busy == 0)


def test_no_more_threads_than_allowed(lane_of: Callable[..., ThreadPool]) -> None:
    """As many jobs run at once as there are threads; the next one waits for the first that is free."""
    lane = lane_of(2)
    running = [submitted(lane), submitted(lane)]
    waiting = Gate()
    lane.submit(Job(waiting))
    assert lane.statistics() == {"threads": 2, "busy": 2, "waiting": 1, "rejected": 0}
    assert not waiting.begun.is_set()
    running[0].may_end.set()
    assert waiting.begun.wait(SOON)
    assert lane.busy == 2
    for gate in (running[1], waiting):
        gate.may_end.set()
    wait_until(lambda: lane.busy == 0)


def test_jobs_begin_in_order(lane_of: Callable[..., ThreadPool]) -> None:
    """Jobs that wait begin in the order they came."""
    lane = lane_of(1, max_waiting=100)
    gate, order = submitted(lane), []
    for number in range(100):
        lane.submit(Job(lambda number=number: order.append(number)))
    gate.may_end.set()
    wait_until(lambda: len(order) == 100)
    assert order == list(range(100))


def test_an_idle_thread_is_used_again(lane_of: Callable[..., ThreadPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is started while one is idle."""
    monkeypatch.setattr(lanes, "IDLE_S", SOON)
    lane = lane_of(5)
    threads = set()
    for _ in range(5):
        gate = submitted(lane)
        gate.may_end.set()
        threads.add(gate.thread)
        wait_until(lambda: lane.busy == 0)
    assert len(threads) == 1
    monkeypatch.setattr(lanes, "IDLE_S", 0.05)
    lane.submit(Job(lambda: None))


def test_idle_threads_end(lane_of: Callable[..., ThreadPool]) -> None:
    """A thread that has had nothing to do for a while ends, and a new one is started when there is."""
    lane = lane_of(3)
    gates = [submitted(lane) for _ in range(3)]
    for gate in gates:
        gate.may_end.set()
    wait_until(lambda: lane.statistics()["threads"] == 0)
    for gate in gates:
        assert gate.thread is not None
        gate.thread.join(SOON)
        assert not gate.thread.is_alive()
    submitted(lane).may_end.set()


def test_number_of_waiting_jobs_is_bounded(lane_of: Callable[..., ThreadPool]) -> None:
    """A job that would be one too many to wait is refused and counted; those before it are not touched."""
    lane = lane_of(1, max_waiting=2)
    gate, done = submitted(lane), []
    lane.submit(Job(lambda: done.append(1)))
    lane.submit(Job(lambda: done.append(2)))
    with pytest.raises(Overloaded) as caught:
        lane.submit(Job(lambda: done.append(3)))
    assert caught.value.status == 503
    assert caught.value.code == "too_many_requests_waiting"
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert lane.statistics() == {"threads": 1, "busy": 1, "waiting": 2, "rejected": 1}
    gate.may_end.set()
    wait_until(lambda: len(done) == 2)
    assert done == [1, 2]


def test_no_queue_at_all(lane_of: Callable[..., ThreadPool]) -> None:
    """With a bound of zero a job runs if a thread is free, and is refused otherwise."""
    lane = lane_of(1, max_waiting=0)
    gate = submitted(lane)
    with pytest.raises(Overloaded):
        lane.submit(Job(lambda: None))
    gate.may_end.set()
    wait_until(lambda: lane.busy == 0)
    submitted(lane).may_end.set()


def test_bytes_of_waiting_jobs_are_bounded(lane_of: Callable[..., ThreadPool]) -> None:
    """Jobs that wait may hold so many bytes together; what begins or is taken back no longer counts."""
    lane = lane_of(1, max_bytes=100)
    gate = submitted(lane, size=1000)  # it does not wait, so it is not counted
    first, second = Job(lambda: None, 60), Job(lambda: None, 40)
    lane.submit(first)
    lane.submit(second)
    with pytest.raises(Overloaded):
        lane.submit(Job(lambda: None, 1))
    lane.submit(Job(lambda: None, 0))
    assert lane.cancel(second)
    lane.submit(Job(lambda: None, 40))
    gate.may_end.set()
    wait_until(lambda: lane.statistics()["waiting"] == 0 and lane.busy == 0)
    gate = submitted(lane)
    lane.submit(Job(lambda: None, 100))
    gate.may_end.set()


def test_a_system_without_threads(lane_of: Callable[..., ThreadPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started a job is refused, unless one that runs may take it later."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    lane, done = lane_of(2), []
    with monkeypatch.context() as patch:
        patch.setattr(lanes.threading, "Thread", Refused)
        with pytest.raises(Overloaded) as caught:
            lane.submit(Job(lambda: None))
    assert caught.value.code == "no_thread"
    assert lane.statistics() == {"threads": 0, "busy": 0, "waiting": 0, "rejected": 1}
    gate = submitted(lane)
    with monkeypatch.context() as patch:
        patch.setattr(lanes.threading, "Thread", Refused)
        lane.submit(Job(lambda: done.append(1)))
    assert lane.statistics()["waiting"] == 1
    gate.may_end.set()
    wait_until(lambda: done == [1])


def test_cancel(lane_of: Callable[..., ThreadPool]) -> None:
    """A job that waits can be taken back; one that has begun, or is not known, cannot."""
    lane = lane_of()
    gate, done = submitted(lane), []
    job = Job(lambda: done.append("cancelled"))
    lane.submit(job)
    lane.submit(Job(lambda: done.append("kept")))
    assert lane.cancel(job)
    assert not lane.cancel(job)
    assert not lane.cancel(Job(lambda: None))
    gate.may_end.set()
    wait_until(lambda: done)
    wait_until(lambda: lane.busy == 0)
    assert done == ["kept"]


def test_equal_jobs_are_not_the_same(lane_of: Callable[..., ThreadPool]) -> None:
    """Taking back one of two alike jobs leaves the other."""
    lane, done = lane_of(), []

    def work() -> None:
        done.append(1)

    gate, first, second = submitted(lane), Job(work), Job(work)
    lane.submit(first)
    lane.submit(second)
    assert lane.cancel(second)
    gate.may_end.set()
    wait_until(lambda: lane.statistics()["waiting"] == 0 and lane.busy == 0)
    assert done == [1]


def test_a_job_that_raises_costs_nobody_else(lane_of: Callable[..., ThreadPool],
                                             caplog: pytest.LogCaptureFixture) -> None:
    """A job that raises is logged; its thread goes on."""

    def fail() -> None:
        raise LookupError("this job fails")

    lane = lane_of()
    lane.submit(Job(fail))
    submitted(lane).may_end.set()
    assert "this job fails" in caplog.text
    assert "lane test" in caplog.text


def test_an_idle_thread_keeps_nothing_alive(lane_of: Callable[..., ThreadPool],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job held can be freed as soon as it is done."""
    monkeypatch.setattr(lanes, "IDLE_S", SOON)
    lane = lane_of()

    class Request:
        def __call__(self) -> None:
            pass

    request: Any = Request()
    reference = weakref.ref(request)
    lane.submit(Job(request))
    del request
    wait_until(lambda: lane.busy == 0 and lane.statistics()["waiting"] == 0)

    def freed() -> bool:
        gc.collect()
        return reference() is None

    wait_until(freed, what="the request to be freed")
    monkeypatch.setattr(lanes, "IDLE_S", 0.05)
    lane.submit(Job(lambda: None))


def test_many_at_once(lane_of: Callable[..., ThreadPool]) -> None:
    """Jobs submitted from many threads at once each run exactly once."""
    lane, lock, done = lane_of(4, max_waiting=10_000), threading.Lock(), []

    def work(number: int) -> None:
        with lock:
            done.append(number)

    def submit(start: int) -> None:
        for number in range(start, start + 250):
            lane.submit(Job(lambda number=number: work(number)))

    threads = [threading.Thread(target=submit, args=(start,)) for start in range(0, 2000, 250)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    wait_until(lambda: len(done) == 2000)
    assert sorted(done) == list(range(2000))
    assert lane.statistics()["rejected"] == 0
