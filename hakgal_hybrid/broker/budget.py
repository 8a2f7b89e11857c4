"""Budget: how many bytes several things hold together."""

from __future__ import annotations

import threading

from .forks import fork_aware


class Budget:
    """What several things hold together, such as the bodies that are being read. May be used from any thread.

    :param limit: how much that may be (bytes).
    :ivar used: how much it is (bytes).
    """

    __slots__ = ("__weakref__", "_limit", "_lock", "used")

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Begin with a lock that is free."""
        self._lock = threading.RLock()  # a finalizer may give back while it is held

    def take(self, size: int) -> bool:
        """Add to what is held.

        :param size: how much (bytes); less than nothing to hold less.
        :return: false, with nothing added, if there is no room for it.
        """
        with self._lock:
            if self.used + size > self._limit:
                return False
            self.used += size
            return True

    def give_back(self, size: int) -> None:
        """Subtract what is no longer held.

        :param size: how much (bytes).
        """
        with self._lock:
            self.used -= size
