"""Deadlines: calling something when its time has come, in one thread for all of them."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count

from ..logs import get_logger

logger = get_logger(__name__)

#: The thread ends when it has had nothing to wait for this long (seconds).
IDLE_S = 10.0


class TimerHandle:
    """One call that will be made, unless it is cancelled."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], object]) -> None:
        self.at = at
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Make it never happen; no matter if it has happened."""
        self.call = None


class TimerQueue:
    """Calls functions at their time. They run in the thread of the deadlines, so they must not wait for anything."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._numbers = count()
        self._changed = threading.Condition()  # re-entrant: a finalizer may come in here
        self._running = False

    def after(self, seconds: float, call: Callable[[], object]) -> TimerHandle:
        """Have ``call`` made in ``seconds``."""
        deadline = TimerHandle(self._clock() + seconds, call)
        with self._changed:
            heapq.heappush(self._heap, (deadline.at, next(self._numbers), deadline))
            self._forget_cancelled()
            if self._running:
                if self._heap[0][2] is deadline:  # the thread waits for none that is earlier
                    self._changed.notify()
            else:
                self._start_thread()
        return deadline

    def _start_thread(self) -> None:
        self._running = True
        try:
            threading.Thread(target=self._run, name="hakgal-hybrid-deadlines", daemon=True).start()
        except RuntimeError:  # the system has none to give; the next deadline tries again
            self._running = False
            logger.exception("no thread for deadlines")

    def _forget_cancelled(self) -> None:
        """Drop what was cancelled, once that is most of the heap: clients that come back leave their deadlines."""
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
                logger.exception("a deadline's call raised")

    def _next(self) -> TimerHandle | None:
        """Wait for the next deadline to come; nothing if there has been none for a while.

        One that was cancelled is waited for like any other: streams that open cancel theirs within a millisecond, and
        whoever looked for the next one each time would wake up for each of them.
        """
        with self._changed:
            while True:
                if self._heap:
                    wait = self._heap[0][0] - self._clock()
                    if wait <= 0:
                        return heapq.heappop(self._heap)[2]
                    self._changed.wait(wait)
                elif not self._changed.wait_for(lambda: self._heap, IDLE_S):
                    self._running = False
                    return None
