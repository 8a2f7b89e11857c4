"""Connection: one stream's detached socket, and what goes with it."""

from __future__ import annotations

import errno
import socket
import sys
import time
from typing import Any

from ...broker.stream import SubscriberStream
from ...settings import Settings

#: What the kernel may hold for one slow client (bytes): left to itself it takes megabytes before it pushes back.
SEND_BUFFER = 256 * 1024

clock = time.monotonic


class Connection(socket.SocketType):
    """One detached socket and the feed it carries.

    It is the socket, and does not hold one: of a thousand clients nothing is in the processor's caches when an event
    comes, so a writer that goes through all of them pays for every object it has to look at.

    :ivar pending: what the socket has not taken yet. :ivar progress_at: when it last took a byte.
    :ivar leaving: why it ends, once its last bytes are on their way; the socket is closed when they are out.
    """

    __slots__ = ("feed", "leaving", "pending", "progress_at", "writer")

    def __init__(self, fileno: int, feed: SubscriberStream) -> None:
        super().__init__(fileno=fileno)
        self.feed = feed
        self.pending: memoryview | None = None
        self.progress_at = clock()
        self.leaving = ""
        self.writer: Any = None

    def prepare(self, settings: Settings) -> None:
        """Set the socket's options. Some systems refuse that once the peer is gone."""
        self.setblocking(False)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.have_kernel_wait(settings.stall_s)

    def have_kernel_wait(self, seconds: float) -> None:
        """Have the kernel notice a peer that vanished without a word, where it can be told how long to try.

        It gives up one that reads, but so slowly that what is next does not fit its window, as well: whoever has fallen
        behind is to be judged by what it takes, and by the kernel much later.
        """
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def why_lost(error: OSError) -> str:
    """Return why a stream ends whose socket fails; the kernel, too, gives up whoever takes nothing for so long."""
    return "stalled" if error.errno == errno.ETIMEDOUT else "gone"


class SwitchInterval:
    """Has Python switch threads more often while streams are open: a send must not wait for a busy handler."""

    def __init__(self, wanted_s: float) -> None:
        self._wanted_s = wanted_s
        self._before: float | None = None

    def adjust(self, streams: int) -> None:
        """Set the interval, or back to what it was once there is no stream."""
        if streams and self._before is None and self._wanted_s < sys.getswitchinterval():
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(self._wanted_s)
        elif not streams and self._before is not None:
            sys.setswitchinterval(self._before)
            self._before = None
