"""Bell: wakes one thread, and may be rung by code that has interrupted the ringing of it."""

from __future__ import annotations

import queue


class Bell:
    """Like :class:`threading.Event`, whose lock a finalizer or signal handler that emits would find held by itself."""

    def __init__(self) -> None:
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake whoever waits, or will. May be called from any thread; never waits."""
        if self._rung.empty():
            self._rung.put(None)

    def clear(self) -> None:
        """Forget that it was rung."""
        while not self._rung.empty():
            self._rung.get()

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, or was; false if it was not, for so many seconds."""
        try:
            self._rung.get(timeout=seconds)
        except queue.Empty:
            return False
        return True
