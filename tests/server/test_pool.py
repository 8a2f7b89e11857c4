"""Bounded pools of native threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.servers import SOON, wait_until

from hakgal_hybrid import Overloaded
from hakgal_hybrid.server.pool import Job, ThreadPool

#: How long a thread waits for work where the test gives it some at once: less than a fixture waits for threads to end.
IDLE_S = 2.0


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
def pool_of() -> Iterator[Callable[..., ThreadPool]]:
    """Make pools whose idle threads end soon; wait for all of them at the end."""
    made: list[ThreadPool] = []

    def make(threads: int = 1, *, max_waiting: int = 10, max_bytes: int = 1000, idle_s: float = 0.05,
             alone_s: float = 0.0, extra: int = 0) -> ThreadPool:
        made.append(ThreadPool("test", threads, max_waiting=max_waiting, max_bytes=max_bytes, idle_s=idle_s,
                               alone_s=alone_s, extra=extra))
        return made[-1]

    yield make
    for pool in made:
        wait_until(lambda pool=pool: pool.statistics()["threads"] == 0, what="idle threads to end")


def submitted(pool: ThreadPool, size: int = 0) -> Gate:
    """Submit a job that holds its thread, and wait until it does."""
    gate = Gate()
    pool.submit(Job(gate, size))
    assert gate.begun.wait(SOON)
    return gate


def test_jobs_run_in_threads_of_the_pool(pool_of: Callable[..., ThreadPool]) -> None:
    """A job runs in a daemon thread that carries the pool's name, not in its caller's."""
    gate = submitted(pool_of())
    gate.may_end.set()
    assert gate.thread is not None
    assert gate.thread is not threading.current_thread()
    assert gate.thread.daemon
    assert gate.thread.name == "hakgal-hybrid-test"


def test_short_jobs_run_one_after_the_other(pool_of: Callable[..., ThreadPool]) -> None:
    """Where each job has the pool to itself for a while, short jobs never run side by side."""
    pool = pool_of(4, max_waiting=100, alone_s=SOON)
    running, most, done = [0], [0], threading.Semaphore(0)

    def job() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        threading.Event().wait(0.001)
        running[0] -= 1
        done.release()

    for _ in range(50):
        pool.submit(Job(job))
    for _ in range(50):
        assert done.acquire(timeout=SOON)
    assert most == [1]


def test_a_job_that_lasts_holds_up_no_other(pool_of: Callable[..., ThreadPool]) -> None:
    """Once a job has had the pool to itself for long enough, the next one begins beside it."""
    pool = pool_of(2, alone_s=0.05)
    first = submitted(pool)
    second = submitted(pool)
    assert pool.busy == 2
    for gate in (first, second):
        gate.may_end.set()
    wait_until(lambda: pool.busy == 0)


def test_no_more_threads_than_allowed(pool_of: Callable[..., ThreadPool]) -> None:
    """As many jobs run at once as there are threads; the next one waits for the first that is free."""
    pool = pool_of(2)
    running = [submitted(pool), submitted(pool)]
    waiting = Gate()
    pool.submit(Job(waiting))
    assert pool.statistics() == {"threads": 2, "busy": 2, "waiting": 1, "rejected": 0}
    assert not waiting.begun.is_set()
    running[0].may_end.set()
    assert waiting.begun.wait(SOON)
    assert pool.busy == 2
    for gate in (running[1], waiting):
        gate.may_end.set()
    wait_until(lambda: pool.busy == 0)


def test_jobs_begin_in_order(pool_of: Callable[..., ThreadPool]) -> None:
    """Jobs that wait begin in the order they came."""
    pool = pool_of(1, max_waiting=100)
    gate, order = submitted(pool), []
    for number in range(100):
        pool.submit(Job(lambda number=number: order.append(number)))
    gate.may_end.set()
    wait_until(lambda: len(order) == 100)
    assert order == list(range(100))


def test_an_idle_thread_is_used_again(pool_of: Callable[..., ThreadPool]) -> None:
    """No thread is started while one is idle."""
    pool = pool_of(5, idle_s=IDLE_S)
    threads = set()
    for _ in range(5):
        gate = submitted(pool)
        gate.may_end.set()
        threads.add(gate.thread)
        wait_until(lambda: pool.busy == 0)
    assert len(threads) == 1


def test_idle_threads_end(pool_of: Callable[..., ThreadPool]) -> None:
    """A thread that has had nothing to do for a while ends, and a new one is started when there is."""
    pool = pool_of(3)
    gates = [submitted(pool) for _ in range(3)]
    for gate in gates:
        gate.may_end.set()
    wait_until(lambda: pool.statistics()["threads"] == 0)
    for gate in gates:
        assert gate.thread is not None
        gate.thread.join(SOON)
        assert not gate.thread.is_alive()
    submitted(pool).may_end.set()


def test_number_of_waiting_jobs_is_bounded(pool_of: Callable[..., ThreadPool]) -> None:
    """A job that would be one too many to wait is refused and counted; those before it are not touched."""
    pool = pool_of(1, max_waiting=2)
    gate, done = submitted(pool), []
    pool.submit(Job(lambda: done.append(1)))
    pool.submit(Job(lambda: done.append(2)))
    with pytest.raises(Overloaded) as caught:
        pool.submit(Job(lambda: done.append(3)))
    assert caught.value.status == 503
    assert caught.value.code == "too_many_requests_waiting"
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert pool.statistics() == {"threads": 1, "busy": 1, "waiting": 2, "rejected": 1}
    gate.may_end.set()
    wait_until(lambda: len(done) == 2)
    assert done == [1, 2]


def test_no_queue_at_all(pool_of: Callable[..., ThreadPool]) -> None:
    """With a bound of zero a job runs if a thread is free, and is refused otherwise."""
    pool = pool_of(1, max_waiting=0)
    gate = submitted(pool)
    with pytest.raises(Overloaded):
        pool.submit(Job(lambda: None))
    gate.may_end.set()
    wait_until(lambda: pool.busy == 0)
    submitted(pool).may_end.set()


def test_bytes_of_waiting_jobs_are_bounded(pool_of: Callable[..., ThreadPool]) -> None:
    """Jobs that wait may hold so many bytes together; what begins or is taken back no longer counts."""
    pool = pool_of(1, max_bytes=100)
    gate = submitted(pool, size=1000)  # it does not wait, so it is not counted
    first, second = Job(lambda: None, 60), Job(lambda: None, 40)
    pool.submit(first)
    pool.submit(second)
    with pytest.raises(Overloaded):
        pool.submit(Job(lambda: None, 1))
    pool.submit(Job(lambda: None, 0))
    assert pool.cancel(second)
    pool.submit(Job(lambda: None, 40))
    gate.may_end.set()
    wait_until(lambda: pool.statistics()["waiting"] == 0 and pool.busy == 0)
    gate = submitted(pool)
    pool.submit(Job(lambda: None, 100))
    gate.may_end.set()


def test_a_system_without_threads(pool_of: Callable[..., ThreadPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started a job is refused, unless one that runs may take it later."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    pool, done = pool_of(2), []
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Refused)
        with pytest.raises(Overloaded) as caught:
            pool.submit(Job(lambda: None))
    assert caught.value.code == "no_thread"
    assert pool.statistics() == {"threads": 0, "busy": 0, "waiting": 0, "rejected": 1}
    gate = submitted(pool)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Refused)
        pool.submit(Job(lambda: done.append(1)))
    assert pool.statistics()["waiting"] == 1
    gate.may_end.set()
    wait_until(lambda: done == [1])


def test_cancel(pool_of: Callable[..., ThreadPool]) -> None:
    """A job that waits can be taken back; one that has begun, or is not known, cannot."""
    pool = pool_of()
    gate, done = submitted(pool), []
    job = Job(lambda: done.append("cancelled"))
    pool.submit(job)
    pool.submit(Job(lambda: done.append("kept")))
    assert pool.cancel(job)
    assert not pool.cancel(job)
    assert not pool.cancel(Job(lambda: None))
    gate.may_end.set()
    wait_until(lambda: done)
    wait_until(lambda: pool.busy == 0)
    assert done == ["kept"]


def test_equal_jobs_are_not_the_same(pool_of: Callable[..., ThreadPool]) -> None:
    """Taking back one of two alike jobs leaves the other."""
    pool, done = pool_of(), []

    def work() -> None:
        done.append(1)

    gate, first, second = submitted(pool), Job(work), Job(work)
    pool.submit(first)
    pool.submit(second)
    assert pool.cancel(second)
    gate.may_end.set()
    wait_until(lambda: pool.statistics()["waiting"] == 0 and pool.busy == 0)
    assert done == [1]


def test_a_job_that_raises_costs_nobody_else(pool_of: Callable[..., ThreadPool],
                                             caplog: pytest.LogCaptureFixture) -> None:
    """A job that raises is logged; its thread goes on."""

    def fail() -> None:
        raise LookupError("this job fails")

    pool = pool_of()
    pool.submit(Job(fail))
    submitted(pool).may_end.set()
    assert "this job fails" in caplog.text
    assert "test threads" in caplog.text


def test_an_idle_thread_keeps_nothing_alive(pool_of: Callable[..., ThreadPool]) -> None:
    """What a job held can be freed as soon as it is done."""
    pool = pool_of(idle_s=IDLE_S)

    class Request:
        def __call__(self) -> None:
            pass

    request: Any = Request()
    reference = weakref.ref(request)
    pool.submit(Job(request))
    del request
    wait_until(lambda: pool.busy == 0 and pool.statistics()["waiting"] == 0)

    def freed() -> bool:
        gc.collect()
        return reference() is None

    wait_until(freed, what="the request to be freed")


def test_many_at_once(pool_of: Callable[..., ThreadPool]) -> None:
    """Jobs submitted from many threads at once each run exactly once."""
    pool, lock, done = pool_of(4, max_waiting=10_000), threading.Lock(), []

    def work(number: int) -> None:
        with lock:
            done.append(number)

    def submit(start: int) -> None:
        for number in range(start, start + 250):
            pool.submit(Job(lambda number=number: work(number)))

    threads = [threading.Thread(target=submit, args=(start,)) for start in range(0, 2000, 250)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    wait_until(lambda: len(done) == 2000)
    assert sorted(done) == list(range(2000))
    assert pool.statistics()["rejected"] == 0


def running(pool: ThreadPool) -> tuple[Job, Gate]:
    """Submit a job that holds its thread; return it as well."""
    gate = Gate()
    job = Job(gate)
    pool.submit(job)
    assert gate.begun.wait(SOON)
    return job, gate


def test_a_job_that_may_last_is_replaced(pool_of: Callable[..., ThreadPool]) -> None:
    """A thread whose job may last does not count, up to a bound; when it ends, the pool is as large as before."""
    pool = pool_of(1, extra=1)
    job, gate = running(pool)
    waiting = Gate()
    pool.submit(Job(waiting))
    assert not waiting.begun.wait(0.05)
    pool.may_last(job)
    assert waiting.begun.wait(SOON), "the job that waited gets a thread in its place"
    assert not pool.short
    second, third = Gate(), Gate()
    pool.submit(second_job := Job(second))
    pool.may_last(second_job)  # it does not run
    assert pool.statistics() == {"threads": 2, "busy": 2, "waiting": 1, "rejected": 0}
    gate.may_end.set()
    wait_until(lambda: pool.statistics()["threads"] == 1, what="a thread to end")
    assert not second.begun.is_set(), "one thread is one"
    pool.submit(Job(third))
    for last in (waiting, second, third):
        last.may_end.set()
    assert third.begun.wait(SOON)


def test_threads_are_short_when_more_jobs_last_than_are_replaced(pool_of: Callable[..., ThreadPool]) -> None:
    """Only jobs that last beyond the bound make threads short, and only while others wait."""
    pool = pool_of(2, extra=1)
    held = [running(pool) for _ in range(2)]
    for job, _ in held:
        pool.may_last(job)
    assert not pool.short
    held.append(running(pool))
    pool.submit(Job(lambda: None))
    assert pool.short
    for _, gate in held:
        gate.may_end.set()
    wait_until(lambda: pool.busy == 0)
    assert not pool.short


def test_answers_leave_half_of_the_threads(pool_of: Callable[..., ThreadPool]) -> None:
    """Jobs that produce answers piece by piece are refused where they could hold more than half of the threads."""
    pool = pool_of(4, extra=1)
    held = [running(pool) for _ in range(4)]
    for job, _ in held[:3]:
        pool.begin_answer(job)
    with pytest.raises(Overloaded) as caught:
        pool.begin_answer(held[3][0])
    assert (caught.value.code, caught.value.status) == ("too_many_answers", 503)
    held[0][1].may_end.set()
    wait_until(lambda: pool.busy == 3)
    pool.begin_answer(held[3][0])
    for _, gate in held:
        gate.may_end.set()
