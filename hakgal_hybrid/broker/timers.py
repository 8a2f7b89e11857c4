"""Timers: functions that are called at their time, by one thread for all of them."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count

from ..logs import get_logger
from .forks import fork_aware

logger = get_logger(__name__)


class TimerHandle:
    """One call that will be made unless it is cancelled.

    :param at: the clock's reading at which it is due.
    :param call: the function. As an attribute it is ``None`` once it was called or cancelled.
    """

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], object]) -> None:
        self.at = at
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Take the call back. Nothing happens if it was made already."""
        self.call = None


class TimerQueue:
    """Calls functions at their time, in one thread of its own. They must not wait for anything.

    The thread starts with the first timer, and ends when there has been none for a while.

    :param clock: monotonic seconds.
    :param idle_s: seconds without a timer after which the thread ends.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, idle_s: float = 10.0) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._numbers = count()
        # Re-entrant: a finalizer that interrupts its holder may end a stream, and set a timer.
        self._changed = threading.Condition()
        self._running = False
        fork_aware(self)

    def forked(self) -> None:
        """Forget the timers in a child: they are the other process's, and so is the thread."""
        self._changed, self._heap, self._running = threading.Condition(), [], False

    def __len__(self) -> int:
        """Return how many timers are kept, with cancelled ones that were not dropped yet."""
        return len(self._heap)

    def call_later(self, seconds: float, call: Callable[[], object]) -> TimerHandle:
        """Arrange for a function to be called.

        :param seconds: how long from now.
        :param call: the function; it is called in the thread of the timers.
        :return: a handle that can cancel the call.
        """
        timer = TimerHandle(self._clock() + seconds, call)
        with self._changed:
            heapq.heappush(self._heap, (timer.at, next(self._numbers), timer))
            self._drop_cancelled()
            if self._running:
                if self._heap[0][2] is timer:  # the thread waits for none that is earlier
                    self._changed.notify()
            else:
                self._start_thread()
        return timer

    def _start_thread(self) -> None:
        self._running = True
        try:
            threading.Thread(target=self._run, name="hakgal-hybrid-timers", daemon=True).start()
        except RuntimeError:  # the system has none to give; the next timer tries again
            self._running = False
            logger.exception("no thread for timers")

    def _drop_cancelled(self) -> None:
        """Drop cancelled timers once they are most of the heap: clients that return in time leave theirs behind."""
        live = [item for item in self._heap if item[2].call is not None] if len(self._heap) & 63 == 0 else self._heap
        if 2 * len(live) < len(self._heap):
            self._heap = live
            heapq.heapify(self._heap)

    def _run(self) -> None:
        while (due := self._next()) is not None:
            call, due.call = due.call, None
            try:
                if call is not None:
                    call()
            except Exception:
                logger.exception("a timer's call raised")

    def _next(self) -> TimerHandle | None:
        """Wait for the next timer to be due; return ``None`` if there has been none for a while.

        A cancelled timer is waited for like any other. Streams that open cancel theirs within a millisecond: to look
        for the next one each time would wake the thread for each of them.
        """
        with self._changed:
            while True:
                if self._heap:
                    wait = self._heap[0][0] - self._clock()
                    if wait <= 0:
                        return heapq.heappop(self._heap)[2]
                    self._changed.wait(wait)
                elif not self._changed.wait_for(lambda: self._heap, self._idle_s):
                    self._running = False
                    return None
