"""Timers: functions that are called at their time, by one thread for all of them."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

from ..logs import get_logger
from .forks import fork_aware

logger = get_logger(__name__)
T = TypeVar("T")


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


class TimerWheel(Generic[T]):
    """Times that are many and need not be exact: those of the same step are one timer of a queue.

    :param timers: the queue.
    :param step_s: how long a step is, at least: how much later than it is due a call may be made (seconds). Times that
        are far away may have steps that are a 32nd of that.
    :param call: called with each item at its time, in the thread of the timers.
    :param clock: monotonic seconds.
    """

    def __init__(self, timers: TimerQueue, step_s: float, call: Callable[[T], object],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._timers, self._step_s, self._call, self._clock = timers, step_s, call, clock
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Forget all in a child: the items are the other process's."""
        self._lock = threading.RLock()  # re-entrant: a finalizer may set a timer
        self._steps: dict[int, list[T]] = {}

    def call_later(self, seconds: float, item: T) -> None:
        """Arrange for the function to be called with an item.

        :param seconds: how long from now.
        :param item: the item.
        """
        now = self._clock()
        steps = 1 << max(0, int(seconds / self._step_s / 32).bit_length() - 1)  # a power of two, so that many are equal
        step = math.ceil((now + seconds) / (steps * self._step_s)) * steps
        with self._lock:
            items = self._steps.get(step)
            if items is not None:
                items.append(item)
                return
            self._steps[step] = [item]
        self._timers.call_later(step * self._step_s - now, lambda: self._run(step))

    def _run(self, step: int) -> None:
        with self._lock:
            items = self._steps.pop(step, [])
        for item in items:
            try:
                self._call(item)
            except Exception:
                logger.exception("a timer's call raised")
