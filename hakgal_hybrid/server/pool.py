"""ThreadPool: native threads that run the host's code, so that it never runs on the loop; bounded."""

from __future__ import annotations

import threading
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
    :param idle_s: how long a thread without work waits for some before it ends (seconds).
    :ivar rejected: how many jobs were refused because a bound was hit.
    """

    def __init__(self, name: str, threads: int, *, max_waiting: int, max_bytes: int, idle_s: float = 10.0) -> None:
        self.name = name
        self.rejected = 0
        self._limit, self._max_waiting, self._max_bytes, self._idle_s = threads, max_waiting, max_bytes, idle_s
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
                self._changed.notify()
            elif self._threads < self._limit:
                self._start_thread()
            elif len(self._jobs) >= self._max_waiting or self._bytes + job.size > self._max_bytes:
                self.rejected += 1
                raise Overloaded(f"all {self._limit} {self.name} threads are busy and {len(self._jobs)} requests wait",
                                 code="too_many_requests_waiting", retry_after=2)
            self._jobs.append(job)
            self._bytes += job.size

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"hakgal-hybrid-{self.name}", daemon=True).start()
        except RuntimeError as error:  # the system has no thread to give; one that we have may still take the job
            if not self._threads:
                self.rejected += 1
                raise Overloaded(f"no {self.name} thread can be started: {error}", code="no_thread") from error
            return
        self._threads += 1

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
                job.run()
            except Exception:  # jobs report their own errors; this is the net below
                logger.exception("a job of the %s threads raised", self.name)
            del job  # an idle thread must not keep the last request alive

    def _next(self) -> Job | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._jobs, self._idle_s)
            self._idle -= 1
            if not self._jobs:
                self._threads -= 1
                return None
            job = self._jobs.popleft()
            self._bytes -= job.size
            return job
