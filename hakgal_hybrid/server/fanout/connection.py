"""Connection: one stream's detached socket, and the bytes that it has not taken yet."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from ...broker.states import StreamEnd
from ...broker.stream import SubscriberStream
from ...settings import Settings

#: How many bytes the kernel may hold for one slow client. By default it would take megabytes before it is full.
SEND_BUFFER = 256 * 1024
_WRITE = 2

clock = time.monotonic


class Connection(socket.SocketType):
    """One detached socket and the stream it carries.

    It is a socket, instead of having one: with a thousand clients nothing is in the processor's caches when an event
    comes, so each object that the writer touches for a client costs time.

    :param fileno: the socket's descriptor.
    :param stream: the stream.
    :ivar pending: what the socket has not taken yet; never anything while the stream is live.
    :ivar progress_at: when it last took a byte (monotonic seconds).
    :ivar end: why the stream ends, once its last bytes are on their way.
    :ivar watcher: the loop's watcher for room in the socket, once it was needed.
    """

    __slots__ = ("end", "pending", "progress_at", "stream", "watcher")

    def __init__(self, fileno: int, stream: SubscriberStream) -> None:
        super().__init__(fileno=fileno)
        self.stream = stream
        self.pending: memoryview | None = None
        self.progress_at = clock()
        self.end: StreamEnd | None = None
        self.watcher: Any = None

    def prepare(self, settings: Settings) -> None:
        """Set the socket's options. Some systems refuse that once the peer is gone.

        :param settings: the settings.
        :raises OSError: if the system refuses it.
        """
        self.setblocking(False)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.limit_retries(settings.stall_s)

    def limit_retries(self, seconds: float) -> None:
        """Have the kernel give up a peer that acknowledges nothing, where the system lets us set the time.

        It gives up one that reads, but so slowly that what is next does not fit its window, as well: a client that has
        fallen behind is to be judged by what it takes, and by the kernel much later.

        :param seconds: for how long it tries.
        """
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))

    def write(self, data: bytes) -> bool:
        """Hand bytes to the socket, after those that it has not taken yet.

        :param data: the bytes.
        :return: true if it took all; what it did not take is ``pending``.
        :raises OSError: if the connection is lost.
        """
        if self.pending is not None:
            self.pending = memoryview(bytes(self.pending) + data)
            return False
        try:
            taken = self.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        self.progress_at = clock()  # either it took a byte, or from now on it is waited for
        if taken < len(data):
            self.pending = memoryview(data)[taken:]
        return self.pending is None

    def flush(self) -> bool:
        """Hand the socket what it has not taken yet.

        :return: true if nothing is left.
        :raises OSError: if the connection is lost.
        """
        if self.pending is None:
            return True
        try:
            taken = self.send(self.pending)
        except (BlockingIOError, InterruptedError):
            return False
        self.progress_at = clock()
        self.pending = self.pending[taken:] if taken < len(self.pending) else None
        return self.pending is None

    def await_room(self, loop: Any, call: Callable[[Connection], None], settings: Settings) -> None:
        """Have a function called when the socket can take more.

        :param loop: the loop that watches it.
        :param call: the function; it is called with this connection until :meth:`stop_waiting`.
        :param settings: the settings.
        """
        if self.watcher is None:
            self.limit_retries(10 * settings.stall_s)
            self.watcher = loop.io(self.fileno(), _WRITE)
        if not self.watcher.active:
            self.watcher.start(call, self)

    def stop_waiting(self) -> None:
        """End what :meth:`await_room` began."""
        if self.watcher is not None:
            self.watcher.stop()

    def close(self) -> None:
        """Close the socket; what it has not taken is lost."""
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
        self.pending = None
        with contextlib.suppress(OSError):  # the peer is gone
            self.shutdown(socket.SHUT_RDWR)  # a child that was forked meanwhile may hold it, too
        super().close()


def why_lost(error: OSError) -> StreamEnd:
    """Return why a stream ends whose socket fails. The kernel, too, gives up a client that takes nothing for too long.

    :param error: what the socket said.
    :return: the reason.
    """
    return StreamEnd.STALLED if error.errno == errno.ETIMEDOUT else StreamEnd.GONE


class SwitchInterval:
    """Has Python switch threads more often while streams are open: a send must not wait for a busy handler.

    :param wanted_s: the interval while streams are open, in seconds.
    """

    def __init__(self, wanted_s: float) -> None:
        self._wanted_s = wanted_s
        self._before: float | None = None

    def adjust(self, streams: int) -> None:
        """Set the interval, or set it back once there is no stream.

        :param streams: how many streams are open.
        """
        if streams and self._before is None and self._wanted_s < sys.getswitchinterval():
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(self._wanted_s)
        elif not streams and self._before is not None:
            sys.setswitchinterval(self._before)
            self._before = None
