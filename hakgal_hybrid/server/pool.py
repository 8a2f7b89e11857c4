"""ThreadPool: native threads that run the host's code, so that it never runs on the loop; bounded."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Overloaded
from ..logs import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Something to run in a thread.

    :param run: is called there.
    :param size: what the job holds in memory while it waits (bytes).
    """

    run: Callable[[], None]
    size: int = 0


class ThreadPool:
    """Native threads, and a queue of jobs that wait for one.

    Threads start when they are needed and end when they have had nothing to do for a while. They are daemons: a handler
    that hangs must not keep the process from ending.

    :param name: names the pool in statistics and the threads.
    :param threads: how many threads there are at most.
    :param max_waiting: how many jobs may wait.
    :param max_bytes: what the jobs that wait may hold in memory together (bytes).
    :param alone_s: how long a job has the pool to itself before the next one may begin beside it (seconds). Jobs that
        compute finish no sooner side by side, and take the loop's turns away; jobs that wait may do so side by side.
    :param extra: how many threads there may be besides, in place of those whose jobs may last; see :meth:`may_last`.
    :param idle_s: how long a thread without work waits for some before it ends (seconds).
    :ivar rejected: how many jobs were refused because a bound was hit.
    :ivar together: whether the answers of several jobs are fetched together.
    """

    together = False

    def __init__(self, name: str, threads: int, *, max_waiting: int, max_bytes: int, alone_s: float = 0.0,
                 extra: int = 0, idle_s: float = 10.0) -> None:
        self.name = name
        self.rejected = 0
        self._limit, self._max_waiting, self._max_bytes, self._idle_s = threads, max_waiting, max_bytes, idle_s
        self._alone_s, self._extra = alone_s, extra
        self._running: set[Job] = set()
        self._answers: set[Job] = set()
        self._lasting: set[Job] = set()
        self._latest: Job | None = None  # while it runs
        self._latest_at = 0.0
        self._watched = False  # a thread waits until the latest job has had the pool to itself for long enough
        self._jobs: deque[Job] = deque()
        self._bytes = self._threads = self._idle = 0
        self._changed = threading.Condition()

    def submit(self, job: Job) -> None:
        """Run a job in a thread as soon as one is free.

        :param job: the job.
        :raises Overloaded: if too many jobs wait already, or the system gives us no thread.
        """
        with self._changed:
            if self._idle > len(self._jobs):
                self._wake_thread()
            elif self._threads < self._may_have:
                self._start_thread()
            elif len(self._jobs) >= self._max_waiting or self._bytes + job.size > self._max_bytes:
                self.rejected += 1
                raise Overloaded(f"all {self._limit} {self.name} threads are busy and {len(self._jobs)} requests wait",
                                 code="too_many_requests_waiting", retry_after=2)
            self._jobs.append(job)
            self._bytes += job.size

    def _wake_thread(self) -> None:
        if not (self._watched and self._alone_for() > 0):  # else the first thread that is done takes the job
            self._changed.notify()

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"hakgal-hybrid-{self.name}", daemon=True).start()
        except RuntimeError as error:  # the system has no thread to give; one that we have may still take the job
            if not self._threads:
                self.rejected += 1
                raise Overloaded(f"no {self.name} thread can be started: {error}", code="no_thread") from error
            return
        self._threads += 1

    def begin_answer(self, job: Job) -> None:
        """Note that a job begins to produce an answer piece by piece, which may last.

        :param job: the job, which runs.
        :raises Overloaded: if so many jobs do so that they could hold more than half of the threads.
        """
        with self._changed:
            if self._extra and len(self._answers) >= self._extra + max(1, self._limit // 2):
                raise Overloaded(f"{len(self._answers)} answers are being produced (HYBRID_EXTRA_THREADS)",
                                 code="too_many_answers", retry_after=2)
            self._answers.add(job)

    def may_last(self, job: Job) -> None:
        """Note that a job waits for something other than the processor, and nobody knows for how long.

        Its thread does not count any more: the pool may have another one in its place, up to a bound.

        :param job: the job; nothing happens if it does not run.
        """
        with self._changed:
            if job in self._running:
                self._lasting.add(job)
                if len(self._jobs) > self._idle and self._threads < self._may_have:
                    self._start_thread()

    @property
    def short(self) -> bool:
        """Whether jobs wait for a thread, while so many jobs last that they hold some of the pool's own threads."""
        return len(self._lasting) > self._extra and len(self._jobs) > self._idle

    @property
    def _may_have(self) -> int:
        return self._limit + min(len(self._lasting), self._extra)

    def cancel(self, job: Job) -> bool:
        """Take back a job that has not begun.

        :param job: the job.
        :return: false if it has begun, or was never submitted.
        """
        with self._changed:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            self._bytes -= job.size
            return True

    @property
    def at_rest(self) -> bool:
        """Whether no job waits or runs."""
        return not self._jobs and not self._running

    @property
    def busy(self) -> int:
        """How many threads are running something."""
        return self._threads - self._idle

    def statistics(self) -> dict[str, int]:
        """Return a snapshot.

        :return: the numbers of threads, of busy ones, of jobs that wait, and of jobs that were refused.
        """
        with self._changed:
            return {"threads": self._threads, "busy": self._threads - self._idle, "waiting": len(self._jobs),
                    "rejected": self.rejected}

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._run(job)
            except Exception:  # jobs report their own errors; this is the net below
                logger.exception("a job of the %s threads raised", self.name)
            self._end(job)
            del job  # an idle thread must not keep the last request alive

    def _run(self, job: Job) -> None:
        job.run()

    def _end(self, job: Job) -> None:
        with self._changed:
            if self._latest is job:
                self._latest = None
            for jobs in (self._running, self._answers, self._lasting):
                jobs.discard(job)

    def _next(self) -> Job | None:
        with self._changed:
            if self._threads > self._may_have:  # it was one in place of another, which has ended
                self._threads -= 1
                return None
            self._idle += 1
            self._await_job()
            self._idle -= 1
            if not self._jobs:
                self._threads -= 1
                return None
            job = self._jobs.popleft()
            self._bytes -= job.size
            self._running.add(job)
            self._latest, self._latest_at = job, time.monotonic()
            return job

    def _await_job(self) -> None:
        while self._changed.wait_for(lambda: self._jobs, self._idle_s) and (left := self._alone_for()) > 0:
            self._watched = True
            self._changed.wait(min(left, self._idle_s))  # another thread may take the job meanwhile
            self._watched = False

    def _alone_for(self) -> float:
        """Return for how many seconds the job that began last still has the pool to itself."""
        return 0.0 if self._latest is None else self._latest_at + self._alone_s - time.monotonic()
