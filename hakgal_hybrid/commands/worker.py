"""Worker: runs calls one after the other, in threads of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from ..broker.forks import fork_aware
from ..logs import get_logger

logger = get_logger(__name__)


#: A worker's thread that has had nothing to do for so long (seconds) ends.
IDLE_S = 10.0


class Worker:
    """Runs callables in daemon threads of its own, which start when they are needed; by default in one, in order.

    :param name: of the threads.
    :param limit: how many may wait; one more is refused.
    :param threads: how many may run at once.
    :param idle_s: how long (seconds) a thread waits for something to do before it ends.
    """

    def __init__(self, name: str, limit: int, threads: int = 1, *, idle_s: float = IDLE_S) -> None:
        self._name, self._idle_s = name, idle_s
        self._limit, self._most = limit, threads
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Begin without threads and calls: in a child, those that wait are run by the process that has forked it."""
        # Re-entrant, both: a finalizer that the garbage collector runs in here may submit too.
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._idle = 0

    @property
    def waiting(self) -> int:
        """How many callables have not begun."""
        return self._queue.qsize()

    def submit(self, task: Callable[[], object]) -> bool:
        """Queue ``task``; false if the queue is full.

        :param task: called in a thread of the worker; takes nothing.
        """
        with self._lock:
            if self._queue.qsize() >= self._limit:
                return False
            self._queue.put(task)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._start_thread_if_needed()
        return True

    def _start_thread_if_needed(self) -> None:
        """Start a thread if more wait than threads are idle; to be called with the lock."""
        if self._threads and (self._idle >= self._queue.qsize() or len(self._threads) >= self._most):
            return
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has none to give; the next task tries again
            logger.exception("%s: no thread", self._name)
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException:  # SystemExit included: what is queued behind must still run
                logger.exception("%s: %r raised", self._name, task)
            del task  # what it holds shall not live until the next one comes

    def _next(self) -> Callable[[], object] | None:
        """Wait for a task; nothing if none has come for a while: the thread then ends."""
        with self._lock:
            self._idle += 1
        try:
            return self._queue.get(timeout=self._idle_s)
        except queue.Empty:
            pass
        finally:
            with self._lock:
                self._idle -= 1
                self._start_thread_if_needed()  # what came just now has taken this thread for an idle one
        with self._lock:
            try:
                return self._queue.get_nowait()  # one that came just now, and saw this thread alive
            except queue.Empty:
                me = threading.current_thread()
                self._threads = [thread for thread in self._threads if thread is not me]
                return None
