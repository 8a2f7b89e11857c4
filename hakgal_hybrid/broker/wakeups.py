"""Wakeup: a flag that one thread waits for, and that may be set by code that has interrupted the setting of it."""

from __future__ import annotations

import queue
import threading
from typing import Protocol


class Wakeup(Protocol):
    """A flag that many set and one thread waits for, with the methods of :class:`threading.Event`.

    Who waits clears it first, looks for news then, and waits if there is none: what comes after the look sets it again.
    """

    def set(self) -> None:
        """Wake the thread that waits, or will wait. May be called from anywhere; never waits."""

    def clear(self) -> None:
        """Reset the flag."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set.

        :param timeout: how long, in seconds; ``None`` waits for ever.
        :return: false if it was not set in time.
        """


def threads_are_green() -> bool:
    """True if gevent or eventlet has put its own threads in the place of the system's, up to now."""
    return queue.SimpleQueue.__module__ != "_queue"


def make_wakeup() -> Wakeup:
    """Return a wake-up for the threads that this process has now: gevent and eventlet put their own in their place.

    :return: the wake-up; its flag is not set.
    """
    return _Patched() if threads_are_green() else _Native()


class _Native:
    """A queue that needs no lock. A finalizer that emits could find the lock of an event held by its own thread."""

    def __init__(self) -> None:
        self._set: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        if self._set.empty():
            self._set.put(None)

    def clear(self) -> None:
        while not self._set.empty():
            self._set.get()

    def wait(self, timeout: float | None = None) -> bool:
        try:
            self._set.get(timeout=timeout)
        except queue.Empty:
            return False
        return True


class _Patched:
    """An event: unlike gevent's queue, gevent's event wakes its loop from a thread that is none of gevent's."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self.set, self.clear = self._set.set, self._set.clear

    def wait(self, timeout: float | None = None) -> bool:
        return self._set.wait(timeout)
