"""What a WebSocket reads from and writes to: a connection that is bounded in both directions.

flask-sock's connection has a thread that reads, parses and answers pings. By itself, it ignores that a slow client's
socket may take only a part of a frame, waits for such a client without limit, and keeps any number of messages. So it
is given a :class:`Channel` in place of its socket and an :class:`Inbox` in place of its list.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ...settings import Settings

#: How many messages of one client may wait to be carried out (and at most one message's size of bytes).
MAX_WAITING = 64
#: What the kernel may hold for one slow client (bytes), as for streams.
SEND_BUFFER = 256 * 1024
#: How long the other side may take to answer our close, or to read it (seconds).
CLOSE_TIMEOUT_S = 1.0

_PIECE = 4096

clock = time.monotonic


class Channel:
    """Stands in for a connection's socket: each frame goes out as a whole, or no other follows it.

    The server closes the socket when the request has ended. Here it is only shut down: if it were closed while a thread
    still uses it, its descriptor could belong to another connection by then.

    :param sock: the socket.
    :param settings: how long a client that takes nothing is waited for.
    :param stopping: returns true once every stream shall end.
    :ivar answered: true once anything was sent.
    :ivar ended: set when nothing is read any more.
    :ivar fault: the reason for which a client was given up: ``stalled`` or ``stopped``.
    :ivar until: the clock's reading by which everything must be sent.
    """

    def __init__(self, sock: Any, settings: Settings, stopping: Callable[[], bool]) -> None:
        self.answered = False
        self.ended = threading.Event()
        self.fault = ""
        self.until = float("inf")
        self._sock, self._settings, self._stopping = sock, settings, stopping
        self._sending = threading.Lock()
        self._listening = threading.Event()
        self._over = False
        self._on_end: Callable[[], None] = lambda: None

    def listen(self, on_end: Callable[[], None]) -> None:
        """Begin to read, and to apply the time limits; called after the handshake.

        :param on_end: called when nothing more will come, in the thread that reads.
        """
        # No thread waits longer than this before it checks the limits again.
        self._sock.settimeout(min(self._settings.stall_s / 4, 1.0))
        _tune(self._sock, self._settings.stall_s)
        self._on_end = on_end
        self._listening.set()

    def hurry(self) -> None:
        """Limit the time for sending the rest to ``HYBRID_DRAIN_S`` from now. A second call does not extend it."""
        self.until = min(self.until, clock() + self._settings.drain_s)

    def cut(self) -> None:
        """End both directions now."""
        self._over = True
        self._listening.set()
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client was faster
            pass

    # -- what simple-websocket calls -------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Send all of some data, as long as the client takes some of it now and then.

        :param data: the data.
        :return: how many bytes were sent: all.
        :raises OSError: if the client takes nothing for too long, or is gone.
        """
        self.answered = True
        with self._sending:
            view, progress_at = memoryview(data), clock()
            while view:
                taken = self._offer(view)
                if taken:
                    view, progress_at = view[taken:], clock()
                if view:
                    self._check_time_limits(progress_at)
        return len(data)

    def _offer(self, view: memoryview) -> int:
        try:
            return int(self._sock.send(view))
        except TimeoutError as error:
            if error.errno is not None:  # the kernel has given up: the client has vanished
                raise
            return 0

    def _check_time_limits(self, progress_at: float) -> None:
        if self._stopping():
            self.hurry()
        if clock() - progress_at > self._settings.stall_s:
            self._give_up("stalled")
        if clock() > self.until:
            self._give_up("stopped")

    def _give_up(self, fault: str) -> None:
        self.fault = fault
        self.cut()
        raise BrokenPipeError(fault)

    def recv(self, size: int) -> bytes:
        """Return what has come, once the connection is accepted; nothing at the end.

        :param size: how many bytes at most.
        """
        self._listening.wait()
        while not self._over:
            try:
                return bytes(self._sock.recv(min(size, _PIECE)))
            except TimeoutError as error:
                if error.errno is not None:
                    raise
        return b""

    def close(self) -> None:
        """Stop reading. A client that still sends gets a moment to read what was sent to it last."""
        self.ended.set()
        self._on_end()
        try:
            self._sock.shutdown(socket.SHUT_WR)
            ends = clock() + CLOSE_TIMEOUT_S
            while clock() < ends and self._sock.recv(_PIECE * 16):
                pass
        except OSError:
            pass


def _tune(sock: Any, stall_s: float) -> None:
    """Have the kernel send small frames at once, hold little for a slow client, and notice one that has vanished."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
               (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        # Longer than a client is waited for that is there but does not read.
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_s * 2000)))
    for option in options:
        try:
            sock.setsockopt(*option)
        except OSError:  # a Unix socket, say
            pass


class Inbox:
    """Holds what has come and waits to be carried out: the list that simple-websocket appends to, with a bound.

    When it is full nothing more is read, so that the client's own sends have to wait.

    :param max_bytes: how many bytes of messages may wait.
    :ivar busy: true while a message is being carried out.
    """

    def __init__(self, max_bytes: int) -> None:
        self.busy = False
        self._max_bytes = max_bytes
        self._messages: deque[str | bytes] = deque()
        self._size = 0
        self._finished = self._closed = False
        self._changed = threading.Condition()

    def append(self, message: str | bytes) -> None:
        """Add a message; wait for room first.

        :param message: the message, as it came.
        """
        with self._changed:
            if not self._has_room(message):
                self._changed.wait_for(lambda: self._closed or self._has_room(message))
            if not self._closed:
                self._messages.append(message)
                self._size += len(message)
                self._changed.notify_all()

    def _has_room(self, message: str | bytes) -> bool:
        return not self._messages or (len(self._messages) < MAX_WAITING
                                      and self._size + len(message) <= self._max_bytes)

    def take(self) -> str | bytes | None:
        """Wait for a message, which is then being carried out; ``None`` once there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._finished)
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._size -= len(message)
            self.busy = True
            self._changed.notify_all()
            return message

    def done(self) -> None:
        """What was taken has been carried out."""
        with self._changed:
            self.busy = False
            self._changed.notify_all()

    def finish(self) -> None:
        """No more will come; what waits is still carried out."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def drained(self, seconds: float) -> bool:
        """Wait until all has been carried out.

        :param seconds: how long to wait at most.
        :return: true if all was carried out in time.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._messages and not self.busy, seconds)

    def close(self) -> None:
        """Nothing is carried out any more."""
        with self._changed:
            self._closed = self._finished = True
            self._messages.clear()
            self._changed.notify_all()
