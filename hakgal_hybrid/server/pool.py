"""Lanes: bounded pools of native threads that run the host's code, so that it never runs on the loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Overloaded
from ..logs import get_logger

logger = get_logger(__name__)

#: A thread that had nothing to do for so long (seconds) ends.
IDLE_S = 10.0
#: How long a job gives way at most (seconds).
COURTESY_S = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Something to run in a lane; ``size`` is what it holds in memory while it waits, in bytes."""

    run: Callable[[], None]
    size: int = 0


class ThreadPool:
    """Up to ``threads`` native threads, and a queue bounded in number and bytes.

    Threads start when they are needed and end after :data:`IDLE_S` without work. They are daemons: a handler that
    hangs must not keep the process from ending.

    :param patience_s: how long a job runs by itself before the next one may begin beside it. Threads that compute all
        at once take the loop's turns away and finish no sooner; those that wait for something may do so side by side.
    :param gives_way: while this is not set, no job begins, for :data:`COURTESY_S` at most: what is going on is short,
        and slow beside a thread that computes.
    :ivar rejected: jobs refused because the queue was full.
    """

    def __init__(self, name: str, threads: int, *, max_waiting: int, max_bytes: int, patience_s: float = 0.0,
                 gives_way: threading.Event | None = None) -> None:
        self.name = name
        self.rejected = 0
        self._limit, self._max_waiting, self._max_bytes = threads, max_waiting, max_bytes
        self._jobs: deque[Job] = deque()
        self._bytes = self._threads = self._idle = 0
        self._changed = threading.Condition()
        self._patience_s, self._gives_way = patience_s, gives_way
        self._latest: Job | None = None  # while it runs
        self._latest_at = 0.0

    def submit(self, job: Job) -> None:
        """Run ``job`` in a thread as soon as one is free.

        :raises Overloaded: if too many jobs wait already.
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
        """Take back a job that has not begun; false if it has."""
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
        """Return a snapshot: threads, how many are busy, jobs that wait, jobs that were refused."""
        with self._changed:
            return {"threads": self._threads, "busy": self._threads - self._idle, "waiting": len(self._jobs),
                    "rejected": self.rejected}

    def _work(self) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            if self._gives_way is not None:
                self._gives_way.wait(COURTESY_S)
            try:
                job.run()
            except Exception:  # jobs report their own errors; this is the net below
                logger.exception("a job of lane %s raised", self.name)
            if self._latest is job:
                self._latest = None
            del job  # an idle thread must not keep the last request alive

    def _next(self) -> Job | None:
        with self._changed:
            self._idle += 1
            while self._changed.wait_for(lambda: self._jobs, IDLE_S) and (early := self._early_by()) > 0:
                self._changed.wait(min(early, IDLE_S))  # another thread may take the job meanwhile
            self._idle -= 1
            if not self._jobs:
                self._threads -= 1
                return None
            job = self._jobs.popleft()
            self._bytes -= job.size
            self._latest, self._latest_at = job, time.monotonic()
            return job

    def _early_by(self) -> float:
        """Return for how many seconds the job that was begun last may still have the lane to itself."""
        return 0.0 if self._latest is None else self._latest_at + self._patience_s - time.monotonic()
