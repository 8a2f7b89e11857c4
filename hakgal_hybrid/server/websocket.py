"""Connection: the detached socket of one of our WebSockets, and the bytes that it has not taken yet."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..broker.websocket import Source, WebSocket
from .fanout.disconnects import DisconnectWatcher

_WRITE = 2
#: What the kernel may hold for one slow client (bytes).
SEND_BUFFER = 256 * 1024

clock = time.monotonic


class Connection(socket.SocketType):
    """One detached socket and its WebSocket. For the loop's thread; any thread may call it, as a function, to wake it.

    :param fileno: the socket's descriptor.
    :param on_wake: called with this connection when there may be something to send, from any thread.
    :ivar end: what comes and goes; set before anything else is done.
    :ivar pending: what the socket has not taken yet.
    :ivar progress_at: while it is waited for, when it last took a byte, or since when (monotonic seconds).
    :ivar stream: what its events are read by, once it has got what all get.
    :ivar last: whether the last frame was sent.
    """

    __slots__ = ("_due_at", "_on_wake", "_timer", "_watched", "_watcher", "end", "last", "pending", "progress_at",
                 "stream")

    def __init__(self, fileno: int, on_wake: Callable[[Connection], object]) -> None:
        super().__init__(fileno=fileno)
        self.end: WebSocket
        self.pending: memoryview | None = None
        self.progress_at = 0.0
        self.last = self._watched = False
        self.stream: Any = None
        self._on_wake = on_wake
        self._watcher: Any = None
        self._timer: Any = None
        self._due_at = 0.0

    @property
    def source(self) -> Source:
        """What is sent to it."""
        return self.end.source

    @property
    def shares(self) -> bool:
        """True while it gets what all get."""
        return self.stream is not None and self.stream.group is not None

    def __call__(self) -> None:
        """Have it looked at soon. Any thread may call it; it never waits."""
        self._on_wake(self)

    def prepare(self) -> None:
        """Set the socket's options.

        :raises OSError: if the system refuses it: the peer is gone.
        """
        self.setblocking(False)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def offer(self, data: bytes) -> bool:
        """Hand bytes to the socket, which has taken all that came before.

        :param data: the bytes.
        :return: true if it took all; what it did not take is ``pending``.
        :raises OSError: if the connection is lost.
        """
        self.pending, self.progress_at = memoryview(data), clock()
        return self.flush()

    def keep(self, data: bytes, taken: int) -> None:
        """Keep what the socket has not taken.

        :param data: the bytes that it was handed.
        :param taken: how many it has taken.
        """
        self.pending, self.progress_at = memoryview(data)[taken:], clock()

    def flush(self) -> bool:
        """Hand the socket what it has not taken yet.

        :return: true if nothing is left.
        :raises OSError: if the connection is lost.
        """
        if self.pending is not None:
            try:
                taken = self.send(self.pending)
            except (BlockingIOError, InterruptedError):
                return False
            self.pending = self.pending[taken:] if taken < len(self.pending) else None
            self.progress_at = 0.0 if self.pending is None else clock()
        return self.pending is None

    def await_room(self, loop: Any, call: Callable[[Connection], None]) -> None:
        """Have a function called when the socket can take more.

        :param loop: the loop that watches it.
        :param call: the function; it is called with this connection until :meth:`stop_waiting`.
        """
        if self._watcher is None:
            self._watcher = loop.io(self.fileno(), _WRITE)
        if not self._watcher.active:
            self._watcher.start(call, self)

    def stop_waiting(self) -> None:
        """End what :meth:`await_room` began."""
        if self._watcher is not None:
            self._watcher.stop()

    def call_in(self, loop: Any, wait_s: float | None, call: Callable[[Connection], None]) -> None:
        """Have a function called after some time, or sooner, if that was asked for before.

        :param loop: the loop that has the time.
        :param wait_s: how long from now (seconds); ``None`` for never.
        :param call: the function; it is called with this connection.
        """
        if wait_s is None:
            return
        due_at = clock() + wait_s
        if self._timer is not None:
            if self._timer.active and self._due_at <= due_at:
                return
            self._timer.stop()
            self._timer.close()
        self._timer, self._due_at = loop.timer(wait_s), due_at
        self._timer.start(call, self)

    def read_by(self, readable: DisconnectWatcher, wanted: bool) -> None:
        """Have what comes in noticed, or not.

        :param readable: notices it.
        :param wanted: whether it is to be noticed from now on.
        :raises OSError: if it cannot be watched; libuv raises ``ValueError``.
        """
        if wanted and not self._watched:
            readable.watch(self.fileno())
        elif self._watched and not wanted:
            readable.forget(self.fileno())
        self._watched = wanted

    def close(self) -> None:
        """Close the socket; what it has not taken is lost."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        self.pending = None
        with contextlib.suppress(OSError):  # the peer is gone
            self.shutdown(socket.SHUT_RDWR)  # a child that was forked meanwhile may hold it, too
        super().close()


class Numbered:
    """Connections by the descriptors of their sockets, which are small numbers: a list takes less than a dict.

    :param on_count: called with how many there are when that has changed.
    :ivar count: how many there are.
    """

    def __init__(self, on_count: Callable[[int], object]) -> None:
        self._places: list[Connection | None] = []
        self._on_count, self.count = on_count, 0

    def __iter__(self) -> Iterator[Connection]:
        """Return all of them, in the order of their numbers."""
        return (connection for connection in self._places if connection is not None)

    def add(self, fileno: int, connection: Connection) -> None:
        """Add one.

        :param fileno: the number of its socket.
        :param connection: the connection.
        """
        self._places += [None] * (fileno + 1 - len(self._places))
        self._places[fileno] = connection
        self.count += 1
        self._on_count(self.count)

    def find(self, fileno: int) -> Connection | None:
        """Return the connection of a socket; ``None`` if it is not here.

        :param fileno: the socket's number.
        """
        return self._places[fileno] if fileno < len(self._places) else None

    def remove(self, fileno: int) -> None:
        """Remove one.

        :param fileno: the number of its socket.
        """
        self._places[fileno] = None
        self.count -= 1
        self._on_count(self.count)
