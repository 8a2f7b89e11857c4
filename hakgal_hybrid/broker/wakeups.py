"""Bell: wakes one thread, and may be rung by code that has interrupted the ringing of it."""

from __future__ import annotations

import queue
import threading
from typing import Any, Protocol


class Wakeup(Protocol):
    """Something that is rung by many and waited for by one."""

    def ring(self) -> None:
        """Wake whoever waits, or will. May be called from any thread; never waits."""

    def clear(self) -> None:
        """Forget that it was rung."""

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, or was; false if it was not, for so many seconds."""


def make_bell() -> Wakeup:
    """Return a bell for the threads that this process has now: gevent and eventlet put their own in their place."""
    return _Native() if queue.SimpleQueue.__module__ == "_queue" else _Patched()


class _Native:
    """A queue that needs no lock: that of an event a finalizer that emits would find held by its own thread."""

    def __init__(self) -> None:
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        if self._rung.empty():
            self._rung.put(None)

    def clear(self) -> None:
        while not self._rung.empty():
            self._rung.get()

    def wait(self, seconds: float) -> bool:
        try:
            self._rung.get(timeout=seconds)
        except queue.Empty:
            return False
        return True


class _Patched:
    """An event: gevent's wakes a loop from any thread, which its queue does not."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self.ring, self.clear = self._rung.set, self._rung.clear

    def wait(self, seconds: float) -> bool:
        return self._rung.wait(seconds)


class WatchedCondition(threading.Condition):
    """A condition that need not be notified while nobody looks: most servers have no thread that waits for events.

    :ivar watched: how many threads look, or wait. Who looks is counted first, and who changes something asks
        afterwards: so either the one sees the change, or the other sees that there is somebody to be told.
    """

    watched = 0

    def __enter__(self) -> bool:
        entered = super().__enter__()
        self.watched += 1
        return entered

    def __exit__(self, *raised: Any) -> None:
        self.watched -= 1
        super().__exit__(*raised)
