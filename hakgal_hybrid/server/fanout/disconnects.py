"""DisconnectWatcher: notices clients that close their connection, or send something on a stream.

Where there is epoll, one such queue watches all sockets and the loop watches that queue: a watcher of the loop's own
for each would be the largest thing that an idle stream keeps in memory.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import Any

_READ = 1
#: How many are dealt with before the loop goes on.
_AT_A_TIME = 256


class DisconnectWatcher:
    """Watches sockets for anything that comes in. For the loop's thread.

    :param loop: the loop.
    :param on_readable: called with a socket's number when it has something to read, or its peer is gone.
    """

    def __init__(self, loop: Any, on_readable: Callable[[int], None]) -> None:
        self._loop, self._on_readable = loop, on_readable
        self._watchers: dict[int, Any] = {}
        self._queue: Any = None
        self._watcher: Any = None
        self._events = 0
        if sys.platform == "linux" and hasattr(select, "epoll"):
            self._queue = select.epoll()
            self._events = select.EPOLLIN | select.EPOLLRDHUP
            self._watcher = loop.io(self._queue.fileno(), _READ)
            self._watcher.start(self._look)

    def watch(self, fileno: int) -> None:
        """Begin to watch a socket.

        :param fileno: the socket's descriptor.
        :raises OSError: if it cannot be watched; libuv raises ``ValueError``. Nothing watches it then.
        """
        if self._queue is not None:
            self._queue.register(fileno, self._events)
            return
        watcher = self._watchers[fileno] = self._loop.io(fileno, _READ)
        try:
            watcher.start(self._on_readable, fileno)
        except BaseException:
            self.forget(fileno)
            raise

    def forget(self, fileno: int) -> None:
        """Stop watching a socket. To be called before it is closed, in the same turn of the loop.

        libuv must not poll a socket that is closed, and the next one may get the number of this one.

        :param fileno: the socket's descriptor.
        """
        if self._queue is not None:
            self._queue.unregister(fileno)
            return
        watcher = self._watchers.pop(fileno)
        watcher.stop()
        watcher.close()

    def close(self) -> None:
        """Stop watching."""
        for fileno in list(self._watchers):
            self.forget(fileno)
        if self._queue is not None:
            self._watcher.stop()
            self._watcher.close()
            self._queue.close()

    def _look(self) -> None:
        for fileno, _ in self._queue.poll(0, _AT_A_TIME):
            self._on_readable(fileno)
