"""Budget: how many bytes the clients of Socket.IO have the server keep, all of them together. Pure."""

from __future__ import annotations

import threading

from ..forks import fork_aware


class Budget:
    """Bytes that are kept for clients until they are carried out or fetched. Any thread may use it.

    :param limit: how many there may be.
    :ivar taken: how many there are.
    """

    __slots__ = ("__weakref__", "_lock", "limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Begin with a lock that is free."""
        self._lock = threading.RLock()  # a finalizer may end a session while it is held

    @property
    def full(self) -> bool:
        """True if there are as many as there may be."""
        return self.taken >= self.limit

    def take(self, size: int) -> bool:
        """Keep more, if there is room.

        :param size: how many bytes; less than none to keep less.
        :return: false if there is none; nothing is taken then.
        """
        with self._lock:
            if self.taken + size > self.limit:
                return False
            self.taken += size
            return True

    def free(self, size: int) -> None:
        """Note that some are not kept any more.

        :param size: how many bytes.
        """
        with self._lock:
            self.taken -= size
